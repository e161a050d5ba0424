"""What is printed at the end of a run and of a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rrti_sgl.cli import tables
from rrti_sgl.cli.terminal import say, say_next
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.programs.tables.kinds import named_text
from rrti_sgl.programs.tables.numbers import COUNT
from rrti_sgl.programs.tables.statistics import printed_tables
from rrti_sgl.programs.tables.table import Column, rows_table
from rrti_sgl.records import CalibrationRecord, RunRecord


def print_next(db: Path, run: RunRecord) -> None:
    """What to type after a command that made samples."""
    takes_over = run.gate not in (None, "never", "always")
    say_next(db, f"samples {run.run_id}{' --flipped' if takes_over else ''}", "runs", "report")


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
    tables.print_facts(
        {
            "program": row["program"],
            "gate": ", ".join(
                f"{name} {_gate_text(name, value)}" for name, value in run.gate_params.items() if value is not None
            )
            or None,
            "samples": row["n_samples"],
            "truncated": f"{COUNT.text(row['truncated'])} reached the limit" if row["truncated"] else None,
            "tokens": row["n_tokens"],
            "rho": row["rho"],
            "changed": row["changed"],
            "accuracy": "not graded (no gold answers)" if row["accuracy"] is None else row["accuracy"],
        }
    )


def print_seeds(store: Store, records: Sequence[RunRecord], *, as_json: bool) -> None:
    """The runs of several seeds, one after the other, and what they are together."""
    graded = store.sql(
        "SELECT 1 FROM samples WHERE correct IS NOT NULL AND run_id = $run LIMIT 1", {"run": records[0].run_id}
    )
    if not len(graded):
        for record in records:
            print_run_summary(store, record, as_json=as_json)
        return
    found = run_query(store, "accuracy", run=[record.run_id for record in records])
    if as_json:
        return tables.print_json(found.to_pylist())
    tables.print_tables(printed_tables("accuracy", "", found))


def _gate_text(name: str, value: Any) -> str:
    return f"({len(value)})" if isinstance(value, list) else named_text(name, value)


def print_calibrations(calibrations: Sequence[CalibrationRecord], *, as_json: bool) -> None:
    """Thresholds with what they were taken from."""
    rows: list[dict[str, Any]] = [asdict(calibration) for calibration in calibrations]
    if as_json:
        tables.print_json(rows)
        return
    names = ("calibration_id", "metric", "spike_ratio", "k", "tau", "lambda_", "n_tokens", "mean_length")
    tables.print_tables([rows_table("", rows, [*map(Column, names)])])
    say(f"from run {calibrations[0].run_id}")
