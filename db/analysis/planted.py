"""Planted: whether disagreement finds the decision points that a world has planted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.notes import constant_note, top_note
from rrti_sgl.db.analysis.parameters import shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.token_values import Block, TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.statistics.ranking import Ranking
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.roc import quality_bounds, quality_of, ranking_quality

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
    ranking, n_tokens = tokens.ranking(metric), len(tokens)
    of_planted = Ranking.of_parts(np.sort(block[metric][block["planted"] > 0]) for block in tokens.blocks(metric, "planted"))
    auroc, average = quality_of(ranking, of_planted)
    about = {"metric": metric, "n_tokens": n_tokens, "n_planted": of_planted.n}
    first = {"part": "ranking", **about, "auroc": _or_none(auroc[0]), "average_precision": _or_none(average[0])}
    first["note"] = constant_note(metric, is_constant=ranking.is_constant)
    inside = _inside(tokens, metric, [ranking.threshold(p) for p in ps])
    rows = [first]
    for p, counts in zip(ps, inside, strict=True):
        n, found = (int(each) for each in counts.sum(axis=0))
        quality = _quality(n, found, of_planted.n)
        note = top_note(quality["n_top"], n_tokens, p, metric)
        rows.append({"part": "top", **about, "p": p, **quality, "note": note})
    if bootstrap is None:
        return rows
    scores = tokens.resampled(metric, bootstrap)
    hits = scores.by_problem(_planted(tokens, metric))
    binned = ranking_quality(*(each.sum(axis=0)[None] for each in (scores.counts, hits)))
    resampled = ranking_quality(bootstrap.sums(scores.counts), bootstrap.sums(hits))
    auroc_of, average_of = (
        np.clip(each + exact - estimate, 0.0, 1.0)
        for each, exact, estimate in zip(resampled, (auroc, average), binned, strict=True)
    )
    wanted = hits.sum(axis=1, keepdims=True)
    others = scores.counts.sum(axis=1) - wanted[:, 0]
    bounds = quality_bounds(bootstrap, (auroc, average), (auroc_of, average_of), wanted[:, 0], others)
    first |= named("auroc", bounds[0]) | named("average_precision", bounds[1])
    for row, p, counts in zip(rows[1:], ps, inside, strict=True):
        top = scores.top(p)
        n_each, found_each = counts[:, :1], counts[:, 1:]
        every = (
            (problem, each, np.zeros(len(each), np.int64), planted) for problem, each, planted in _planted(tokens, metric)
        )
        n_of, found_of = top.n[:, None], top.having(every, 1)
        wanted_of = bootstrap.sums(wanted)
        row |= named("precision", bootstrap.shares(found_each, n_each, resampled=(found_of, n_of)))
        row |= named("recall", bootstrap.shares(found_each, wanted, resampled=(found_of, wanted_of)))
        either = (2 * found_of, n_of + wanted_of)
        row |= named("f1", bootstrap.shares(2 * found_each, n_each + wanted, resampled=either))
    return rows


def _planted(tokens: TokenValues, metric: str) -> Iterator[tuple[IntArray, FloatArray, BoolArray]]:
    """In parts, of each token its problem, its metric, and whether it is planted."""
    return ((block.problem, block[metric], block["planted"] > 0) for block in tokens.blocks(metric, "planted"))


def _inside(tokens: TokenValues, metric: str, thresholds: Sequence[float]) -> list[FloatArray]:
    """For each threshold (P, 2) tokens of each problem that reach it, and planted ones among them, in one pass."""
    width = len(thresholds) + 1

    def codes(block: Block) -> tuple[IntArray, None]:
        reached = np.count_nonzero([block[metric] >= threshold for threshold in thresholds], axis=0)
        return reached + width * (block["planted"] > 0), None

    counts = tokens.sums(2 * width, codes, metric, "planted").reshape(-1, 2, width)
    found = []
    for threshold in thresholds:
        of_set = counts[:, :, sum(other < threshold for other in thresholds) + 1 :].sum(axis=2)
        found.append(np.stack([of_set.sum(axis=1), of_set[:, 1]], axis=1))
    return found


def _quality(n: int, found: int, wanted: int) -> dict[str, Any]:
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
