"""Planning: whether the tokens of large disagreement are planning words.

In a resample the thresholds of both top sets move (`rrti_sgl.statistics.top_sets`); which words are listed is
decided by the estimate.
A set in which nothing (or everything) matches shows no spread: its share then gets the exact binomial bound over problems.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import count, metric, share
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import TopSet

COUNTS = {"all": "n_all", "top_metric": "n_metric", "top_entropy": "n_entropy", "takeovers": "n_fired"}
MARGINS = {"top_metric": "metric", "top_entropy": "entropy"}
ESTIMATES = ("odds_ratio", "enrichment", "share")


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    rows = table.to_pylist()
    listed = [f"{row['run_id']}\n{row['label']}" for row in rows if row["part"] == "word"]
    cells = run_sql(store, "_planning_problems", {**values, "listed": listed or [""]}).to_pylist()
    runs = {run: _Resampled([cell for cell in cells if cell["run_id"] == run], values) for run in values["runs"]}
    found = [runs[row["run_id"]].intervals(row) for row in rows]
    for name in ESTIMATES:
        lows, highs = zip(*(intervals[name] for intervals in found), strict=True)
        table = insert_interval(table, name, lows, highs)
    return table


class _Resampled:
    """Tokens of each set, and of them those that match, for every resample of one run."""

    def __init__(self, cells: list[dict[str, Any]], values: Values) -> None:
        self.problems = 1 + max(cell["problem"] for cell in cells)
        self.bootstrap = ProblemBootstrap(self.problems, seed=values["seed"], n=values["resamples"])
        self.cells: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
        for cell in cells:
            self.cells.setdefault((cell["part"], cell["label"]), []).append(cell)
        self.totals = self.cells["total", None]
        self._found: dict[tuple[tuple[str, str | None], str], FloatArray] = {}

    def intervals(self, row: Row) -> dict[str, tuple[float, float]]:
        """Low and high of each estimate of a row of the table; NaN where there is no estimate."""
        kind, total = (row["part"], row["label"]), ("total", None)
        cells = self.cells.get(kind, [])
        matching, overall = self._of(kind, row["tokens"]), self._of(kind, "all")
        size, everything = self._of(total, row["tokens"]), self._of(total, "all")
        rest, rest_size = overall - matching, everything - size
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = matching / size
            odds = (matching / (size - matching)) / (rest / (rest_size - rest))
            replicates = {"share": shares, "enrichment": shares / (overall / everything), "odds_ratio": odds}
        bounds = {name: self._interval(row, name, found) for name, found in replicates.items()}
        if not row["n_matching"] and row["n_tokens"]:
            # Nothing matches in any resample: the bound of the share bounds the enrichment too.
            bounds["enrichment"] = (0.0, bounds["share"][1] * _total(self.totals) / _total(cells))
        return bounds

    def _interval(self, row: Row, name: str, replicates: FloatArray) -> tuple[float, float]:
        if row[name] is None or (row["tokens"] == "all" and name == "enrichment"):
            return float("nan"), float("nan")
        if name == "share":
            interval = self.bootstrap.share_interval(row[name], replicates)
        else:
            interval = self.bootstrap.interval(row[name], replicates)
        return interval.low, interval.high

    @cached_property
    def _top(self) -> dict[str, TopSet]:
        """Both top sets by name."""
        return {
            tokens: TopSet(
                self.bootstrap,
                self._by_problem(self.totals, "n_all"),
                self._by_problem(self.totals, COUNTS[tokens]),
                float(sum(cell[f"{name}_margin"] for cell in self.totals)),
                float(sum(cell[f"{name}_tied"] for cell in self.totals)),
            )
            for tokens, name in MARGINS.items()
        }

    def _of(self, kind: tuple[str, str | None], tokens: str) -> FloatArray:
        """(B,) of the tokens of a part and label, how many each resample has in a set; each is asked for by several rows."""
        if (kind, tokens) not in self._found:
            cells = self.cells.get(kind, [])
            counts = self._by_problem(cells, COUNTS[tokens])
            if tokens in MARGINS:
                found = self._top[tokens].having(counts, sum(cell[f"{MARGINS[tokens]}_margin"] for cell in cells))
            else:
                found = self.bootstrap.sums(counts)
            self._found[kind, tokens] = found
        return self._found[kind, tokens]

    def _by_problem(self, cells: list[dict[str, Any]], column: str) -> FloatArray:
        counts = np.zeros(self.problems)
        for cell in cells:
            counts[cell["problem"]] += cell[column]
        return counts


def _total(cells: list[dict[str, Any]]) -> int:
    return sum(cell["n_all"] for cell in cells)


QUERY = Query(
    "planning",
    {"metric": metric(), "p": share(0.01), "words": count(10), "least": count(5)},
    needs=("metric", "entropy_base", "planning_tag"),
    intervals=_add_intervals,
)
