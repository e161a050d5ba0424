"""Runs side by side: their budget, accuracy and recovery, as the demonstration and experiments show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrti_sgl.programs.tables.table import Column, Table, rows_table

# Of these no gate chose the takeovers.
ALONE = ("base", "reasoning", "diagnose")
_INTERVAL = ("accuracy", "accuracy_low", "accuracy_high")


def accuracy_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    upper: str = "reasoning",
    *,
    changed: bool = True,
) -> Table:
    """The rows of the statistic `accuracy`.

    Args:
        title: of the table.
        rows: of the statistic, one a run, all with the same k.
        labels: what each is called.
        upper: what recovery is on the way to.
        changed: whether to show the takeovers that changed a token.
    """
    k = rows[0]["k"]
    several = k > 1
    shown = [{"run": label, "run_id": row["run_id"], **_numbers(row)} for label, row in zip(labels, rows, strict=True)]
    columns = [
        Column("run", ""),
        Column("rho"),
        Column("changed"),
        Column("accuracy"),
        *([Column("accuracy_sd", "sd over seeds")] if any(row.get("accuracy_sd") is not None for row in rows) else []),
        *([Column("pass_at_k", f"pass@{k}")] if several else []),
        Column("recovery_accuracy", "recovery", beside=("recovery_pass",) if several else ()),
    ]
    notes = [
        "rho: takeovers per token.",
        "changed: takeovers that differ from what the base model drew, per token.",
        f"recovery: share of the way from base to {upper}" + (f", on accuracy / pass@{k}." if several else "."),
    ]
    if not changed:
        del columns[2], notes[1]
    return rows_table(title, shown, columns, notes=[" ".join(notes)])


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    alone = row["program"] in ALONE
    numbers = {"rho": None if alone else row["rho_pooled"], "changed": None if alone else row["changed"]}
    names = (*_INTERVAL, "accuracy_sd", "graded", "k", "pass_at_k", "recovery_accuracy", "recovery_pass")
    return numbers | {name: row.get(name) for name in names}
