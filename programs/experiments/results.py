"""The result of an experiment: one table for each evaluation, and the mean over problem sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.programs.experiments import EvaluationSpec, ExperimentSpec
from rrti_sgl.programs.experiments.running import GridRuns
from rrti_sgl.programs.tables.accuracy import accuracy_table
from rrti_sgl.programs.tables.table import Table


def result_tables(store: Store, spec: ExperimentSpec, runs: GridRuns) -> list[Table]:
    """The tables of the statistic `accuracy`, by evaluation; then averages, where there are several problem sets.

    Recovery is from the run of `base` to that of the reference model, or of `reasoning` where there is no third model. Where
    the grid lacks either, the column stays empty.
    """
    tables = []
    for evaluation in spec.evaluations:
        found = runs.of_evaluation(evaluation.name)
        if found:
            rows = _accuracy(store, spec, [found])
            n_problems, n_samples = rows[0]["n_problems"], evaluation.option("samples")
            counted = f"{n_problems:,} problems" + (f", {n_samples} samples each" if n_samples > 1 else "")
            tables.append(_table(f"{evaluation.name}: {counted}", rows, {run: label for label, run in found.items()}, spec))
            tables += _seeds_table(store, spec, evaluation, found)
    groups = [found for e in spec.evaluations if (found := runs.of_evaluation(e.name))]
    problem_sets = [evaluation.problems for evaluation in spec.evaluations]
    if len(groups) > 1 and len(set(problem_sets)) == len(problem_sets):
        tables += _mean_table(store, spec, groups)
    return tables


def _seeds_table(store: Store, spec: ExperimentSpec, evaluation: EvaluationSpec, found: Mapping[str, str]) -> list[Table]:
    """What the runs of several seeds are together: the mean of each, and its spread."""
    if len(evaluation.seeds) < 2:
        return []
    rows = _accuracy(store, spec, [found], part="seeds")
    # Groups come in the order of their first runs, and have no runs to be called by.
    first = f", seed {evaluation.seeds[0]}"
    names = [label.removesuffix(first) for label in found if label.endswith(first)]
    rows = [{**row, "run_id": place} for place, row in enumerate(rows)]
    return [_table(f"{evaluation.name}: mean of {len(evaluation.seeds)} seeds", rows, dict(enumerate(names)), spec)]


def _mean_table(store: Store, spec: ExperimentSpec, groups: Sequence[Mapping[str, str]]) -> list[Table]:
    """The mean over problem sets of every label that all of them have."""
    labels = {run: label for group in groups for label, run in group.items()}
    rows = [row for row in _accuracy(store, spec, groups, part="average") if row["part"] == "average"]
    # An average names no run: averages come in the order of their first runs.
    shared = [label for label in groups[0] if all(label in group for group in groups)]
    if len(rows) != len(shared):
        return []
    named = dict(enumerate(shared))
    for index, row in enumerate(rows):
        row["run_id"] = index
    return [_table(f"Mean of {len(groups)} problem sets", rows, {**labels, **named}, spec)]


def _accuracy(
    store: Store, spec: ExperimentSpec, groups: Sequence[Mapping[str, str]], part: str = "run"
) -> list[dict[str, Any]]:
    """Rows of the statistic, with recovery where both of its ends are there."""
    upper = "reference" if spec.models.reference is not None else "reasoning"
    bases, uppers = ([_of_every_seed(group, name) for group in groups] for name in ("base", upper))
    chosen = [run for group in groups for run in group.values()]
    ends = {"base": [*chain(*bases)], "reasoning": [*chain(*uppers)]} if all((*bases, *uppers)) else {}
    rows: list[dict[str, Any]] = run_query(store, "accuracy", run=chosen, **ends).to_pylist()
    places = {run: place for place, run in enumerate(chosen)}
    rows.sort(key=lambda row: places.get(row["run_id"], len(places)))
    return [row for row in rows if row["part"] == part]


def _of_every_seed(group: Mapping[str, str], name: str) -> list[str]:
    """The runs of a label, of one seed or of each."""
    return [run for label, run in group.items() if label == name or label.startswith(f"{name}, seed ")]


def _table(title: str, rows: Sequence[Mapping[str, Any]], labels: Mapping[Any, str], spec: ExperimentSpec) -> Table:
    upper = "the reference model" if spec.models.reference is not None else "reasoning"
    return accuracy_table(title, rows, [labels[row["run_id"]] for row in rows], upper)
