"""Estimates over problems and tokens: intervals, pass@k, concentration, recovery.

Samples of one problem are not independent, so intervals resample problems, never samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray

_CHUNK = 1 << 22  # resampled indices held at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its percentile-bootstrap interval at `level`."""

    estimate: float
    low: float
    high: float
    level: float


def bootstrap_interval(values_by_problem: ArrayLike, seed: int, n: int = 2000, level: float = 0.95) -> Interval:
    """The mean over problems, (P,) one value a problem or (P, S) one a sample, resampling problems `n` times.

    Raises:
        UsageError: no problems, values that are no finite numbers, n below 1 or a level outside (0, 1).
    """
    values = _finite(values_by_problem, "values_by_problem")
    if n < 1 or not 0 < level < 1:
        raise UsageError(f"n = {n} or level = {level} is out of range.", "Use n >= 1 and a level between 0 and 1.")
    by_problem = values.reshape(len(values), -1).mean(axis=1)
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // len(by_problem))
    means = [
        by_problem[rng.integers(0, len(by_problem), (min(size, n - done), len(by_problem)))].mean(axis=1)
        for done in range(0, n, size)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(by_problem.mean()), float(low), float(high), level)


def share_interval(values_by_problem: ArrayLike, seed: int, n: int = 2000, level: float = 0.95) -> Interval:
    """`bootstrap_interval` of a share in [0, 1] that stays honest at the ends.

    Where all P problems agree on 0 or on 1, resampling them shows no spread; the interval then takes the exact binomial
    bound (Clopper and Pearson 1934): the share p with p^P = (1 - level) / 2 for all right, mirrored for all wrong.
    """
    interval = bootstrap_interval(values_by_problem, seed, n, level)
    bound = ((1 - level) / 2) ** (1 / len(np.asarray(values_by_problem)))
    if interval.low == interval.high == 1.0:
        return replace(interval, low=bound)
    if interval.low == interval.high == 0.0:
        return replace(interval, high=1.0 - bound)
    return interval


def paired_bootstrap_difference(a: ArrayLike, b: ArrayLike, seed: int, n: int = 2000, level: float = 0.95) -> Interval:
    """Mean of a - b over the same problems in the same order, each (P,) or (P, S): both are resampled together."""
    first, second = _finite(a, "a"), _finite(b, "b")
    if len(first) != len(second):
        raise UsageError(f"a has {len(first)} problems and b {len(second)}.", "Pair them on the problems they share.")
    means = [values.reshape(len(values), -1).mean(axis=1) for values in (first, second)]
    return bootstrap_interval(means[0] - means[1], seed, n, level)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> FloatArray:
    """Unbiased pass@k of each problem, 1 - C(n - c, k) / C(n, k), from c right among n samples; shapes broadcast.

    Source: Chen et al. 2021, arXiv 2107.03374, equation 1.

    Raises:
        UsageError: not 1 <= k <= n or not 0 <= c <= n.
    """
    samples, right = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(c, dtype=np.float64))
    if k < 1 or (samples < k).any():
        raise UsageError(f"k = {k} of pass@k must lie in 1..n, n >= {samples.min():g} here.", "Draw more samples.")
    if (right < 0).any() or (right > samples).any():
        raise UsageError("a number of right samples lies outside 0..n.", "Count right samples of each problem.")
    all_wrong = np.ones(samples.shape)
    for drawn in range(k):
        all_wrong = all_wrong * np.maximum(0.0, samples - right - drawn) / (samples - drawn)
    return 1.0 - all_wrong


def gini(values: ArrayLike) -> float:
    """Gini coefficient of non-negative values, in [0, 1): 0 if all are equal, near 1 if one carries everything.

    Raises:
        UsageError: no values, negative or non-finite ones, or a total of 0.
    """
    ascending = np.sort(_masses(values))
    ranks = np.arange(1, ascending.size + 1)
    return float(((2 * ranks - ascending.size - 1) * ascending).sum() / (ascending.size * ascending.sum()))


def share_of_tokens_carrying(values: ArrayLike, share: float) -> float:
    """The smallest share of tokens, largest values first, that carries `share` of the total; errors as for `gini`."""
    if not 0 < share <= 1:
        raise UsageError(f"share = {share} is no share of the total.", "Give a number above 0 and at most 1.")
    carried = np.cumsum(np.sort(_masses(values))[::-1])
    enough = carried >= share * carried[-1] * (1 - 1e-12)  # equal sums in another order differ by rounding
    return float((np.argmax(enough) + 1) / carried.size)


def recovery(guided: float | None, base: float | None, reasoning: float | None) -> float | None:
    """(guided - base) / (reasoning - base), 1 = the whole gap; None if any of them is None or NaN.

    Raises:
        UsageError: base and reasoning are equal, so that there is no gap.
    """
    if guided is None or base is None or reasoning is None or any(map(math.isnan, (guided, base, reasoning))):
        return None
    if reasoning == base:
        raise UsageError(
            f"recovery is undefined: base and reasoning are both at {base}.", "Use problems on which the two differ."
        )
    return (guided - base) / (reasoning - base)


def _finite(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or array.ndim == 0:
        raise UsageError(f"{name} is empty.", "Give at least one value.")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds NaN or infinite values.", "Leave out what was not computed.")
    return array


def _masses(values: ArrayLike) -> FloatArray:
    array: FloatArray = _finite(values, "values").ravel()
    if (array < 0).any() or array.sum() == 0:
        raise UsageError("values must not be negative, nor all 0.", "Use scores that are divergences or entropies.")
    return array
