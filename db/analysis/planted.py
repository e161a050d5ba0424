"""Planted: whether disagreement finds the decision points that a world has planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.notes import constant_note, top_note
from rrti_sgl.db.analysis.parameters import shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.roc import classes_of, quality_bounds, ranking_quality

ABOUT = """\
Does disagreement find the decision points that a world has planted?
Definitions: over the tokens of a run with a planted flag and the metric; each metric is a detector that ranks them, where
  it has `covered`, its share of the tokens, of $least_coverage or more.
  part ranking: auroc: probability that a planted token has the larger value than one that is not, ties counting half.
  average_precision: sum over distinct values, largest first, of (recall - recall before) * precision; it is the
  definition of scikit-learn, and equal values count as one step.
  part top: of the top-p set, tokens with value >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12
  (ties at the threshold are all in). precision: planted tokens of the set over its size; recall: over all planted ones;
  f1: their harmonic mean. All are shares from 0 to 1; what does not apply to a part is NULL.
  note: what ties made of a top set, or a metric that is the same everywhere.
Paper: not in the paper: ground truth for its claim that disagreement marks decisions (diagnosis).
Parameters: $runs run ids; $ps shares of tokens
"""
_METRICS = tuple(name for name, metric in METRICS.items() if metric.kind != "reasoning")
_RANKING, _TOP = ("average_precision", "auroc"), ("precision", "recall", "f1")
_SCHEMA = pa.schema(
    {
        **{"part": pa.string(), "run_id": pa.string(), "metric": pa.string(), "covered": pa.float64(), "p": pa.float64()},
        **dict.fromkeys(("n_tokens", "n_planted", "n_top"), pa.int64()),
        **dict.fromkeys((*_TOP, *_RANKING), pa.float64()),
        "note": pa.string(),
    }
)


def _check_both_kinds(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Every run has tokens of both kinds, planted and not."""
    for row in run_sql(store, "_planted_counts", values).to_pylist():
        if not row["planted"] or not row["other"]:
            raise UsageError(
                f"Run {row['run_id']} has {row['planted']} planted decision points and {row['other']} other tokens; a "
                f"detector needs both.",
                "Name runs on a world with planted decisions.",
            )
    return values


def _compute(store: Store, values: Values) -> pa.Table:
    rankings, tops = [], []
    for run in values["runs"]:
        tokens = values["reader"].read(run, [*_METRICS, "planted"])
        bootstrap = bootstrap_of(tokens.n_problems, values)
        for metric in _METRICS:
            chosen = tokens.complete(metric, "planted")
            about = {"run_id": run, "covered": len(tokens.complete(metric)) / len(tokens)}
            if len(chosen) and about["covered"] < values["least_coverage"]:
                rankings.append({**about, "part": "ranking", "metric": metric, "n_tokens": len(chosen)})
            elif len(chosen):
                rows = _detector(chosen, metric, values["ps"], bootstrap)
                rankings.append({**about, **rows[0]})
                tops += [{**about, **row} for row in rows[1:]]
    return table_of([*rankings, *tops], _SCHEMA, (*_TOP, *_RANKING), values)


def _detector(
    tokens: TokenValues, metric: str, ps: Sequence[float], bootstrap: ProblemBootstrap | None
) -> list[dict[str, Any]]:
    """The rows of one metric: its ranking, then each top set."""
    planted = tokens.columns["planted"] > 0
    ranking = tokens.ranking(metric)
    auroc, average = ranking_quality(*(each[None] for each in classes_of(ranking, planted)))
    about = {"metric": metric, "n_tokens": len(planted), "n_planted": int(np.count_nonzero(planted))}
    first = {"part": "ranking", **about, "auroc": _or_none(auroc[0]), "average_precision": _or_none(average[0])}
    first["note"] = constant_note(metric, is_constant=ranking.is_constant)
    rows = [first, *({"part": "top", **about, "p": p, **_quality(tokens.in_top(metric, p), planted)} for p in ps)]
    for row in rows[1:]:
        row["note"] = top_note(row["n_top"], len(planted), row["p"], metric)
    if bootstrap is None:
        return rows
    scores = tokens.resampled(metric, bootstrap)
    cases, hits = scores.by_problem(), scores.by_problem(planted)
    binned = ranking_quality(*(each.sum(axis=0)[None] for each in (cases, hits)))
    resampled = ranking_quality(bootstrap.sums(cases), bootstrap.sums(hits))
    auroc_of, average_of = (
        np.clip(each + exact - estimate, 0.0, 1.0)
        for each, exact, estimate in zip(resampled, (auroc, average), binned, strict=True)
    )
    wanted = tokens.by_problem(planted)
    bounds = quality_bounds(bootstrap, (auroc, average), (auroc_of, average_of), wanted, tokens.by_problem(~planted))
    first |= named("auroc", bounds[0]) | named("average_precision", bounds[1])
    for row, p in zip(rows[1:], ps, strict=True):
        top, inside = scores.top(p), tokens.in_top(metric, p)
        n, found = tokens.by_problem(inside)[:, None], tokens.by_problem(inside & planted)[:, None]
        n_of, found_of = top.n[:, None], top.having(np.where(planted, 0, -1), 1)
        wanted_of = bootstrap.sums(wanted[:, None])
        row |= named("precision", bootstrap.shares(found, n, resampled=(found_of, n_of)))
        row |= named("recall", bootstrap.shares(found, wanted[:, None], resampled=(found_of, wanted_of)))
        either = (2 * found_of, n_of + wanted_of)
        row |= named("f1", bootstrap.shares(2 * found, n + wanted[:, None], resampled=either))
    return rows


def _quality(inside: BoolArray, planted: BoolArray) -> dict[str, Any]:
    n, found, wanted = (int(np.count_nonzero(mask)) for mask in (inside, inside & planted, planted))
    recall = found / wanted if wanted else None
    return {"n_top": n, "precision": found / n, "recall": recall, "f1": 2 * found / (n + wanted)}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


QUERY = Query(
    "planted",
    {"ps": shares(0.01, 0.05, 0.08, 0.1)},
    needs=("planted", "entropy_base"),
    about=ABOUT,
    prepare=_check_both_kinds,
    compute=_compute,
)
