"""Rank correlations of many weightings of the same tokens at once, from counts in bins of both ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import FloatArray, IntArray

RANK_BINS = 32
_BLOCK = 1 << 18  # tokens of which several arrays are made at a time


def spearman(x: IntArray, y: IntArray) -> float | None:
    """Spearman's coefficient, that of Pearson, of average ranks, given twice, (N,) and (N,); None where all are equal."""
    products = np.zeros(3)
    for first in range(0, len(x), _BLOCK):
        a, b = (each[first : first + _BLOCK] - (len(x) + 1.0) for each in (x, y))
        products += np.dot(a, b), np.dot(a, a), np.dot(b, b)
    scale = float(np.sqrt(products[1]) * np.sqrt(products[2]))
    return float(products[0]) / scale if scale else None


def rank_counts(x: IntArray, y: IntArray, groups: IntArray, n_groups: int) -> NDArray[np.int64]:
    """(n_groups, bins of x, bins of y) tokens, in `RANK_BINS` bins a side of about as many values each.

    Args:
        x, y: (N,) average ranks, given twice; equal values are in one bin.
        groups: (N,) the group of each token, from 0.
        n_groups: how many groups there are.
    """
    shape = (n_groups, RANK_BINS, RANK_BINS)
    counts = np.zeros(int(np.prod(shape)), dtype=np.int64)
    block = max(_BLOCK, len(counts))  # each adds to all counts
    for first in range(0, len(x), block):
        part = slice(first, first + block)
        bins = (((each[part] - 1) * (RANK_BINS / len(x) / 2)).astype(np.int32) for each in (x, y))
        counts += np.bincount(np.ravel_multi_index((groups[part], *bins), shape), minlength=len(counts))
    return counts.reshape(shape)


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
