"""Accuracy: how good each run is, at which budget, and how much of the reasoning model's lead it recovers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.comparison import require_same_settings
from rrti_sgl.db.analysis.graded import (
    Ends,
    Outcomes,
    common_k,
    insert_ends,
    outcomes_of,
    pass_at_ks,
    recovery_bounds,
    share_bounds,
)
from rrti_sgl.db.analysis.needs import require_same
from rrti_sgl.db.analysis.parameters import count, many_runs
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import RunRecord

_INTERVALS = ("recovery_accuracy", "recovery_pass", "rho_mean", "rho_pooled", "changed", "accuracy", "pass_at_k")
_DRAWING, _ALIKE = ("temperature", "top_p"), "Recovery compares runs that decode alike"
# What may differ between the runs of an average: the problems, and what is chosen by problem set.
OF_PROBLEM_SET = (
    *("problems", "limit", "samples", "max_new_tokens", "calibration_id", "base_prompt", "reasoning_prompt"),
    *("question_field", "answer_field"),
)


def _with_references(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """The k of pass@k, the runs that each run is compared with, and which runs are averaged."""
    references = {name: _references(coverage, name, values[name]) for name in ("base", "reasoning")}
    for found in references.values():
        for row, reference in zip(coverage, found, strict=True):
            if reference is not None:
                require_same_settings(
                    store, [reference, row["run_id"]], _DRAWING, "Recovery compares runs that decode alike"
                )
    return {
        **values,
        "k": common_k(coverage, values["k"]),
        "passed": pass_at_ks(store, values["runs"]),
        "averages": _averages([store.get_run(row["run_id"]) for row in coverage]),
        **{f"{name}_runs": references[name] for name in references},
    }


def _references(coverage: Sequence[Row], name: str, named: Sequence[str] | None) -> list[str | None]:
    """For each run the base (or reasoning) run on its problem set; None where none are named."""
    if named is None:
        return [None] * len(coverage)
    by_set: dict[str, Row] = {}
    for row in coverage:
        if row["run_id"] in named:
            other = by_set.setdefault(row["problem_set"], row)
            if other is not row:
                ids = f"{other['run_id']}, {row['run_id']}"
                raise UsageError(f"The {name} run of {row['problem_set']} could be any of {ids}.", "Give one id.")
    for row in coverage:
        reference = by_set.get(row["problem_set"])
        if reference is None or row["graded_problems"] != reference["graded_problems"]:
            reference = reference or next(iter(by_set.values()))
            raise UsageError(
                f"Recovery compares runs on the same problems; run {row['run_id']} has {len(row['graded_problems'])} of "
                f"{row['problem_set']}, run {reference['run_id']} {len(reference['graded_problems'])} of "
                f"{reference['problem_set']}.",
                "Name the runs that belong together.",
            )
        if name == "base":
            require_same([reference, row], ("base_model",), "Recovery compares runs of one base model")
    return [by_set[row["problem_set"]]["run_id"] for row in coverage]


def _averages(runs: Sequence[RunRecord]) -> list[int | None]:
    """For each run the number of the average that it belongs to."""
    members: dict[str, list[RunRecord]] = {}
    for run in runs:
        members.setdefault(_configuration(run), []).append(run)
    numbers: dict[str, int] = {}
    for number, group in enumerate(members.values(), 1):
        if len({run.problem_set for run in group}) == len(group) > 1:
            numbers |= dict.fromkeys((run.run_id for run in group), number)
    return [numbers.get(run.run_id) for run in runs]


def _configuration(run: RunRecord) -> str:
    """What the runs of an average share, as one text."""
    config = {name: value for name, value in run.config.items() if name not in OF_PROBLEM_SET}
    return json.dumps([run.program, run.base_model, run.reasoning_model, run.score_kind, config], sort_keys=True)


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    k = dict.fromkeys(values["runs"], int(values["k"]))
    # The problem sets of an average are drawn apart.
    outcomes = [
        outcomes_of(store, k, {**values, "seed": values["seed"] + number}) for number in range(_most_members(values))
    ]
    ends = [_ends(row, places, outcomes, values) for row, places in zip(table.to_pylist(), _members(values), strict=True)]
    return insert_ends(table, _INTERVALS, ends)


def _members(values: Values) -> list[list[int]]:
    """For each row the places of its runs among all runs: one, or those of an average."""
    places = range(len(values["runs"]))
    averages = [number for number in dict.fromkeys(values["averages"]) if number is not None]
    alone = [[place] for place in places]
    return alone + [[place for place in places if values["averages"][place] == number] for number in averages]


def _most_members(values: Values) -> int:
    return max(map(len, _members(values)))


def _ends(row: Row, places: Sequence[int], outcomes: Sequence[Mapping[str, Outcomes]], values: Values) -> dict[str, Ends]:
    """The intervals of a row: a run, or the mean over several problem sets."""
    runs = [values["runs"][place] for place in places]
    found = share_bounds([outcomes[number][run] for number, run in enumerate(runs)])
    references = [[values[f"{name}_runs"][place] for place in places] for name in ("base", "reasoning")]
    for column, of in (("recovery_accuracy", "accuracy"), ("recovery_pass", "pass_at_k")):
        # Base and reasoning recover 0 and 1 by definition.
        if row[column] is not None and runs not in references:
            compared = zip(outcomes, runs, *references, strict=False)
            sets = [(drawn[run], drawn[base], drawn[reasoning]) for drawn, run, base, reasoning in compared]
            found[column] = recovery_bounds(sets, of)
    return found


QUERY = Query(
    "accuracy",
    {"k": count(None), "base": many_runs(), "reasoning": many_runs()},
    needs=("graded",),
    prepare=_with_references,
    intervals=_add_intervals,
)
