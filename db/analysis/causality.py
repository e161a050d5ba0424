"""Causality: whether takeovers, and sentences, were necessary, from counterfactual runs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import Ratio, insert_ratio_intervals, run_by_problem
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

_COLUMNS = ("taken", "denied", "effect", "necessary", "harmful")
_RATIOS = {
    **{name: Ratio(name, "n", kind="difference" if name == "effect" else "share") for name in _COLUMNS},
    "answers": Ratio("answers", "n_answers", kind="difference"),
    "kl": Ratio("kl", "n_kl"),
}


def _check_arms(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """At least one unit of a stored sample has both arms graded."""
    values = {**values, "within": None}  # the samples that arms continue are of other runs
    [counts] = run_sql(store, "_causality_arms", values).to_pylist()
    if not counts["positions"] and counts["beginnings"] < 2:
        raise UsageError(
            f"No position of {', '.join(values['runs'])} has both arms: {counts['taken']} graded samples are taken, "
            f"{counts['denied']} denied; the stored samples of {counts['parents']} are there.",
            "Finish the counterfactual runs, in the store that has the samples which they continue.",
        )
    return values


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    """Those of each unit, over the problems on which it was tested."""
    by_problem = run_by_problem(store, "causality", values)
    found = []
    for unit in table["unit"].unique():
        own = by_problem.filter(pc.equal(by_problem["unit"], unit))
        tested = own.group_by(["run_id", "problem_id"]).aggregate([]).sort_by("problem_id")
        runs = tested["run_id"].unique().to_pylist()
        problems = {run: tested.filter(pc.field("run_id") == run)["problem_id"].combine_chunks() for run in runs}
        rows = table.filter(pc.equal(table["unit"], unit))
        items = ["part", "decile", "tag"]
        found.append(insert_ratio_intervals(store, rows, own, values, _RATIOS, items, problems=problems))
    return pa.concat_tables(found) if found else table


QUERY = Query("causality", needs=("arms", "graded"), prepare=_check_arms, intervals=_add_intervals)
