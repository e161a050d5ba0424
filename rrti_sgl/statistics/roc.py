"""How well a number detects positives, for many weightings of the same cases at once: AUROC and average precision."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.ranking import Ranking
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap

Quality = tuple[FloatArray, FloatArray]
_CELLS = 1 << 18  # of the weightings and classes of which several arrays are made at a time


def ranking_quality(cases: FloatArray, hits: FloatArray) -> Quality:
    """(B,) AUROC and (B,) average precision of B weightings; NaN where one lacks positives or negatives.

    AUROC is the probability that a positive has a larger value than a negative, equal ones counting half (Mann-Whitney).
    Average precision is the sum of (R_i - R_(i-1)) P_i over the distinct values, largest first, as in scikit-learn.

    Args:
        cases: (B, C) weight of the cases in each of C classes of equal values, the largest first.
        hits: (B, C) of them, positives.
    """
    block = max(1, _CELLS // len(cases))
    return quality_of_parts(
        ((cases[:, first : first + block], hits[:, first : first + block]) for first in range(0, cases.shape[1], block)),
        hits.sum(axis=1),
        cases.sum(axis=1),
    )


def quality_of_parts(parts: Iterable[Quality], positives: FloatArray, total: FloatArray) -> Quality:
    """`ranking_quality` of classes that come in parts, where `positives` and `total` are (B,) weights of all of them."""
    negatives = total - positives
    flagged, caught, above, precise = np.zeros((4, len(total), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        for some, right in parts:
            up_to, of_them = flagged + np.cumsum(some, axis=1), caught + np.cumsum(right, axis=1)
            below = negatives[:, None] - (up_to - of_them)
            above += (right * (below + (some - right) / 2)).sum(axis=1, keepdims=True)
            precision = np.divide(of_them, up_to, out=np.zeros_like(up_to), where=up_to > 0)
            precise += (right * precision).sum(axis=1, keepdims=True)
            flagged, caught = up_to[:, -1:], of_them[:, -1:]
        return above[:, 0] / (positives * negatives), precise[:, 0] / positives


def quality_of(every: Ranking, positive: Ranking) -> Quality:
    """(1,) AUROC and (1,) average precision of cases, of which those in a second ranking are the positives."""
    parts = (
        (counts[None].astype(np.float64), positive.counts_of(values[::-1])[None, ::-1].astype(np.float64))
        for values, counts, _ in every.descending()
    )
    return quality_of_parts(parts, np.array([float(positive.n)]), np.array([float(every.n)]))


def quality_bounds(
    bootstrap: ProblemBootstrap, found: Quality, resampled: Quality, positives: FloatArray, negatives: FloatArray
) -> tuple[Bounds, Bounds]:
    """The intervals of AUROC and average precision.

    Both are shares: of the cases of the rarer kind, that part of the other kind which each is on the right side of; of the
    positives, the precision down to each. The imaginary trial is one more of them, on the wrong (right) side of all.

    Args:
        bootstrap: of P problems.
        found: (1,) AUROC and average precision.
        resampled: (B,) likewise, of each resample.
        positives, negatives: (P,) cases of each problem.
    """
    rarer = positives if positives.sum() <= negatives.sum() else negatives
    bounds = []
    for estimate, replicates, trials in zip(found, resampled, (rarer, positives), strict=True):
        weights = bootstrap.sums(trials[:, None])
        hits = (estimate * trials)[:, None]
        bounds.append(bootstrap.shares(hits, trials[:, None], resampled=(replicates[:, None] * weights, weights)))
    return bounds[0], bounds[1]
