"""Bootstrap over problems for any statistic, from what each problem contributes to it.

Tokens of one problem are not independent, nor are its samples, so a resample draws problems. A statistic that is a function
of sums over problems (means, ratios, histograms) is resampled by one matrix product: resamples times contributions.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics import Interval

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0


class ProblemBootstrap:
    """Resamples of P problems with replacement.

    Two bootstraps of the same number of problems and the same seed draw the same problems: differences between two runs
    whose problems are in the same order are paired.

    Args:
        n_problems: P.
        seed: of the draws.
        n: resamples B.
        level: of the percentile intervals.

    Raises:
        UsageError: no problems, n below 1 or a level outside (0, 1).
    """

    def __init__(self, n_problems: int, *, seed: int = SEED, n: int = RESAMPLES, level: float = LEVEL) -> None:
        if n_problems < 1:
            raise UsageError("There is no problem to resample.", "Name runs with samples.")
        if n < 1 or not 0 < level < 1:
            raise UsageError(f"n = {n} or level = {level} is out of range.", "Use n >= 1 and a level between 0 and 1.")
        self.n_problems, self.seed, self.n, self.level = n_problems, seed, n, level

    @cached_property
    def counts(self) -> FloatArray:
        """(B, P) how often each resample holds each problem."""
        draws = np.random.default_rng(self.seed)
        return draws.multinomial(self.n_problems, np.full(self.n_problems, 1 / self.n_problems), self.n).astype(np.float64)

    def sums(self, contributions: ArrayLike) -> FloatArray:
        """(B, ...) sums over the problems of each resample, of contributions (P, ...)."""
        values = np.asarray(contributions, dtype=np.float64)
        flat: FloatArray = self.counts @ values.reshape(len(values), -1)
        return flat.reshape(self.n, *values.shape[1:])

    def interval(self, estimate: float, replicates: ArrayLike) -> Interval:
        """The percentile interval of replicates (B,); those that are NaN (undefined in a resample) are left out."""
        found = np.asarray(replicates, dtype=np.float64)
        found = found[np.isfinite(found)]
        if not found.size:
            return Interval(estimate, float("nan"), float("nan"), self.level)
        low, high = np.quantile(found, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(estimate, float(low), float(high), self.level)

    def ratio(self, numerators: ArrayLike, denominators: ArrayLike) -> Interval:
        """Sum of numerators (P,) over sum of denominators (P,); a mean over problems has ones below."""
        above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = self.sums(above) / self.sums(below)
            return self.interval(float(above.sum() / below.sum()), replicates)
