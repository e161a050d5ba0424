"""Uncertainty: whether disagreement is just the base model's own entropy.

In a resample the thresholds of both top sets move (`rrti_sgl.statistics.top_sets`). The rank correlation of
a resample is that of `RANK_BINS` bins along each side, shifted by the difference of the exact and the binned estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import metric, shares
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.ratios import problems_of
from rrti_sgl.db.analysis.token_values import read_token_values
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.estimates import Interval
from rrti_sgl.statistics.ranking import Ranking, quantile, top_threshold
from rrti_sgl.statistics.resampling import ProblemBootstrap, binned_spearman
from rrti_sgl.statistics.top_sets import TopSet, margin_ends

RANK_BINS = 32
SIDES = ("metric", "entropy")
SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "part": pa.string(), "p": pa.float64()},
        **dict.fromkeys(("n_tokens", "n_metric", "n_entropy", "n_both"), pa.int64()),
        **dict.fromkeys(("iou", "iou_chance", "spearman"), pa.float64()),
    }
)


@dataclass(frozen=True)
class Overlap:
    """Both top-p sets of one run.

    Attributes:
        top: by side, (P,) tokens of each problem in the set.
        both: (P,) tokens in both sets.
        margin, margin_both, tied: by side, tokens close to the threshold, of them in the other set, and at it.
    """

    top: dict[str, FloatArray]
    both: FloatArray
    margin: dict[str, int]
    margin_both: dict[str, int]
    tied: dict[str, int]


@dataclass(frozen=True)
class RunRanks:
    """One run: (P,) tokens of each problem, its top sets by p, and (P, RANK_BINS, RANK_BINS) tokens by binned ranks."""

    n_all: FloatArray
    overlaps: dict[float, Overlap]
    cells: FloatArray


def _compute(store: Store, values: Values) -> tuple[pa.Table, dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    measured = {}
    problems = problems_of(store, values["runs"])
    for run in values["runs"]:
        names = (values["metric"], "entropy_base")
        tokens = read_token_values(store, run, list(dict.fromkeys(names))).complete(*dict.fromkeys(names))
        n = len(tokens.problem)
        if not n:
            continue
        sides = dict(zip(SIDES, (tokens.columns[name] for name in names), strict=True))
        rankings = {side: Ranking.of(found) for side, found in sides.items()}
        n_problems = len(problems[run])
        overlaps = {p: _overlap(p, sides, rankings, tokens.problem, n_problems) for p in values["ps"]}
        rows += [_overlap_row(run, p, n, overlap) for p, overlap in overlaps.items()]
        ranks = {side: ranking.average_ranks() for side, ranking in rankings.items()}
        row = {"run_id": run, "part": "rank_correlation", "n_tokens": n, "spearman": _correlation(*ranks.values())}
        rows.append(row)
        cells = np.ravel_multi_index((tokens.problem, *map(_bins, ranks.values())), (n_problems, RANK_BINS, RANK_BINS))
        counts = np.bincount(cells, minlength=n_problems * RANK_BINS**2).reshape(n_problems, RANK_BINS, RANK_BINS)
        n_all = np.bincount(tokens.problem, minlength=n_problems).astype(np.float64)
        measured[run] = RunRanks(n_all, overlaps, counts.astype(np.float64))
    return pa.Table.from_pylist(rows, SCHEMA), {**values, "measured": measured}


def _overlap(p: float, sides: dict[str, FloatArray], rankings: dict[str, Ranking], problem: Any, n_problems: int) -> Overlap:
    def counts(chosen: BoolArray) -> FloatArray:
        return np.bincount(problem[chosen], minlength=n_problems).astype(np.float64)

    cuts = {side: top_threshold(rankings[side].ordered, p) for side in SIDES}
    top = {side: sides[side] >= cuts[side] for side in SIDES}
    margin, margin_both, tied = {}, {}, {}
    for side, other in zip(SIDES, reversed(SIDES), strict=True):
        low, high = (quantile(rankings[side].ordered, 1 - end) for end in margin_ends(p))
        close = (sides[side] >= low) & (sides[side] <= high)
        margin[side] = int(np.count_nonzero(close))
        margin_both[side] = int(np.count_nonzero(close & top[other]))
        above = quantile(rankings[side].ordered, 1 - p) * 2 - cuts[side]
        tied[side] = int(np.count_nonzero(top[side] & (sides[side] <= above)))
    return Overlap(
        {side: counts(top[side]) for side in SIDES}, counts(top["metric"] & top["entropy"]), margin, margin_both, tied
    )


def _overlap_row(run: str, p: float, n: int, overlap: Overlap) -> dict[str, Any]:
    n_metric, n_entropy, n_both = (int(counts.sum()) for counts in (*overlap.top.values(), overlap.both))
    by_chance = n_metric * n_entropy / n
    return {
        **{"run_id": run, "part": "overlap", "p": p, "n_tokens": n},
        **{"n_metric": n_metric, "n_entropy": n_entropy, "n_both": n_both},
        "iou": n_both / (n_metric + n_entropy - n_both),
        "iou_chance": by_chance / (n_metric + n_entropy - by_chance),
    }


def _correlation(x: FloatArray, y: FloatArray) -> float | None:
    """Pearson's coefficient of ranks (N,) and (N,); None where one of them is the same throughout."""
    middle = (len(x) + 1) / 2
    x, y = x - middle, y - middle
    scale = float(np.sqrt(np.dot(x, x)) * np.sqrt(np.dot(y, y)))
    return float(np.dot(x, y)) / scale if scale else None


