"""The result of an experiment: one table for each evaluation, and the mean over problem sets; and several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.experiments.finished import STORE, FinishedEvaluation, FinishedExperiment
from rrti_sgl.programs.tables.accuracy import accuracy_table
from rrti_sgl.programs.tables.table import Column, Table


def result_tables(store: Store, experiment: FinishedExperiment) -> list[Table]:
    """The tables of the statistic `accuracy`, by evaluation; then averages, where there are several problem sets.

    Recovery is from the run of `base` to that of the reference model, or of `reasoning` where there is no third model. Where
    the grid lacks either, the column stays empty.
    """
    tables = []
    for evaluation in experiment.evaluations:
        if evaluation.runs:
            rows = _accuracy(store, experiment, [evaluation])
            n_problems, n_samples = rows[0]["n_problems"], evaluation.samples
            counted = f"{n_problems:,} problems" + (f", {n_samples} samples each" if n_samples > 1 else "")
            tables.append(_table(f"{evaluation.name}: {counted}", rows, _labels(evaluation), experiment))
            tables += _seeds_table(store, experiment, evaluation)
    groups = [evaluation for evaluation in experiment.evaluations if evaluation.runs]
    problem_sets = {evaluation.problems for evaluation in experiment.evaluations}
    if len(groups) > 1 and len(problem_sets) == len(experiment.evaluations):
        tables += _mean_table(store, experiment, groups)
    return tables


def compared_tables(folders: Sequence[Path]) -> list[Table]:
    """The runs of several experiments in one table for each problem set, those of one label beside each other.

    Args:
        folders: `out` of each.

    Raises:
        UsageError: fewer than two, or a folder without a finished experiment.
        StoreError: a store cannot be read.
    """
    if len(folders) < 2:
        raise UsageError(f"{len(folders)} experiment is nothing to compare.", "Name the folders of two or more.")
    if len(twice := {folder.resolve() for folder in folders}) < len(folders):
        raise UsageError(f"{len(folders)} folders are named, of which {len(twice)} differ.", "Name each once.")
    experiments = {_called(folder, folders): FinishedExperiment.read(folder) for folder in folders}
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}  # by problem set, then label
    for folder, (name, experiment) in zip(folders, experiments.items(), strict=True):
        with Store.open_readonly(folder / STORE) as store:
            for evaluation in experiment.evaluations:
                labels = _labels(evaluation)
                for row in _accuracy(store, experiment, [evaluation]) if evaluation.runs else []:
                    label = labels[row["run_id"]]
                    of_label = rows.setdefault(evaluation.problems, {}).setdefault(label, [])
                    of_label.append({**row, "label": label, "experiment": name})
    uppers = {experiment.upper for experiment in experiments.values()}
    upper = "the upper run of its experiment" if len(uppers) > 1 else _upper(uppers.pop())
    tables = [_compared(problems, [*chain(*by_label.values())], upper) for problems, by_label in rows.items()]
    models = [f"{name}: {experiment.title} ({_models(experiment)})." for name, experiment in experiments.items()]
    return [replace(table, notes=[*table.notes, *models]) for table in tables]


def _compared(problems: str, rows: Sequence[Mapping[str, Any]], upper: str) -> Table:
    counts = sorted({row["n_problems"] for row in rows})
    title = f"{problems}: {counts[0]:,} problems" if len(counts) == 1 else problems
    table = accuracy_table(title, rows, [row["label"] for row in rows], upper, changed=False)
    data = table.data
    for name in ("experiment", "n_problems"):
        data = data.append_column(name, [[row[name] for row in rows]])
    counted = [Column("n_problems", "problems")] if len(counts) > 1 else []
    columns = [table.columns[0], Column("experiment", ""), *counted, *table.columns[1:]]
    return replace(table, data=data, columns=columns, rule_by="run")


def _models(experiment: FinishedExperiment) -> str:
    return ", ".join(f"{side} {model}" for side, model in experiment.models.items())


def _called(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's own name where it tells it from the others, else its path as it is given."""
    name = folder.resolve().name
    return name if [other.resolve().name for other in folders].count(name) == 1 else str(folder)


def _labels(evaluation: FinishedEvaluation) -> dict[str, str]:
    return {run: label for label, run in evaluation.runs.items()}


def _seeds_table(store: Store, experiment: FinishedExperiment, evaluation: FinishedEvaluation) -> list[Table]:
    """What the runs of several seeds are together: the mean of each, and its spread."""
    if len(evaluation.seeds) < 2:
        return []
    rows = _accuracy(store, experiment, [evaluation], part="seeds")
    # Groups come in the order of their first runs, and have no runs to be called by.
    first = f", seed {evaluation.seeds[0]}"
    names = [label.removesuffix(first) for label in evaluation.runs if label.endswith(first)]
    rows = [{**row, "run_id": place} for place, row in enumerate(rows)]
    return [_table(f"{evaluation.name}: mean of {len(evaluation.seeds)} seeds", rows, dict(enumerate(names)), experiment)]


def _mean_table(store: Store, experiment: FinishedExperiment, groups: Sequence[FinishedEvaluation]) -> list[Table]:
    """The mean over problem sets of every label that all of them have."""
    labels = dict(chain(*(_labels(group).items() for group in groups)))
    rows = _accuracy(store, experiment, groups, part="average")
    # An average names no run: averages come in the order of their first runs.
    shared = [label for label in groups[0].runs if all(label in group.runs for group in groups)]
    if len(rows) != len(shared):
        return []
    named = dict(enumerate(shared))
    for index, row in enumerate(rows):
        row["run_id"] = index
    return [_table(f"Mean of {len(groups)} problem sets", rows, {**labels, **named}, experiment)]


def _accuracy(
    store: Store, experiment: FinishedExperiment, groups: Sequence[FinishedEvaluation], part: str = "run"
) -> list[dict[str, Any]]:
    """Rows of the statistic, with recovery where both of its ends are there."""
    bases, uppers = ([_of_every_seed(group, name) for group in groups] for name in ("base", experiment.upper))
    chosen = [run for group in groups for run in group.runs.values()]
    ends = {"base": [*chain(*bases)], "reasoning": [*chain(*uppers)]} if all((*bases, *uppers)) else {}
    rows: list[dict[str, Any]] = run_query(store, "accuracy", run=chosen, **ends).to_pylist()
    places = {run: place for place, run in enumerate(chosen)}
    rows.sort(key=lambda row: places.get(row["run_id"], len(places)))
    return [row for row in rows if row["part"] == part]


def _of_every_seed(group: FinishedEvaluation, name: str) -> list[str]:
    """The runs of a label, of one seed or of each."""
    return [run for label, run in group.runs.items() if label == name or label.startswith(f"{name}, seed ")]


def _table(
    title: str, rows: Sequence[Mapping[str, Any]], labels: Mapping[Any, str], experiment: FinishedExperiment
) -> Table:
    table = accuracy_table(title, rows, [labels[row["run_id"]] for row in rows], _upper(experiment.upper))
    guests = [f"{side}: {model}." for side, model in experiment.models.items() if side.startswith("guest ")]
    return replace(table, notes=[*table.notes, *guests])


def _upper(label: str) -> str:
    return "the reference model" if label == "reference" else label
