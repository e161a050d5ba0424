"""Accuracy: how good each run is, at which budget, and how much of the reasoning model's lead it recovers.

Runs on the same problems are resampled together, so recovery is paired. Where the lead itself has the other sign (or is 0)
in more than 2.5 % of the resamples, no share of it can be told: recovery has no interval then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.graded import common_k
from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.needs import require_same
from rrti_sgl.db.analysis.parameters import count, many_runs
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, RunRecord
from rrti_sgl.statistics.estimates import Interval, pass_at_k
from rrti_sgl.statistics.resampling import ProblemBootstrap

SHARES = ("rho_mean", "rho_pooled", "changed", "accuracy", "pass_at_k")
RECOVERIES = {"recovery_accuracy": "accuracy", "recovery_pass": "pass_at_k"}
# What may differ between the runs of an average: the problems, and what is chosen by problem set.
OF_PROBLEM_SET = (
    *("problems", "limit", "samples", "max_new_tokens", "calibration_id", "base_prompt", "reasoning_prompt"),
    *("question_field", "answer_field"),
)


def _with_references(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """The k of pass@k, the runs that each run is compared with, and which runs are averaged."""
    references = {name: _references(coverage, name, values[name]) for name in ("base", "reasoning")}
    return {
        **values,
        "k": common_k(coverage, values["k"]),
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
    problems = run_sql(store, "_accuracy_problems", values).to_pandas()
    by_run = dict(iter(problems.groupby("run_id")))
    thresholds = {run_id: store.get_run(run_id).tau for run_id in values["runs"]}
    found = []
    for row, members in zip(table.to_pylist(), _members(table, values), strict=True):
        sets = [{name: by_run[run_id] for name, run_id in _compared(place, values)} for place, run_id in members]
        by_score = row["rho_pooled"] < 1 and any(thresholds[run_id] is not None for _, run_id in members)
        found.append(_intervals(row, sets, values, by_score=by_score))
    for name in (*RECOVERIES, *SHARES):
        table = insert_interval(table, name, [each[name].low for each in found], [each[name].high for each in found])
    return table


def _members(table: pa.Table, values: Values) -> list[list[tuple[int, str]]]:
    """For each row its runs, with their places among all runs: one, or those of an average."""
    places = list(enumerate(values["runs"]))
    averages = [number for number in dict.fromkeys(values["averages"]) if number is not None]
    alone = [[place] for place in places]
    return alone + [[place for place in places if values["averages"][place[0]] == number] for number in averages]


def _compared(place: int, values: Values) -> list[tuple[str, str]]:
    found = [("run", values["runs"][place])]
    found += [(name, run) for name in ("base", "reasoning") if (run := values[f"{name}_runs"][place]) is not None]
    return found


def _intervals(row: Row, sets: Sequence[Mapping[str, Any]], values: Values, *, by_score: bool) -> dict[str, Interval]:
    """The interval of every estimate of a row: a run, or the mean over several problem sets, drawn apart.

    `by_score`: a threshold decided on takeovers, so that a budget of 0 is an observation; of a model alone 0 or 1 is a fact.
    """
    resamples: dict[str, list[dict[str, FloatArray]]] = {}
    for number, runs in enumerate(sets):
        for name, problems in runs.items():
            replicates = _replicates(problems, int(values["k"]), values["seed"] + number, values["resamples"])
            resamples.setdefault(name, []).append(replicates)
    means = {
        name: {column: np.mean([each[column] for each in replicates], axis=0) for column in SHARES}
        for name, replicates in resamples.items()
    }
    several = min(len(runs["run"]) for runs in sets) > 1
    bootstrap = ProblemBootstrap(row["n_problems"] if several else 1, seed=values["seed"], n=values["resamples"])
    found = {}
    for column in SHARES:
        exact = column not in RECOVERIES.values() and not by_score
        interval = bootstrap.interval if exact else bootstrap.share_interval
        found[column] = interval(row[column], means["run"][column])
    for column, of in RECOVERIES.items():
        shares = np.full(values["resamples"], np.nan)
        if row[column] is not None:
            run, base, reasoning = (means[name][of] for name in ("run", "base", "reasoning"))
            shares = _shares_of_lead(run - base, reasoning - base, bootstrap.level)
        found[column] = bootstrap.interval(row[column], shares)
    return found


def _replicates(problems: Any, k: int, seed: int, resamples: int) -> dict[str, FloatArray]:
    """(B,) of each share of one run, from what its problems add."""
    of_all = ProblemBootstrap(len(problems), seed=seed, n=resamples)
    graded = problems[problems["n"] > 0]
    of_graded = ProblemBootstrap(len(graded), seed=seed, n=resamples)
    sums = {name: of_all.sums(problems[name]) for name in ("rho_sum", "rho_samples", "tokens", "takeovers", "changed")}
    passed = pass_at_k(graded["n"], graded["c"], k)
    return {
        "rho_mean": sums["rho_sum"] / sums["rho_samples"],
        "rho_pooled": sums["takeovers"] / sums["tokens"],
        "changed": sums["changed"] / sums["tokens"],
        "accuracy": of_graded.sums(graded["c"] / graded["n"]) / len(graded),
        "pass_at_k": of_graded.sums(passed) / len(graded),
    }


def _shares_of_lead(gains: FloatArray, leads: FloatArray, level: float) -> FloatArray:
    """(B,) gains over leads; NaN throughout where the sign of the lead is not certain."""
    uncertain = min(np.mean(leads <= 0), np.mean(leads >= 0)) > (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.full_like(gains, np.nan) if uncertain else gains / leads


QUERY = Query(
    "accuracy",
    {"k": count(None), "base": many_runs(), "reasoning": many_runs()},
    needs=("graded",),
    prepare=_with_references,
    intervals=_add_intervals,
)
