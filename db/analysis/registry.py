"""The statistics in the order of the paper: diagnosis first, then intervention."""

from __future__ import annotations

from collections.abc import Mapping

from rrti_sgl.db.analysis import (
    ablation,
    accuracy,
    budget,
    calibration,
    causality,
    cost,
    failure,
    flips,
    metrics,
    planning,
    planted,
    position,
    sparsity,
    takeovers,
    uncertainty,
)
from rrti_sgl.db.analysis.query import Query

QUERIES: Mapping[str, Query] = {
    module.QUERY.name: module.QUERY
    for module in (
        sparsity,
        position,
        uncertainty,
        planning,
        failure,
        accuracy,
        flips,
        budget,
        ablation,
        calibration,
        takeovers,
        metrics,
        cost,
        planted,
        causality,
    )
}
