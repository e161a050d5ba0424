"""Bootstrap over problems for any statistic, from what each problem contributes to it.

Tokens of one problem are not independent, nor are its samples, so a resample draws problems. A statistic that is a function
of sums over problems (means, ratios, histograms) is resampled by one matrix product: resamples times contributions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.estimates import Interval

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
        """The percentile interval of replicates (B,); those that are NaN (undefined in a resample) are left out.

        One problem says nothing of how problems differ: the bounds are NaN then, as where no replicate is defined.
        """
        found = np.asarray(replicates, dtype=np.float64)
        found = found[np.isfinite(found)]
        if self.n_problems == 1 or not found.size:
            return Interval(estimate, float("nan"), float("nan"), self.level)
        low, high = np.quantile(found, [(1 - self.level) / 2, (1 + self.level) / 2])
        return Interval(estimate, float(low), float(high), self.level)

    def share_interval(self, estimate: float, replicates: ArrayLike) -> Interval:
        """`interval` of a share in [0, 1] that stays honest at the ends.

        Where every resample has 0, or 1, the interval takes the exact binomial bound of P problems that agree (Clopper and
        Pearson 1934): the share p with p^P = (1 - level) / 2 for all right, mirrored for all wrong.
        """
        interval = self.interval(estimate, replicates)
        bound = ((1 - self.level) / 2) ** (1 / self.n_problems)
        if interval.low == interval.high == 1.0:
            return replace(interval, low=bound)
        if interval.low == interval.high == 0.0:
            return replace(interval, high=1.0 - bound)
        return interval

    def ratio(self, numerators: ArrayLike, denominators: ArrayLike) -> Interval:
        """Sum of numerators (P,) over sum of denominators (P,); a mean over problems has ones below."""
        above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = self.sums(above) / self.sums(below)
            return self.interval(float(above.sum() / below.sum()), replicates)


def group_sums(values: ArrayLike, groups: NDArray[np.integer[Any]], n: int) -> FloatArray:
    """(n,) sums of values (N,) over the members of each of n groups, whose numbers (N,) count from 0."""
    return np.bincount(groups, np.asarray(values, dtype=np.float64), n).astype(np.float64, copy=False)


def binned_spearman(counts: ArrayLike) -> FloatArray:
    """(B,) Spearman coefficients of B tables of counts (B, bins of x, bins of y), ascending, with average ranks.

    Exact where each bin holds one value; with n equally filled bins a side it is short by about 1 / n² of its size. NaN
    where all of x or all of y is in one bin.
    """
    table = np.asarray(counts, dtype=np.float64)
    total = table.sum(axis=(1, 2))
    ranks = []
    for axis in (2, 1):
        margin = table.sum(axis=axis)
        centred = np.cumsum(margin, axis=1) - margin / 2 - total[:, None] / 2
        ranks.append((margin, centred))
    (across, x), (down, y) = ranks
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.einsum("bi,bij,bj->b", x, table, y, optimize=True) / np.sqrt(
            (across * x**2).sum(axis=1) * (down * y**2).sum(axis=1)
        )
    return found
