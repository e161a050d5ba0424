"""Sparsity: how concentrated the disagreement is on a few tokens.

Intervals come from tokens and mass of each problem in bins of the score (`rrti_sgl.statistics.lorenz`, at most `BINS` of
them). The replicates are shifted by the difference of the exact and the binned estimate; what is left is bounded by the
difference of two binning errors (below 0.001 for the Gini coefficient), and is nothing where each bin holds
one distinct value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.needs import SCORE_COLUMNS, require_same
from rrti_sgl.db.analysis.parameters import choice, metric, shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.token_values import read_token_values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, RunRecord
from rrti_sgl.statistics.lorenz import LorenzBins, coarser_bins
from rrti_sgl.statistics.ranking import top_threshold
from rrti_sgl.statistics.resampling import ProblemBootstrap, group_sums

BINS = 512
GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("run_id", "program", "problem_set", "sample_id", "statistic"), pa.string()),
        **{"level": pa.float64(), "value": pa.float64(), "n_tokens": pa.int64()},
    }
)
MEASURES: dict[str, Callable[[LorenzBins, Any], FloatArray]] = {
    "gini": lambda bins, level: bins.gini(),
    "tokens_carrying": lambda bins, level: bins.tokens_carrying(level),
    "carried_by_top": lambda bins, level: bins.carried_by_top(level),
    "lorenz": lambda bins, level: bins.carried(level),
}


def _check_runs(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Shares of a total need values that are not negative, and pooled runs scores of one kind."""
    for row in coverage:
        if negative := row[f"negative_{values['metric']}"]:
            raise UsageError(
                f"Run {row['run_id']} has {negative} tokens whose {values['metric']} is negative: they carry no share of a "
                "total.",
                "Choose a divergence or an entropy with --metric.",
            )
    if values["by"] == "benchmark":
        for unit in dict.fromkeys((row["program"], row["problem_set"]) for row in coverage):
            pooled = [row for row in coverage if (row["program"], row["problem_set"]) == unit]
            require_same(pooled, SCORE_COLUMNS, f"Runs of {unit[0]} on {unit[1]} cannot be pooled")
    return values


def _compute(store: Store, values: Values) -> tuple[pa.Table, dict[str, Any]]:
    if values["by"] == "sample":  # many small units: nothing to gain
        return run_sql(store, "sparsity", values), dict(values)
    units: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in map(store.get_run, values["runs"]):
        key = (run.run_id,) if values["by"] == "run" else (run.program, run.problem_set)
        units.setdefault(key, []).append(run)
    rows: list[dict[str, Any]] = []
    for runs in units.values():
        name = values["metric"]
        parts = [read_token_values(store, run.run_id, [name]).complete(name).columns[name] for run in runs]
        ordered = np.sort(np.concatenate(parts))
        unit = {
            "run_id": runs[0].run_id if values["by"] == "run" else None,
            **{"program": runs[0].program, "problem_set": runs[0].problem_set, "n_tokens": len(ordered)},
        }
        rows += [{**unit, **row} for row in _measures(ordered, values)]
    return pa.Table.from_pylist(rows, SCHEMA), dict(values)


def _measures(ordered: FloatArray, values: Values) -> list[dict[str, Any]]:
    """The rows of a unit, of its scores (n,) in ascending order."""
    n, largest_first = len(ordered), ordered[::-1]
    carried = np.cumsum(largest_first)
    total = float(carried[-1])
    if not total:
        return [{"statistic": "gini"}]
    found = [("gini", None, (2 * float(carried.sum()) / total - (n + 1)) / n)]
    for level in values["carried"]:
        found.append(("tokens_carrying", level, (int(np.searchsorted(carried, level * total * (1 - 1e-12))) + 1) / n))
    for level in values["top"]:
        n_top = n - int(np.searchsorted(ordered, top_threshold(ordered, level)))
        found.append(("carried_by_top", level, float(carried[n_top - 1]) / total))
    for level in values["grid"]:
        last = int(np.floor(level * n))
        left_out = (last + 1 - level * n) * float(largest_first[last])
        found.append(("lorenz", level, (float(carried[last]) - left_out) / total))
    return [{"statistic": statistic, "level": level, "value": value} for statistic, level, value in found]


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    low = np.full(table.num_rows, np.nan)
    high = low.copy()
    if values["by"] != "sample":
        cells = run_sql(store, "_sparsity_bins", values)
        columns = {name: cells.column(name).to_numpy() for name in cells.column_names}
        rows = table.to_pylist()
        keys = [(row["run_id"], row["program"], row["problem_set"]) for row in rows]
        for unit, key in zip(np.unique(columns["unit"]), dict.fromkeys(keys), strict=True):
            chosen = columns["unit"] == unit
            estimate, resampled, bootstrap = _binned({name: column[chosen] for name, column in columns.items()}, values)
            for place in (place for place, other in enumerate(keys) if other == key):
                measure, level, exact = MEASURES[rows[place]["statistic"]], rows[place]["level"], rows[place]["value"]
                shift = exact - measure(estimate, level)[0]
                interval = bootstrap.interval(exact, np.clip(measure(resampled, level) + shift, 0.0, 1.0))
                low[place], high[place] = interval.low, interval.high
    return insert_interval(table, "value", low, high)


def _binned(cells: dict[str, Any], values: Values) -> tuple[LorenzBins, LorenzBins, ProblemBootstrap]:
    """The bins of all tokens of a unit, and those of the resamples."""
    fine, place = np.unique(-cells["bin"], return_inverse=True)
    problems = int(cells["problem"].max()) + 1
    tokens, mass = (group_sums(cells[name], place, len(fine)) for name in ("n", "mass"))
    merged = coarser_bins(tokens, mass, BINS)
    bins = merged[place]
    shape = (problems, int(merged.max()) + 1)
    flat = cells["problem"] * shape[1] + bins
    counts, masses = (group_sums(cells[name], flat, shape[0] * shape[1]).reshape(shape) for name in ("n", "mass"))
    lows, highs = np.full(shape[1], np.inf), np.zeros(shape[1])
    np.minimum.at(lows, bins, cells["low"])
    np.maximum.at(highs, bins, cells["high"])
    bootstrap = ProblemBootstrap(problems, seed=values["seed"], n=values["resamples"])
    estimate = LorenzBins(counts.sum(axis=0)[None], masses.sum(axis=0)[None], lows, highs)
    return estimate, LorenzBins(bootstrap.sums(counts), bootstrap.sums(masses), lows, highs), bootstrap


QUERY = Query(
    "sparsity",
    {
        "metric": metric(),
        "by": choice("run", "benchmark", "sample"),
        "carried": shares(0.5, 0.8, 0.9, 0.94),
        "top": shares(0.01, 0.05, 0.08, 0.1, 0.2),
        "grid": shares(*GRID),
    },
    needs=("metric",),
    undefined={"value": "it sums to 0"},
    prepare=_check_runs,
    compute=_compute,
    intervals=_add_intervals,
)
