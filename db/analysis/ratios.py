"""Intervals of ratios of sums over problems: shares, differences, means and totals per token.

A statistic of this kind has a CTE `by_problem` before the last SELECT of its SQL: what each problem adds, in long form. Its
estimates are sums over that CTE and its intervals resample it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rrti_sgl.db.analysis.intervals import bootstrap_of, insert_interval
from rrti_sgl.db.analysis.query import Values, run_sql, run_text, sql_text
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap


@dataclass(frozen=True, slots=True)
class Ratio:
    """Columns of `by_problem` whose sums are numerator and denominator.

    `over`: the denominator is summed over all rows of a run that agree in this column, as a share of a whole is; None: over
    the rows of the numerator. `kind`: what the intervals of `ProblemBootstrap` are told: a share lies in 0..1, a difference
    of two shares in -1..1, a mean has no ends. `most`: a column that says what one trial adds to the numerator at the most,
    where that is not 1: then it is told as a share of that. `untold`: parts of the statistic that have no interval, as it
    would hold its number too seldom by simulation.
    """

    above: str
    below: str
    over: str | None = None
    kind: Literal["mean", "share", "difference"] = "mean"
    most: str | None = None
    untold: tuple[str, ...] = ()


def run_by_problem(store: Store, name: str, values: Values) -> pa.Table:
    """The CTE `by_problem` of `db/queries/<name>.sql`."""
    head, _, _ = sql_text(name).rpartition("\n)\nSELECT")
    return run_text(store, f"{head}\n)\nSELECT * FROM by_problem", values)


def problems_of(store: Store, runs: Sequence[str]) -> dict[str, pa.Array]:
    """The problems of each run, sorted, so that runs on the same problems are resampled alike."""
    table = run_sql(store, "_problems", {"runs": list(runs)}).combine_chunks()
    return {run: table.filter(pc.equal(table["run_id"], run))["problem_id"].combine_chunks() for run in runs}


def problem_matrix(
    rows: pa.Table, problems: pa.Array, columns: NDArray[np.integer[Any]], name: str, width: int
) -> FloatArray:
    """(P, width) sums of a column of rows in long form, by their problem and by the column index given for each row."""
    places = pc.index_in(rows["problem_id"], problems).to_numpy()
    matrix = np.zeros((len(problems), width))
    np.add.at(matrix, (places, columns), rows[name].cast(pa.float64()).fill_null(0).to_numpy())
    return matrix


def insert_ratio_intervals(
    store: Store,
    table: pa.Table,
    by_problem: pa.Table,
    values: Values,
    ratios: Mapping[str, Ratio],
    items: Sequence[str] = (),
    *,
    problems: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """The table with intervals of the columns that `ratios` names.

    Args:
        store: where the runs are.
        table: of point estimates, with `run_id` and the columns `items`, which tell the rows of one run apart.
        by_problem: `run_id`, `problem_id`, the columns `items` and those of the ratios; a problem without a row adds 0.
        values: of the parameters; `resamples` and `seed` are used.
        ratios: column of the table -> how it is made of sums.
        items: columns of both tables.
        problems: of each run, sorted; None: those of its samples.
    """
    runs = table["run_id"]
    bounds_of = {column: np.full((len(table), 2), np.nan) for column in ratios}
    for run, of_run in (problems or problems_of(store, runs.unique().to_pylist())).items():
        rows = by_problem.filter(pc.equal(by_problem["run_id"], run)).combine_chunks()
        bootstrap = bootstrap_of(len(of_run), values)
        if bootstrap is None or not len(rows):
            continue
        places = pc.equal(runs, run).to_numpy(zero_copy_only=False)
        sums = _RunSums(rows, of_run, bootstrap)
        for column, ratio in ratios.items():
            told = places & ~np.isin(table["part"].to_numpy(), ratio.untold) if ratio.untold else places
            bounds_of[column][told] = np.stack(sums.bounds(ratio, table.filter(pa.array(told)), items), axis=1)
    for column, found in bounds_of.items():
        table = insert_interval(table, column, found[:, 0], found[:, 1])
    return table


def insert_tested_intervals(
    store: Store, name: str, table: pa.Table, values: Values, ratios: Mapping[str, Ratio], items: Sequence[str]
) -> pa.Table:
    """`insert_ratio_intervals` of a statistic whose runs are those of samples that others continue: over the problems that
    were tested, which are those of its `by_problem`.
    """
    by_problem = run_by_problem(store, name, values)
    tested = by_problem.group_by(["run_id", "problem_id"]).aggregate([]).sort_by("problem_id")
    runs = tested["run_id"].unique().to_pylist()
    problems = {run: tested.filter(pc.field("run_id") == run)["problem_id"].combine_chunks() for run in runs}
    return insert_ratio_intervals(store, table, by_problem, values, ratios, items, problems=problems)


class _RunSums:
    """Resampled sums of one run, from rows in long form: what each of its P problems adds."""

    def __init__(self, rows: pa.Table, problems: pa.Array, bootstrap: ProblemBootstrap) -> None:
        self._rows, self._problems, self._bootstrap = rows, problems, bootstrap

    def bounds(self, ratio: Ratio, wanted: pa.Table, items: Sequence[str]) -> Bounds:
        """Bounds (K,) of a ratio for the K rows of a table, told apart by `items`."""
        above = self._matrix(ratio.above, wanted, items)
        below = self._matrix(ratio.below, wanted, items if ratio.over is None else [ratio.over])
        if ratio.kind == "share":
            most = 1.0 if ratio.most is None else pc.max(self._rows[ratio.most]).as_py() or 1.0
            low, high = self._bootstrap.shares(above / most, below)
            return low * most, high * most
        if ratio.kind == "difference":
            return self._bootstrap.differences(above, below)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._bootstrap.percentiles(self._bootstrap.sums(above) / self._bootstrap.sums(below))

    def _matrix(self, column: str, wanted: pa.Table, items: Sequence[str]) -> FloatArray:
        """(P, K) sums of a column over the rows of each problem that agree with each of K rows in `items`."""
        of_wanted = _keys(wanted, items)
        kinds = of_wanted.unique()
        places = pc.index_in(_keys(self._rows, items), kinds)
        kept = self._rows.filter(places.is_valid())
        matrix = problem_matrix(kept, self._problems, places.drop_null().to_numpy(), column, len(kinds))
        repeated: FloatArray = matrix[:, pc.index_in(of_wanted, kinds).to_numpy()]
        return repeated


def _keys(table: pa.Table, items: Sequence[str]) -> pa.Array:
    """One text for each row that tells it apart from the others of its run."""
    if not items:
        return pa.repeat(pa.scalar(""), len(table))
    columns = [table[item].combine_chunks().cast(pa.string()).fill_null("") for item in items]
    return pc.binary_join_element_wise(*columns, "\t")
