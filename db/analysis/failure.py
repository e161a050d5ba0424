"""Failure: whether large disagreement predicts that the final answer is wrong.

A resample draws problems with all their samples. Where every resample detects perfectly (or never), there is no spread to
show; the bound of `ProblemBootstrap.share_interval` is taken then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import counts, metric
from rrti_sgl.db.analysis.query import Query, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.roc import weighted_detection

ESTIMATES = ("auroc", "average_precision")


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    samples = run_sql(store, "_failure_samples", values)
    columns: dict[str, Any] = {name: samples.column(name).to_numpy(zero_copy_only=False) for name in samples.column_names}
    columns["top_k"] = np.nan_to_num(columns["top_k"].astype(np.float64))
    bounds: dict[str, list[tuple[float, float]]] = {name: [] for name in ESTIMATES}
    for row in table.to_pylist():
        mask = columns["run"] == values["runs"].index(row["run_id"])
        bootstrap = ProblemBootstrap(int(columns["problem"][mask].max()) + 1, seed=values["seed"], n=values["resamples"])
        mask &= (columns["predictor"] == row["predictor"]) & (columns["top_k"] == (row["top_k"] or 0))
        weights = bootstrap.counts[:, columns["problem"][mask]]
        replicates = weighted_detection(columns["value"][mask], columns["wrong"][mask], weights)
        for name, found in zip(ESTIMATES, replicates, strict=True):
            interval = bootstrap.share_interval(row[name], found)
            bounds[name].append((interval.low, interval.high))
    for name in ESTIMATES:
        table = insert_interval(table, name, *zip(*bounds[name], strict=True))
    return table


QUERY = Query(
    "failure",
    {"metric": metric(), "top_k": counts(100)},
    needs=("metric", "entropy_base", "both"),
    undefined={"auroc": "all samples with a value are right, or all are wrong"},
    intervals=_add_intervals,
)
