"""How well a number detects positives, for many weightings of the same cases at once: AUROC and average precision.

Values are (N,), labels (N,) and weights (B, N), the number of times that each resample holds each case. Ties are exact: a
tied pair counts half in AUROC, and tied cases enter the precision-recall curve together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import BoolArray, FloatArray

# Weights of some resamples at a time: all of them at once would be several arrays of B times N.
BLOCK = 1 << 20


def weighted_detection(values: ArrayLike, positive: ArrayLike, weights: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """(B,) AUROC and (B,) average precision of each weighting; NaN where a weighting lacks positives or negatives.

    AUROC is the probability that a positive has a larger value than a negative (Mann-Whitney); average precision is the sum
    of (R_i - R_(i-1)) P_i over the distinct values in descending order, as in scikit-learn.
    """
    found, labels = np.asarray(values, dtype=np.float64), np.asarray(positive, dtype=bool)
    drawn = np.asarray(weights, dtype=np.float64)
    order = np.argsort(-found, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(found[order]) != 0])
    rows = max(1, BLOCK // max(1, len(found)))
    blocks = [_in_order(drawn[i : i + rows, order], labels[order], starts) for i in range(0, len(drawn), rows)]
    auroc, average = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return auroc, average


def _in_order(drawn: FloatArray, labels: BoolArray, starts: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """Both of cases in descending order: weights (B, N), labels (N,), and where each distinct value starts."""
    tied = np.add.reduceat(drawn, starts, axis=1)
    hits = np.add.reduceat(drawn * labels, starts, axis=1)
    flagged, caught = np.cumsum(tied, axis=1), np.cumsum(hits, axis=1)
    positives, cases = caught[:, -1], flagged[:, -1]
    negatives_below = (cases - positives)[:, None] - (flagged - caught)
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = (hits * (negatives_below + (tied - hits) / 2)).sum(axis=1) / (positives * (cases - positives))
        precision = np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)
        average = (hits * precision).sum(axis=1) / positives
    return auroc, average
