"""Planted: whether disagreement finds the decision points that a world has planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import Ratio, bootstrap_of, bounds, insert_ratio_intervals, problems_of
from rrti_sgl.db.analysis.token_values import TokenValues, read_token_values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.ranking import Ranking

_RATIOS = {
    "precision": Ratio("hits", "n", is_share=True),
    "recall": Ratio("hits", "n_planted", is_share=True),
    "f1": Ratio("twice_hits", "n_either"),
}
_RANKINGS = ("average_precision", "auroc")
_METRICS = ("ce", "kl", "reverse_kl", "js", "tv", "entropy_base")
_CLASSES = 256
SCHEMA = pa.schema(
    {
        **{"part": pa.string(), "run_id": pa.string(), "metric": pa.string(), "p": pa.float64()},
        **dict.fromkeys(("n_tokens", "n_planted", "n_top"), pa.int64()),
        **dict.fromkeys(("precision", "recall", "f1", "average_precision", "auroc"), pa.float64()),
    }
)


def ranking_quality(n: FloatArray, hits: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average precision and AUROC (B,) of n tokens and hits among them in classes (B, C), largest values first.

    The tokens of a class count as ties, so both are exact for the classes.
    """
    n_top, hits_top = np.cumsum(n, axis=1), np.cumsum(hits, axis=1)
    misses, misses_top = n - hits, n_top - hits_top
    n_hits, n_misses = hits_top[:, -1], misses_top[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(n_top > 0, hits_top / n_top, 0.0)
        average_precision = (hits * precision).sum(axis=1) / n_hits
        auroc = (hits * (n_misses[:, None] - misses_top + misses / 2)).sum(axis=1) / (n_hits * n_misses)
    return average_precision, auroc


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


@dataclass(frozen=True, eq=False)
class Detector:
    """What one metric finds in one run.

    Attributes:
        ranking, tops: its rows of both parts.
        top_counts: for each top-p set what each problem adds, in long form.
        n, hits: (P, C) tokens, and planted ones, in classes of equal size, largest values first.
    """

    ranking: dict[str, Any]
    tops: Sequence[dict[str, Any]]
    top_counts: Sequence[pa.Table]
    n: FloatArray
    hits: FloatArray


def _compute(store: Store, values: Values) -> tuple[pa.Table, dict[str, Any]]:
    detectors: list[Detector] = []
    for run, problems in problems_of(store, values["runs"]).items():
        tokens = read_token_values(store, run, [*_METRICS, "planted"])
        for metric in _METRICS:
            chosen = tokens.complete(metric, "planted")
            if len(chosen.problem):
                detectors.append(_detector(run, metric, problems, chosen, values["ps"]))
    rows = [each.ranking for each in detectors] + [row for each in detectors for row in each.tops]
    return pa.Table.from_pylist(rows, SCHEMA), {**values, "detectors": detectors}


def _detector(run: str, metric: str, problems: pa.Array, tokens: TokenValues, ps: Sequence[float]) -> Detector:
    planted, problem = tokens.columns["planted"] > 0, tokens.problem
    ranking, n_tokens, n_planted = Ranking.of(tokens.columns[metric]), len(planted), int(planted.sum())
    about = {"run_id": run, "metric": metric, "n_tokens": n_tokens, "n_planted": n_planted}
    tops, top_counts = [], []
    wanted = np.bincount(problem[planted], minlength=len(problems))
    for p in ps:
        found = ranking.order[n_tokens - ranking.n_top(p) :]
        n = np.bincount(problem[found], minlength=len(problems))
        hits = np.bincount(problem[found[planted[found]]], minlength=len(problems))
        same = {"part": "top", "run_id": run, "metric": metric, "p": p}
        columns = {name: pa.repeat(pa.scalar(value), len(problems)) for name, value in same.items()}
        sums = {"n": n, "hits": hits, "n_planted": wanted, "twice_hits": 2 * hits, "n_either": n + wanted}
        top_counts.append(pa.table({**columns, "problem_id": problems, **sums}))
        tops.append({"part": "top", **about, "p": p, **_precision(len(found), int(hits.sum()), n_planted)})
    in_classes = _in_classes(ranking, planted, problem, len(problems))
    return Detector({"part": "ranking", **about, **_quality(ranking, planted)}, tops, top_counts, *in_classes)


def _quality(ranking: Ranking, planted: BoolArray) -> dict[str, float | None]:
    """Average precision and AUROC of a ranking of tokens, exact with ties."""
    n, smaller, not_larger = len(planted), *ranking.steps
    marked = planted[ranking.order]
    n_planted = int(marked.sum())
    if not n_planted:
        return {"average_precision": None, "auroc": None}
    hits_before = np.r_[0, np.cumsum(marked)]
    precision = (n_planted - hits_before[smaller[marked]]) / (n - smaller[marked])
    ranks = (smaller[marked] + 1 + not_larger[marked]) / 2
    pairs = n_planted * (n - n_planted)
    auroc = (float(ranks.sum()) - n_planted * (n_planted + 1) / 2) / pairs if pairs else None
    return {"average_precision": float(precision.sum()) / n_planted, "auroc": auroc}


def _in_classes(ranking: Ranking, planted: BoolArray, problem: Any, n_problems: int) -> tuple[FloatArray, FloatArray]:
    """(P, C) tokens, and planted ones, of each problem in classes of the ranking; equal values are in one."""
    n_above = len(planted) - ranking.steps[1]
    classes = np.minimum(_CLASSES - 1, _CLASSES * n_above // len(planted))
    cells = problem[ranking.order].astype(np.int64) * _CLASSES + classes
    chosen = (cells, cells[planted[ranking.order]])
    n, hits = (np.bincount(each, minlength=n_problems * _CLASSES).reshape(n_problems, _CLASSES) for each in chosen)
    return n.astype(np.float64), hits.astype(np.float64)


def _precision(n_top: int, hits: int, n_planted: int) -> dict[str, Any]:
    return {
        "n_top": n_top,
        "precision": hits / n_top,
        "recall": hits / n_planted if n_planted else None,
        "f1": 2 * hits / (n_top + n_planted),
    }


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    detectors: Sequence[Detector] = values["detectors"]
    by_problem = pa.concat_tables([counts for each in detectors for counts in each.top_counts])
    table = insert_ratio_intervals(store, table, by_problem, values, _RATIOS, ["part", "metric", "p"])
    several = [each for each in detectors if len(each.n) > 1]
    replicates = {(each.ranking["run_id"], each.ranking["metric"]): _resampled(each, values) for each in several}
    found = np.full((len(_RANKINGS), len(table), 2), np.nan)
    for place, row in enumerate(table.to_pylist()):
        if row["part"] != "ranking" or (row["run_id"], row["metric"]) not in replicates:
            continue
        for index, each in enumerate(replicates[row["run_id"], row["metric"]]):
            estimate = row[_RANKINGS[index]]
            if estimate is not None:
                found[index, place] = np.clip(np.stack(bounds(each[1:])) + estimate - each[0], 0.0, 1.0)
    for index, column in enumerate(_RANKINGS):
        table = insert_interval(table, column, found[index, :, 0], found[index, :, 1])
    return table


def _resampled(detector: Detector, values: Values) -> tuple[FloatArray, FloatArray]:
    """`ranking_quality` (1 + B,) of all problems, first, and of each resample."""
    bootstrap = bootstrap_of(len(detector.n), values)
    n, hits = (np.vstack([each.sum(axis=0), bootstrap.sums(each)]) for each in (detector.n, detector.hits))
    return ranking_quality(n, hits)


QUERY = Query(
    "planted",
    {"ps": shares(0.01, 0.05, 0.08, 0.1)},
    needs=("planted", "entropy_base"),
    prepare=_check_both_kinds,
    compute=_compute,
    intervals=_add_intervals,
)
