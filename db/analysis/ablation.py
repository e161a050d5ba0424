"""Ablation: base, guided, its controls and the reasoning model side by side on the same problems."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.comparison import require_same_settings
from rrti_sgl.db.analysis.graded import (
    Replicates,
    common_k,
    insert_replicate_intervals,
    replicates_of,
    require_same_problems,
    shares_of_lead,
)
from rrti_sgl.db.analysis.parameters import count, one_run
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

_COLUMNS = (
    *("rho", "changed", "accuracy", "pass_at_k", "recovery_accuracy", "recovery_pass"),
    *("accuracy_over_base", "pass_over_base", "accuracy_over_guided", "pass_over_guided"),
)
_SETTINGS = ("problem_set", "base_model", "grader", "temperature", "top_p")


def _with_references(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Base, guided and reasoning run: as named, else the only run of that program."""
    purpose = "An ablation"
    require_same_problems(coverage, purpose)
    require_same_settings(store, values["runs"], _SETTINGS, f"{purpose} compares runs that decode alike")
    found = dict(values)
    for reference in ("base", "guided", "reasoning"):
        runs = [row["run_id"] for row in coverage if row["program"] == reference]
        if found[reference] is None and len(runs) > 1:
            raise UsageError(f"The {reference} run could be any of {', '.join(runs)}.", f"Give one id as {reference}.")
        found[reference] = found[reference] or next(iter(runs), None)
    if found["base"] is None:
        programs = ", ".join(f"{row['run_id']} ({row['program']})" for row in coverage)
        raise UsageError(f"{purpose} needs a base run; there is {programs}.", "Name one as base.")
    return {**found, "k": common_k(coverage, values["k"])}


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    runs = table["run_id"].to_pylist()
    replicates = replicates_of(store, {run: int(values["k"]) for run in runs}, values)
    references = {name: replicates.get(values[name], {}) for name in ("base", "guided", "reasoning")}
    return insert_replicate_intervals(table, _COLUMNS, [_compared(replicates[run], references) for run in runs])


def _compared(run: Replicates, references: dict[str, Replicates]) -> Replicates:
    """The replicates of a run and of its differences, resample by resample."""
    found = dict(run)
    for column, short in (("accuracy", "accuracy"), ("pass_at_k", "pass")):
        for name in ("base", "guided"):
            if run and references[name]:
                found[f"{short}_over_{name}"] = run[column] - references[name][column]
        if run and references["reasoning"]:
            lead = references["reasoning"][column] - references["base"][column]
            found[f"recovery_{short}"] = shares_of_lead(found[f"{short}_over_base"], lead)
    return found


QUERY = Query(
    "ablation",
    {"k": count(None), "base": one_run(), "guided": one_run(), "reasoning": one_run()},
    needs=("graded",),
    prepare=_with_references,
    intervals=_add_intervals,
)
