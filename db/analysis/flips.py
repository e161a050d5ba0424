"""Flips: which answers a run puts right and which it spoils, compared with another on the same problems."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.comparison import require_same_settings, require_same_writer
from rrti_sgl.db.analysis.needs import IncomparableRunsError
from rrti_sgl.db.analysis.parameters import one_run
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.analysis.ratios import Ratio, insert_ratio_intervals, run_by_problem
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

_SETTINGS = ("problem_set", "grader", "temperature", "top_p")


def _check_pair(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """The reference and at least one other run, on shared problems of one set, graded alike."""
    if len(coverage) < 2:
        raise UsageError(
            f"Flips compare two runs; there is {coverage[0]['run_id']} alone.", "Name two runs, the reference first."
        )
    records = store.get_runs(values["runs"])
    require_same_settings(records, _SETTINGS, "Flips compare runs that decode alike")
    require_same_writer(records, "Flips compare runs that decode alike")
    reference = set(coverage[0]["graded_problems"])
    for row in coverage[1:]:
        if reference.isdisjoint(row["graded_problems"]):
            raise IncomparableRunsError(
                f"Runs {coverage[0]['run_id']} and {row['run_id']} share no graded problem of {row['problem_set']}: the one "
                f"has {len(reference)}, the other {len(row['graded_problems'])}.",
                "Name runs on the same problems.",
            )
    return values


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    by_problem = run_by_problem(store, "flips", values)
    ratios = {"difference": Ratio("gained", "pairs", kind="difference")}
    return insert_ratio_intervals(store, table, by_problem, values, ratios)


QUERY = Query(
    "flips",
    {"base": one_run()},
    needs=("graded",),
    prepare=_check_pair,
    intervals=_add_intervals,
)
