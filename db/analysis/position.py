"""Position: where in a solution the tokens of largest disagreement lie.

In a resample the threshold of the top set moves (`rrti_sgl.statistics.top_sets`); which of a sample's top tokens
is its first one is taken at the threshold of the estimate. A bin without any top token shows no spread: its density gets
the exact binomial bound over problems.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import count, metric, share, shares
from rrti_sgl.db.analysis.query import Query, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.estimates import Interval
from rrti_sgl.statistics.resampling import ProblemBootstrap, group_sums
from rrti_sgl.statistics.top_sets import TopSet

COLUMNS = ("share_first", "share_top", "density_top", "middle")


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    cells = run_sql(store, "_position_problems", values)
    columns = {name: cells.column(name).to_numpy() for name in cells.column_names}
    resampled = {
        run_id: _Resampled({name: column[columns["run"] == at] for name, column in columns.items()}, values)
        for at, run_id in enumerate(values["runs"])
    }
    rows = table.to_pylist()
    for name in COLUMNS:
        found = [resampled[row["run_id"]].interval(row, name) for row in rows]
        table = insert_interval(table, name, [each.low for each in found], [each.high for each in found])
    return table


class _Resampled:
    """The shares of each bin and of each segment between edges, for every resample of one run."""

    def __init__(self, cells: dict[str, Any], values: Values) -> None:
        problems = int(cells["problem"].max()) + 1
        self.bootstrap = ProblemBootstrap(problems, seed=values["seed"], n=values["resamples"])
        self.edges = values["edges"]
        totals = {name: group_sums(cells[name], cells["problem"], problems) for name in ("n_all", "n_top")}
        top = TopSet(
            self.bootstrap, totals["n_all"], totals["n_top"], float(cells["n_margin"].sum()), float(cells["n_tied"].sum())
        )

        def of_problems(name: str, place: str, n: int) -> FloatArray:
            return group_sums(cells[name], cells["problem"] * n + cells[place], problems * n).reshape(problems, n)

        def top_shares(place: str, n: int) -> FloatArray:
            margin = group_sums(cells["n_margin"], cells[place], n)
            return _shares(top.having(of_problems("n_top", place, n), margin))

        self.bins = top_shares("bin", values["bins"])
        self.segments = top_shares("segment", len(self.edges) + 1)
        first = self.bootstrap.sums(of_problems("n_first", "segment", len(self.edges) + 1))
        self.first = _shares(first)

    def interval(self, row: dict[str, Any], column: str) -> Interval:
        """Of one cell of the table; NaN where the column does not apply."""
        if row[column] is None:
            return Interval(float("nan"), float("nan"), float("nan"), self.bootstrap.level)
        replicates = self._replicates(row, column)
        if column == "middle":
            return self.bootstrap.interval(row[column], replicates)
        scale = self.bins.shape[1] if column == "density_top" else 1
        interval = self.bootstrap.share_interval(row[column] / scale, replicates / scale)
        return replace(interval, low=interval.low * scale, high=interval.high * scale)

    def _replicates(self, row: dict[str, Any], column: str) -> FloatArray:
        n_bins = self.bins.shape[1]
        if column == "middle":
            return np.where(np.isnan(self.bins[:, 0]), np.nan, (np.argmax(self.bins, axis=1) + 0.5) / n_bins)
        if column == "density_top":
            densities: FloatArray = self.bins[:, round(row["u_low"] * n_bins)] * n_bins
            return densities
        shares_of = self.segments if column == "share_top" else self.first
        if row["part"] == "within":
            chosen = shares_of[:, : self.edges.index(row["u_high"]) + 1]
        else:
            chosen = shares_of[:, self.edges.index(row["u_low"]) + 1 :]
        found: FloatArray = chosen.sum(axis=1)
        return found


def _shares(counts: FloatArray) -> FloatArray:
    """(B, n) shares of counts (B, n) in each resample; NaN in one that holds none, which an interval leaves out."""
    totals: FloatArray = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)


QUERY = Query(
    "position",
    {"metric": metric(), "p": share(0.01), "bins": count(20), "edges": shares(0.05, 0.1, 0.2)},
    needs=("metric",),
    intervals=_add_intervals,
)
