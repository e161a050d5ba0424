"""Ablation: base, guided, its controls and the reasoning model side by side on the same problems."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.comparison import require_same_settings, require_same_writer
from rrti_sgl.db.analysis.graded import (
    Ends,
    Outcomes,
    common_k,
    difference_bounds,
    insert_ends,
    outcomes_of,
    pass_at_ks,
    recovery_bounds,
    require_same_problems,
    share_bounds,
)
from rrti_sgl.db.analysis.parameters import count, one_run
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

_COLUMNS = (
    *("rho", "changed", "accuracy", "pass_at_k", "recovery_accuracy", "recovery_pass"),
    *("accuracy_over_base", "pass_over_base", "accuracy_over_guided", "pass_over_guided"),
)
_SETTINGS = ("problem_set", "grader", "temperature", "top_p")


def _with_references(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Base, guided and reasoning run: as named, else the only run of that program."""
    purpose = "An ablation"
    require_same_problems(coverage, purpose)
    records = store.get_runs(values["runs"])
    require_same_settings(records, _SETTINGS, f"{purpose} compares runs that decode alike")
    require_same_writer(records, f"{purpose} compares runs that decode alike")
    found = dict(values)
    for reference in ("base", "guided", "reasoning"):
        runs = [row["run_id"] for row in coverage if row["program"] == reference]
        if found[reference] is None and len(runs) > 1:
            raise UsageError(f"The {reference} run could be any of {', '.join(runs)}.", f"Give one id as {reference}.")
        found[reference] = found[reference] or next(iter(runs), None)
    if found["base"] is None:
        programs = ", ".join(f"{row['run_id']} ({row['program']})" for row in coverage)
        raise UsageError(f"{purpose} needs a base run; there is {programs}.", "Name one as base.")
    return {**found, "k": common_k(coverage, values["k"]), "passed": pass_at_ks(store, values["runs"])}


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    runs = table["run_id"].to_pylist()
    outcomes = outcomes_of(store, dict.fromkeys(runs, int(values["k"])), values)
    references = {name: outcomes[values[name]] for name in ("base", "guided", "reasoning") if values[name] is not None}
    return insert_ends(table, _COLUMNS, [_ends(outcomes[run], references) for run in runs])


def _ends(run: Outcomes, references: dict[str, Outcomes]) -> dict[str, Ends]:
    """The intervals of a run and of its differences."""
    found = share_bounds([run])
    found["rho"] = found["rho_pooled"]
    for column, short in (("accuracy", "accuracy"), ("pass_at_k", "pass")):
        for name in references.keys() & {"base", "guided"}:
            if references[name] is not run:
                found[f"{short}_over_{name}"] = difference_bounds(run, references[name], column)
        if "reasoning" in references and run is not references["base"] and run is not references["reasoning"]:
            found[f"recovery_{short}"] = recovery_bounds([(run, references["base"], references["reasoning"])], column)
    return found


QUERY = Query(
    "ablation",
    {"k": count(None), "base": one_run(), "guided": one_run(), "reasoning": one_run()},
    needs=("graded",),
    prepare=_with_references,
    intervals=_add_intervals,
)
