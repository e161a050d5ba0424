"""Intervals over problems, for any statistic that is a function of sums over problems.

Tokens of one problem are not independent, nor are its samples, so a resample weights whole problems. Its weights are
positive (Rubin's Bayesian bootstrap, 1981): no problem is ever missing, a ratio does not lose its denominator, and every
resample is one row of a matrix product. They spread as far as makes the interval of a mean as wide as Student's t; below
`MIN_PROBLEMS` problems no weights spread that far, and there is no interval.

Resampling alone shows no spread where everything agrees. A share therefore gets one imaginary trial, a failure for its low
end and a success for its high end, with the weight that one more problem has in a resample. Of k right among n problems
that makes the interval of Clopper and Pearson (1934): for 0 of n it ends at 1 - 0.025^(1/n), for all of n it begins at
0.025^(1/n), and more successes never lower an end. Of any numbers in [0, 1] it is the bound of Gaffke (2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
MIN_PROBLEMS = 5
Bounds = tuple[FloatArray, FloatArray]
_TAIL = (1 - LEVEL) / 2
_ROUNDING = 1e-12
_Z = NormalDist().inv_cdf(1 - _TAIL)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the ends of its interval; they are NaN where there is none."""

    estimate: float
    low: float
    high: float


class ProblemBootstrap:
    """Resamples of P problems.

    Two bootstraps of the same number of problems and the same seed draw the same weights: differences between two runs
    whose problems are in the same order are paired.

    Args:
        n_problems: P.
        seed: of the draws.
        n: resamples B.
        exact: weights of plain Bayesian bootstrap, for outcomes of which a whole problem is the trial: with the imaginary
            one their interval holds for any number of problems from 2 on.

    Raises:
        UsageError: no problems, or n below 2.
    """

    def __init__(self, n_problems: int, *, seed: int = SEED, n: int = RESAMPLES, exact: bool = False) -> None:
        if n_problems < 1:
            raise UsageError("There is no problem to resample.", "Name runs with samples.")
        if n < 2:
            raise UsageError(f"{n} resamples have no spread.", "Use at least 2, or 0 for no intervals.")
        self.n_problems, self.n, self.seed, self.exact = n_problems, n, seed, exact

    @property
    def has_spread(self) -> bool:
        """Whether there are problems enough for an interval."""
        return self.n_problems >= (2 if self.exact else MIN_PROBLEMS)

    @property
    def weights(self) -> FloatArray:
        """(B, P) weights, 1 on average in each resample."""
        return self._drawn[0]

    @cached_property
    def _drawn(self) -> tuple[FloatArray, FloatArray]:
        shape = 1.0 if self.exact or not self.has_spread else student_shape(self.n_problems)
        return _draw(self.n_problems, self.n, self.seed, shape)

    def sums(self, contributions: ArrayLike) -> FloatArray:
        """(B, ...) weighted sums over the problems of each resample, of contributions (P, ...)."""
        values = np.asarray(contributions, dtype=np.float64)
        flat: FloatArray = self.weights @ values.reshape(len(values), -1)
        return flat.reshape(self.n, *values.shape[1:])

    def imaginary(self, trials: ArrayLike) -> FloatArray:
        """(B, K) weights of one more problem among those that have trials (P, K).

        Beside m problems of exponential weights one more has the share 1 - (1 - u)^(1/m) of the whole, u uniform.
        """
        there = np.asarray(trials) > 0
        m = np.maximum(there.sum(axis=0), 1)
        odds: FloatArray = (1 - self._drawn[1][:, None]) ** (-1 / m) - 1
        return self.sums(there) * odds

    def percentiles(self, replicates: ArrayLike, highs: ArrayLike | None = None) -> Bounds:
        """The ends (K,) of replicates (B, K).

        NaN where there are too few problems, where nothing varies, and where the statistic is undefined or infinite in more
        resamples than lie outside an interval on one side.

        Args:
            replicates: of which the low end is taken, and the high end as well unless `highs` are given.
            highs: (B, K) of which the high end is taken.
        """
        ends = []
        for values, place in ((replicates, _TAIL), (replicates if highs is None else highs, 1 - _TAIL)):
            found = np.asarray(values, dtype=np.float64)
            undefined = ~np.isfinite(found)
            end = quantile(np.where(undefined, 0.0, found), place)
            if undefined.any():
                # No column is undefined throughout where 0 stands for what is undefined too often.
                often = undefined.mean(axis=0) > _TAIL
                kept = np.where(undefined, np.where(often, 0.0, np.nan), found)
                end = np.where(often, np.nan, np.nanquantile(kept, place, axis=0))
            ends.append(end)
        low, high = ends
        none = ~(high - low > _ROUNDING * np.maximum(np.abs(low), np.abs(high))) | (not self.has_spread)
        return np.where(none, np.nan, low), np.where(none, np.nan, high)

    def share_replicates(
        self, hits: ArrayLike, trials: ArrayLike, *, unit: float = 1.0, resampled: Bounds | None = None
    ) -> Bounds:
        """Replicates (B, K) for the low and for the high end of shares, arguments as for `shares`."""
        x, n = (self.sums(hits), self.sums(trials)) if resampled is None else resampled
        one_more = self.imaginary(trials) * unit
        with np.errstate(divide="ignore", invalid="ignore"):
            return x / (n + one_more), (x + one_more) / (n + one_more)

    def shares(self, hits: ArrayLike, trials: ArrayLike, *, unit: float = 1.0, resampled: Bounds | None = None) -> Bounds:
        """The ends (K,) of shares: sums of hits over sums of trials, 0 <= hits <= trials, with the imaginary trial.

        Args:
            hits: (P, K) of each problem.
            trials: (P, K) likewise.
            unit: what one trial adds to the trials.
            resampled: hits and trials (B, K) of each resample, where they are not the weighted sums: in top sets.

        Returns:
            NaN where there are too few problems, of the run or (unless every trial hits or none does) with trials.
        """
        hits, trials = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
        low, high = self.percentiles(*self.share_replicates(hits, trials, unit=unit, resampled=resampled))
        n_hits, n_trials = hits.sum(axis=0), trials.sum(axis=0)
        at_an_end = (n_hits <= 0) | (n_hits >= n_trials)
        few = (trials > 0).sum(axis=0) < (1 if self.exact else MIN_PROBLEMS)
        none = (n_trials <= 0) | (few & ~at_an_end)
        return np.where(none, np.nan, np.maximum(low, 0.0)), np.where(none, np.nan, np.minimum(high, 1.0))

    def share(self, hits: ArrayLike, trials: ArrayLike, *, unit: float = 1.0) -> Interval:
        """One share with its interval, of hits (P,) and trials (P,) or the same number everywhere; as `shares`."""
        x = np.asarray(hits, dtype=np.float64)
        n = np.broadcast_to(np.asarray(trials, dtype=np.float64), x.shape)
        low, high = self.shares(x[:, None], n[:, None], unit=unit)
        return Interval(float(x.sum() / n.sum()), float(low[0]), float(high[0]))

    def differences(self, gains: ArrayLike, pairs: ArrayLike, *, unit: float = 1.0) -> Bounds:
        """The ends (K,) of mean differences in [-1, 1]: sums of gains over sums of pairs, both (P, K); as `shares`."""
        n = np.asarray(pairs, dtype=np.float64)
        low, high = self.shares((np.asarray(gains) + n) / 2, n, unit=unit)
        return 2 * low - 1, 2 * high - 1

    def parts_of_lead(self, gain: FloatArray, lead: FloatArray, one_more: FloatArray) -> tuple[float, float]:
        """The ends of gain over lead, each (B,), where one imaginary problem gains or loses `one_more` (B,).

        NaN where the interval of the lead, with the imaginary problem, contains 0: then no part of it can be told.
        """
        if max(np.mean(lead > one_more), np.mean(lead < -one_more)) < 1 - _TAIL:
            return float("nan"), float("nan")
        ends = np.sort(np.stack([(gain - one_more) / lead, (gain + one_more) / lead]), axis=0)
        low, high = self.percentiles(*ends)
        return float(low), float(high)