def _bins(ranks: FloatArray) -> Any:
    """(N,) of `RANK_BINS` bins of about as many tokens each; equal values are in one."""
    return ((ranks - 0.5) * (RANK_BINS / len(ranks))).astype(np.int32)


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0.0)
    found = []
    for row in table.to_pylist():
        run: RunRanks = values["measured"][row["run_id"]]
        bootstrap = ProblemBootstrap(len(run.n_all), seed=values["seed"], n=values["resamples"])
        if row["part"] == "overlap":
            found.append((_iou(bootstrap, run.n_all, run.overlaps[row["p"]], row["iou"]), nothing))
        else:
            found.append((nothing, _spearman(bootstrap, run.cells, row["spearman"])))
    for name, intervals in zip(("iou", "spearman"), zip(*found, strict=True), strict=True):
        table = insert_interval(table, name, [each.low for each in intervals], [each.high for each in intervals])
    return table


def _iou(bootstrap: ProblemBootstrap, n_all: FloatArray, overlap: Overlap, estimate: float) -> Interval:
    sets = {
        side: TopSet(bootstrap, n_all, overlap.top[side], float(overlap.margin[side]), float(overlap.tied[side]))
        for side in SIDES
    }
    fixed = bootstrap.sums(overlap.both)
    both = sum((each.having(overlap.both, overlap.margin_both[side]) for side, each in sets.items()), -fixed)
    either = sets["metric"].size() + sets["entropy"].size() - both
    # A resample that holds none of either set has no overlap: NaN, which the interval leaves out.
    shared = np.divide(both, either, out=np.full(bootstrap.n, np.nan), where=either > 0)
    return bootstrap.interval(estimate, np.clip(shared, 0.0, 1.0))


def _spearman(bootstrap: ProblemBootstrap, cells: FloatArray, estimate: float | None) -> Interval:
    if estimate is None:
        return Interval(float("nan"), float("nan"), float("nan"), bootstrap.level)
    shift = estimate - binned_spearman(cells.sum(axis=0)[None])[0]
    return bootstrap.interval(estimate, np.clip(binned_spearman(bootstrap.sums(cells)) + shift, -1.0, 1.0))


QUERY = Query(
    "uncertainty",
    {"metric": metric(), "ps": shares(0.01, 0.05, 0.08, 0.1, 0.2)},
    needs=("metric", "entropy_base"),
    compute=_compute,
    intervals=_add_intervals,
)
