"""What is printed at the end of a run, a calibration and the demonstration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rrti_sgl.cli import tables
from rrti_sgl.db.store import Store
from rrti_sgl.records import CalibrationRecord, RunRecord


def print_run_summary(store: Store, run: RunRecord, *, as_json: bool) -> None:
    """One finished run: its budget, its accuracy, what it cost."""
    [row] = store.sql(
        """
        SELECT run_id, program, status, n_samples, n_tokens, rho, accuracy,
               (SELECT sum(n_changed) / sum(n_tokens) FROM samples WHERE run_id = $run) AS changed,
               (SELECT count(*) FROM samples WHERE run_id = $run AND finish_reason = 'length') AS truncated
        FROM run_view WHERE run_id = $run
        """,
        {"run": run.run_id},
    ).to_pylist()
    if as_json:
        tables.print_json([row])
        return
    print_facts(
        {
            "program": row["program"],
            "gate": ", ".join(f"{name} {value}" for name, value in run.gate_params.items()) or None,
            "samples": row["n_samples"],
            "truncated": f"{row['truncated']} reached the limit" if row["truncated"] else None,
            "tokens": f"{row['n_tokens']:,}",
            "rho": f"{row['rho']:.4f}" if row["rho"] is not None else None,
            "changed": f"{row['changed']:.4f}" if row["changed"] is not None else None,
            "accuracy": f"{row['accuracy']:.4f}" if row["accuracy"] is not None else "not graded (no gold answers)",
        }
    )


def print_calibrations(calibrations: Sequence[CalibrationRecord], *, as_json: bool) -> None:
    """Thresholds with what they were taken from."""
    rows: list[dict[str, Any]] = [asdict(calibration) for calibration in calibrations]
    if as_json:
        tables.print_json(rows)
        return
    names = ("calibration_id", "metric", "spike_ratio", "k", "tau", "lambda_", "n_tokens", "mean_length")
    tables.print_table([{name: row[name] for name in names} for row in rows], names)
    typer.echo(f"from run {calibrations[0].run_id}")


def print_facts(facts: dict[str, Any]) -> None:
    """Names and values, one a line; those that are None are left out."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            typer.echo(f"{name:<{width}}  {value}")


def print_text_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: str
) -> None:
    """A table whose cells are text already: labels left and folded, numbers right and never broken."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], overflow="fold")
    for name in columns[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)
    if notes:
        console.print(notes, style="dim", highlight=False)
