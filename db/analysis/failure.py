"""Failure: whether large disagreement predicts that the final answer is wrong. A resample weights problems, all samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.notes import constant_note
from rrti_sgl.db.analysis.parameters import counts, metrics
from rrti_sgl.db.analysis.query import Query, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap, group_sums
from rrti_sgl.statistics.roc import quality_bounds, ranking_quality

ABOUT = """\
Does large disagreement predict that the final answer is wrong?
Definitions: a sample's predictor is the mean of its K largest values (of all, when it has fewer), in nats for ce, kl and
  entropies; predictor length is its number of tokens, top_k NULL. auroc: probability that a wrong sample has a larger
  predictor than a right one, ties counting half (Mann-Whitney, average ranks). average_precision: area under the
  precision-recall curve for wrong samples, sum (R_i - R_(i-1)) P_i over the distinct values in descending order; a
  predictor that says nothing has n_wrong / n_samples. Samples without a grade or without a value are left out.
Paper: mean of a sample's 100 largest scores predicts failure; the same with base entropy (diagnosis, failure).
Parameters: $runs run ids; $metric columns of tokens; $top_k the values of K above
"""
_ESTIMATES = ("auroc", "average_precision")
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "predictor": pa.string(), "top_k": pa.int32()},
        **{"with_k": pa.float64(), "n_samples": pa.int64(), "n_wrong": pa.int64()},
        **dict.fromkeys(_ESTIMATES, pa.float64()),
        "note": pa.string(),
    }
)
# Weights of some resamples at a time: all of them at once would be several arrays of B times the number of samples.
_BLOCK = 1 << 20


def _compute(store: Store, values: Values) -> pa.Table:
    samples = run_sql(store, "_failure_samples", values)
    columns: dict[str, Any] = {name: samples[name].to_numpy(zero_copy_only=False) for name in samples.column_names}
    top_k = np.nan_to_num(columns["top_k"].astype(np.float64))
    rows = []
    for place, run in enumerate(values["runs"]):
        of_run = columns["run"] == place
        bootstrap = bootstrap_of(int(columns["problem"][of_run].max()) + 1, values)
        for predictor in dict.fromkeys((values["metric"], "entropy_base", "length")):
            for k in [0] if predictor == "length" else values["top_k"]:
                chosen = of_run & (columns["predictor"] == predictor) & (top_k == k)
                if chosen.any():
                    about: dict[str, Any] = {"run_id": run, "predictor": predictor, "top_k": k or None}
                    about["with_k"] = float(np.mean(columns["has_k"][chosen].astype(np.float64))) if k else None
                    problem, wrong = columns["problem"][chosen], columns["wrong"][chosen].astype(np.bool_)
                    rows.append({**about, **_quality(columns["value"][chosen], problem, wrong, bootstrap)})
    return table_of(rows, _SCHEMA, _ESTIMATES, values)


def _quality(values: FloatArray, problem: Any, wrong: BoolArray, bootstrap: ProblemBootstrap | None) -> dict[str, Any]:
    order = np.argsort(values)[::-1]
    wrong, problem = wrong[order], problem[order]
    starts = np.flatnonzero(np.diff(values[order], prepend=np.inf))
    found = ranking_quality(*(np.add.reduceat(each[None] * 1.0, starts, axis=1) for each in (np.ones(len(wrong)), wrong)))
    estimates = {name: None if np.isnan(each[0]) else float(each[0]) for name, each in zip(_ESTIMATES, found, strict=True)}
    row: dict[str, Any] = {"n_samples": len(wrong), "n_wrong": int(np.count_nonzero(wrong)), **estimates}
    row["note"] = constant_note("the predictor", is_constant=len(starts) == 1)
    if bootstrap is None or estimates["auroc"] is None:
        return row
    size = max(1, _BLOCK // len(order))
    parts = []
    for first in range(0, bootstrap.n, size):
        weights = bootstrap.weights[first : first + size, problem]
        parts.append(ranking_quality(*(np.add.reduceat(each, starts, axis=1) for each in (weights, weights * wrong))))
    auroc, average = (np.concatenate(each) for each in zip(*parts, strict=True))
    kinds = (group_sums(mask, problem, bootstrap.n_problems) for mask in (wrong, ~wrong))
    bounds: tuple[Bounds, Bounds] = quality_bounds(bootstrap, found, (auroc, average), *kinds)
    return row | named("auroc", bounds[0]) | named("average_precision", bounds[1])


QUERY = Query(
    "failure",
    {"metric": metrics("ce", "reverse_kl", "js"), "top_k": counts(100)},
    needs=("metric", "entropy_base", "both"),
    undefined={"auroc": "all samples with a value are right, or all are wrong"},
    about=ABOUT,
    compute=_compute,
)
