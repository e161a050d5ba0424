"""Rank correlations of many weightings of the same tokens at once, from counts in bins of both ranks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.blocks import problem_sums
from rrti_sgl.statistics.ranking import Places

RANK_BINS = 32
# In parts: for each token a number of its problem, and twice its average rank by two scores.
Ranked = Iterable[tuple[Places, Places, Places]]


def spearman(n: int, ranked: Ranked) -> float | None:
    """Spearman's coefficient, that of Pearson, of average ranks of n tokens; None where all of them are equal."""
    products = np.zeros(3)
    for _, x, y in ranked:
        a, b = (each - (n + 1.0) for each in (x, y))
        products += np.dot(a, b), np.dot(a, a), np.dot(b, b)
    scale = float(np.sqrt(products[1]) * np.sqrt(products[2]))
    return float(products[0]) / scale if scale else None


def rank_counts(n: int, ranked: Ranked, n_problems: int) -> FloatArray:
    """(P, bins of x, bins of y) tokens, of n in all, in `RANK_BINS` bins a side of about as many values each.

    Equal values are in one bin.
    """

    def bins(twice_ranks: Places) -> Places:
        return ((twice_ranks - 1) * (RANK_BINS / n / 2)).astype(np.intp)

    parts = ((problem, bins(x) * RANK_BINS + bins(y), None) for problem, x, y in ranked)
    return problem_sums(parts, n_problems, RANK_BINS**2).reshape(-1, RANK_BINS, RANK_BINS)


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