def quantile(values: FloatArray, place: float) -> FloatArray:
    """The quantile (K,) at a place in 0..1 of finite values (B, K): that of `numpy.quantile`, without its detours.

    Statistics ask for thousands of single columns, for which these take five times as long as the partition.
    """
    at = place * (len(values) - 1)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    sorted_there = np.partition(values, (below, above), axis=0)
    low, high, part = sorted_there[below], sorted_there[above], at - below
    step = high - low
    found: FloatArray = low + step * part if part < 0.5 else high - step * (1 - part)
    return found


@lru_cache(maxsize=4)  # the statistics of a report resample the same problems
def _draw(n_problems: int, n: int, seed: int, shape: float) -> tuple[FloatArray, FloatArray]:
    """(B, P) weights, and (B,) places in 0..1 of the imaginary trial's weight in its distribution, evenly spread."""
    draws = np.random.default_rng(seed)
    weights: FloatArray = draws.standard_gamma(shape, (n, n_problems))
    weights /= weights.mean(axis=1, keepdims=True)
    places = np.minimum(draws.permutation(n) / (n - 1), 1 - 0.5 / n)
    for each in (weights, places):
        each.setflags(write=False)
    return weights, places


def student_shape(n_problems: int) -> float:
    """Shape of gamma weights under which the interval of a mean over so many problems is as wide as Student's t.

    Normalised gamma weights of shape a give a mean the variance s² / (n a + 1), s² dividing by n; Student's interval with
    n - 1 degrees of freedom is that of a normal with the variance (t / z)² s² / (n - 1). Its quantile t is taken from the
    expansion of Fisher and Cornish (1960), good to 0.001 from 4 degrees of freedom on.
    """
    z, nu = _Z, n_problems - 1
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
    t += (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * nu**4)
    return float((nu * (z / t) ** 2 - 1) / n_problems)


def group_sums(values: ArrayLike, groups: NDArray[np.integer[Any]], n: int) -> FloatArray:
    """(n,) sums of values (N,) over the members of each of n groups, whose numbers (N,) count from 0."""
    return np.bincount(groups, np.asarray(values, dtype=np.float64), n).astype(np.float64, copy=False)
