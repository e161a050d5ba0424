"""Estimates over samples of problems."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray


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
