"""Accuracy: how good each run is, at which budget, and how much of the reasoning model's lead it recovers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

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
from rrti_sgl.db.analysis.needs import IncomparableRunsError, require_same
from rrti_sgl.db.analysis.parameters import count, many_runs
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import RunRecord

_INTERVALS = ("recovery_accuracy", "recovery_pass", "rho_mean", "rho_pooled", "changed", "accuracy", "pass_at_k")
_ENDS = ("base", "reasoning")
_DRAWING, _ALIKE = ("temperature", "top_p"), "Recovery compares runs that decode alike"
# What may differ between the runs of an average: the problems, and what is chosen by problem set.
OF_PROBLEM_SET = (
    *("problems", "limit", "samples", "max_new_tokens", "calibration_id", "base_prompt", "reasoning_prompt"),
    *("question_field", "answer_field"),
)


def _with_references(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """The k of pass@k, the runs that each run is compared with, and which runs are averaged."""
    records = store.get_runs([row["run_id"] for row in coverage])
    seeds = [record.seed for record in records]
    references = {name: _references(coverage, seeds, name, values) for name in _ENDS}
    by_id = {record.run_id: record for record in records}
    for found in references.values():
        for record, reference in zip(records, found, strict=True):
            if reference is not None:
                require_same_settings([by_id[reference], record], _DRAWING, "Recovery compares runs that decode alike")
    return {
        **values,
        "k": common_k(coverage, values["k"]),
        "passed": pass_at_ks(store, values["runs"]),
        "averages": _averages(records),
        "groups": seed_groups(records),
        **{f"{name}_runs": references[name] for name in references},
    }


def _references(coverage: Sequence[Row], seeds: Sequence[int], name: str, values: Values) -> list[str | None]:
    """For each run the base (or reasoning) run on its problems, of several that of its seed; None where none are named.

    Of the runs in exchanged roles the ends are exchanged: the named reasoning run is of the model that writes there.
    """
    by_id = {row["run_id"]: row for row in coverage}
    base, reasoning = (by_id[values[end][0]] if values[end] else None for end in _ENDS)
    host, guest = (None if end is None else _writer(end) for end in (base, reasoning))
    named = {run for end in _ENDS for run in values[end] or ()}
    exchanged = [
        None not in (host, guest) and row["base_model"] == guest != host and row["run_id"] not in named for row in coverage
    ]
    found: list[str | None] = [None] * len(coverage)
    for swapped in set(exchanged):
        end = name if not swapped else _ENDS[name == "base"]
        places = [place for place, other in enumerate(exchanged) if other is swapped]
        if values[end] is not None:
            chosen = _of_each(coverage, seeds, places, end, values[end], same_base=name == end == "base")
            for place, run in zip(places, chosen, strict=True):
                found[place] = run
    return found


def _writer(row: Row) -> str | None:
    """The model that wrote most of a run's tokens."""
    writer: str | None = row["reasoning_model" if row["program"] == "reasoning" else "base_model"]
    return writer


def _of_each(
    coverage: Sequence[Row], seeds: Sequence[int], places: Sequence[int], name: str, named: Sequence[str], *, same_base: bool
) -> list[str]:
    """The one of the named runs that each run at some places is compared with."""
    by_set: dict[str, dict[int, Row]] = {}
    for row, seed in zip(coverage, seeds, strict=True):
        if row["run_id"] in named:
            other = by_set.setdefault(row["problem_set"], {}).setdefault(seed, row)
            if other is not row:
                ids = f"{other['run_id']}, {row['run_id']}"
                raise UsageError(f"The {name} run of {row['problem_set']} could be any of {ids}.", "Give one id.")
    chosen: list[Row] = []
    for row, seed in ((coverage[place], seeds[place]) for place in places):
        of_set = by_set.get(row["problem_set"], {})
        reference = of_set.get(seed) or next(iter(of_set.values()), None)
        if len(of_set) > 1 and seed not in of_set:
            message = (
                f"No {name} run of {row['problem_set']} has the seed {seed} of run {row['run_id']}, and there are several."
            )
            raise UsageError(message, "Name one of them, or those of the same seeds.")
        if reference is None or row["graded_problems"] != reference["graded_problems"]:
            reference = reference or next(iter(next(iter(by_set.values())).values()))
            raise IncomparableRunsError(
                f"Recovery compares runs on the same problems; run {row['run_id']} has {len(row['graded_problems'])} of "
                f"{row['problem_set']}, run {reference['run_id']} {len(reference['graded_problems'])} of "
                f"{reference['problem_set']}.",
                "Name the runs that belong together.",
            )
        if same_base and _writer(reference) != row["base_model"]:
            require_same([reference, row], ("base_model",), "Recovery compares runs of one base model")
        chosen.append(reference)
    return [row["run_id"] for row in chosen]


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


def _configuration(run: RunRecord, left_out: Sequence[str] = OF_PROBLEM_SET) -> str:
    """What the runs of an average share, as one text."""
    config = {name: value for name, value in run.config.items() if name not in left_out}
    return json.dumps([run.program, run.base_model, run.reasoning_model, run.score_kind, config], sort_keys=True)


def seed_groups(runs: Sequence[RunRecord]) -> list[str | None]:
    """For each run the name of the group that differs from it in nothing but the seed; None where it is alone.

    A control of the budget of another run follows one of its own seed, which makes no difference.
    """
    members: dict[str, list[RunRecord]] = {}
    for run in runs:
        gate = run.config.get("gate") or {}
        followed = replace(run, config={**run.config, "gate": {**gate, "like": gate.get("like") is not None}})
        shared = f"{run.problem_set} {run.n_problems} {_configuration(followed, ('seed',))}"
        members.setdefault(f"{run.program}-{hashlib.sha256(shared.encode()).hexdigest()[:6]}", []).append(run)
    names = {
        run.run_id: name
        for name, group in members.items()
        if len({run.seed for run in group}) == len(group) > 1
        for run in group
    }
    return [names.get(run.run_id) for run in runs]


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    k = dict.fromkeys(values["runs"], int(values["k"]))
    members = _members(values)
    n_draws = 1 + max(draw for _, draws in members for draw in draws)
    drawn = [outcomes_of(store, k, {**values, "seed": values["seed"] + number}) for number in range(n_draws)]
    ends = [
        _ends(row, places, [drawn[draw] for draw in draws], values)
        for row, (places, draws) in zip(table.to_pylist(), members, strict=True)
    ]
    return insert_ends(table, _INTERVALS, ends)


def _members(values: Values) -> list[tuple[list[int], list[int]]]:
    """For each row the places of its runs among all runs, and by which draw of weights each of them is resampled.

    The problem sets of an average are drawn apart; the seeds of a group are on the same problems, and drawn together.
    """
    found = [([place], [0]) for place in range(len(values["runs"]))]
    for column in ("averages", "groups"):
        for name in dict.fromkeys(values[column]):
            if name is not None:
                places = [place for place, other in enumerate(values[column]) if other == name]
                found.append((places, list(range(len(places))) if column == "averages" else [0] * len(places)))
    return found


def _ends(row: Row, places: Sequence[int], outcomes: Sequence[Mapping[str, Outcomes]], values: Values) -> dict[str, Ends]:
    """The intervals of a row: a run, or the mean over several problem sets."""
    runs = [values["runs"][place] for place in places]
    found = share_bounds([outcomes[number][run] for number, run in enumerate(runs)])
    references = [[values[f"{name}_runs"][place] for place in places] for name in _ENDS]
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
