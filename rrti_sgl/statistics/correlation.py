"""Rank correlations of many weightings of the same tokens at once, from counts in bins of both ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.records import FloatArray, IntArray

RANK_BINS = 32


def rank_bins(ranks: FloatArray) -> IntArray:
    """(N,) of `RANK_BINS` bins of about as many values each, of average ranks (N,); equal values are in one."""
    return ((ranks - 0.5) * (RANK_BINS / len(ranks))).astype(np.int32)


def spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Spearman's coefficient, that of Pearson, of average ranks (N,) and (N,); None where all are equal."""
    middle = (len(x) + 1) / 2
    x, y = x - middle, y - middle
    scale = float(np.sqrt(np.dot(x, x)) * np.sqrt(np.dot(y, y)))
    return float(np.dot(x, y)) / scale if scale else None


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
