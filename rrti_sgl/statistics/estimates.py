"""Estimates over samples of problems."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray

NORMAL_975 = 1.959963984540054


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


def difference_of_shares(x: int, n: int, y: int, m: int) -> tuple[float, float]:
    """95 % interval of x / n - y / m, two independent shares: one success and one failure are added to each.

    Source: Agresti and Caffo 2000, The American Statistician 54(4). It lies around the difference of the shares so changed.

    Raises:
        UsageError: not 0 <= x <= n, 0 <= y <= m, n and m at least 1.
    """
    if not (0 <= x <= n and 0 <= y <= m and min(n, m) > 0):
        raise UsageError(f"{x} of {n} and {y} of {m} are no shares.", "Count successes of at least one trial each.")
    first, second = (x + 1) / (n + 2), (y + 1) / (m + 2)
    reach = NORMAL_975 * math.sqrt(first * (1 - first) / (n + 2) + second * (1 - second) / (m + 2))
    return max(-1.0, first - second - reach), min(1.0, first - second + reach)
