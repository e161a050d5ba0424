"""The result of an experiment: one table for each evaluation, and the mean over problem sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.programs.demonstration.report import ReportTable
from rrti_sgl.programs.experiments import ExperimentSpec
from rrti_sgl.programs.experiments.running import GridRuns

NOTES = (
    "rho: takeovers per token. changed: takeovers that differ from what the base model drew, per token. "
    "recovery: share of the way from base to "
)


def result_tables(store: Store, spec: ExperimentSpec, runs: GridRuns) -> list[ReportTable]:
    """The tables of the statistic `accuracy`, by evaluation; then averages, where there are several problem sets.

    Recovery is from the run of `base` to that of the reference model, or of `reasoning` where there is no third model. Where
    the grid lacks either, the column stays empty.
    """
    tables = []
    for evaluation in spec.evaluations:
        found = runs.of_evaluation(evaluation.name)
        if found:
            rows = _accuracy(store, spec, [found])
            n_problems, n_samples = rows[0]["n_problems"], evaluation.samples
            counted = f"{n_problems:,} problems" + (f", {n_samples} samples each" if n_samples > 1 else "")
            tables.append(_table(f"{evaluation.name}: {counted}", rows, {run: label for label, run in found.items()}, spec))
    groups = [found for e in spec.evaluations if (found := runs.of_evaluation(e.name))]
    problem_sets = [evaluation.problems for evaluation in spec.evaluations]
    if len(groups) > 1 and len(set(problem_sets)) == len(problem_sets):
        tables += _mean_table(store, spec, groups)
    return tables


def _mean_table(store: Store, spec: ExperimentSpec, groups: Sequence[Mapping[str, str]]) -> list[ReportTable]:
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
    bases = [group["base"] for group in groups if "base" in group]
    upper = "reference" if spec.reference is not None else "reasoning"
    uppers = [group[upper] for group in groups if upper in group]
    chosen = [run for group in groups for run in group.values()]
    ends = {"base": bases, "reasoning": uppers} if len(bases) == len(uppers) == len(groups) else {}
    rows: list[dict[str, Any]] = run_query(store, "accuracy", run=chosen, **ends).to_pylist()
    places = {run: place for place, run in enumerate(chosen)}
    rows.sort(key=lambda row: places.get(row["run_id"], len(places)))
    return [row for row in rows if row["part"] == part]


def _table(title: str, rows: Sequence[Mapping[str, Any]], labels: Mapping[Any, str], spec: ExperimentSpec) -> ReportTable:
    k = rows[0]["k"]
    columns = ["", "rho", "changed", "accuracy [95 %]", *([f"pass@{k}"] if k > 1 else []), "recovery"]
    upper = "the reference model" if spec.reference is not None else "reasoning"
    both = f", on accuracy / pass@{k}" if k > 1 else ""
    return ReportTable(title, columns, [_cells(row, labels[row["run_id"]], k) for row in rows], f"{NOTES}{upper}{both}.")


def _cells(row: Mapping[str, Any], label: str, k: int) -> list[str]:
    alone = row["program"] in ("base", "reasoning", "diagnose")
    recovered = [_percent(row["recovery_accuracy"])] + ([_percent(row["recovery_pass"])] if k > 1 else [])
    return [
        label,
        "" if alone else f"{row['rho_pooled']:.3f}",
        "" if alone else f"{row['changed']:.3f}",
        f"{row['accuracy']:.1%}{_interval(row)}",
        *([f"{row['pass_at_k']:.1%}"] if k > 1 else []),
        " / ".join(filter(None, recovered)),
    ]


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row.get("accuracy_low"), row.get("accuracy_high")
    return "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
