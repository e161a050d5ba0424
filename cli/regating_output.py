"""What `rrti whatif` prints and writes: the gates, the positions where one fires, the figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from rich.console import Console

from rrti_sgl.cli import tables
from rrti_sgl.db.scored_tokens import read_positions
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.stored.whatif import WhatIf

POSITION_FORMATS = ("csv", "json", "parquet")
FIGURE_FORMATS = ("svg", "png", "pdf")
SHOWN = ("spike_ratio", "tau", "lambda", "n_fired", "budget", "problem_sd", "coverage", "best_coverage", "realised_budget")


def check_files(positions: str | None, figure: Path | None) -> None:
    """Refuse file endings that cannot be written, before anything is computed.

    Raises:
        UsageError: names what can.
    """
    if positions not in (None, "-"):
        _ending("--positions", Path(str(positions)), POSITION_FORMATS)
    if figure is not None:
        _ending("--figure", figure, FIGURE_FORMATS)


def print_gates(found: WhatIf) -> None:
    """One line a gate, shares with their intervals, then what must be known of them."""
    console = Console(highlight=False)
    run, tokens = found.tokens.run, found.tokens.tokens
    rows = found.rows
    console.print(f"Gates on {found.tokens.metric} over run {run.run_id} ({run.program}, {run.problem_set})", style="bold")
    against = ""
    if len(rows) == 1 and tokens.fired.any():
        against = f" ({rows[0]['n_added']:,} positions fire in addition, {rows[0]['n_dropped']:,} no longer)"
    console.print(
        f"{len(tokens.scores):,} positions of {rows[0]['n_problems']} problems; the stored gate, {run.gate}, fired at "
        f"{rows[0]['stored_budget']:.4f} of them{against}"
    )
    shown = [_with_intervals({name: row[name] for name in SHOWN}, row) for row in rows]
    names = [name for name in SHOWN if any(row[name] is not None for row in shown)]
    tables.print_table(shown, names)


def print_notes(found: WhatIf, *, beside_data: bool) -> None:
    """What must be known of the numbers; on standard error where standard output is data."""
    console = Console(highlight=False, stderr=beside_data)
    for note in found.notes if beside_data else [*_meanings(found), *found.notes]:
        console.print(f"- {note}", style="dim")


def _meanings(found: WhatIf) -> list[str]:
    """What the columns of `print_gates` are."""
    meanings = ["In brackets: 95 % intervals, bootstrap over problems. problem sd: of the budget between problems."]
    if found.tokens.disagreement is not None:
        meanings.append(
            f"coverage: share of the total {found.tokens.disagreement} at the positions that fire; best coverage: of as "
            "many positions of largest disagreement."
        )
    if any(trial.realised_budget is not None for trial in found.trials):
        meanings.append("realised budget: of the newest run in the store that used this gate.")
    return meanings


def positions_table(store: Store, found: WhatIf) -> pa.Table:
    """The positions at which the one gate fires.

    Raises:
        UsageError: more than one gate was tried.
    """
    if len(found.trials) != 1:
        raise UsageError(
            f"--positions lists where one gate fires; {len(found.trials)} were asked for.",
            "Give one --spike-ratio, --tau, --budget or --calibration.",
        )
    return pa.concat_tables(read_positions(store, found.tokens, found.trials[0].outcome.fired))


def print_positions(listed: pa.Table, *, as_json: bool) -> None:
    """Print the positions as JSON or comma-separated values."""
    from rrti_sgl.programs.reporting.formats import find_format

    sys.stdout.write(find_format("json" if as_json else "csv").encode(listed).decode())


def write_positions(listed: pa.Table, path: Path) -> None:
    """Write the positions to a file, in the format of its ending."""
    from rrti_sgl.programs.reporting.formats import find_format
    from rrti_sgl.programs.reporting.writing import write_atomically

    write_atomically(path, find_format(_ending("--positions", path, POSITION_FORMATS)).encode(listed))
    typer.echo(f"{listed.num_rows:,} positions are in {path}.", err=True)


def write_figure(found: WhatIf, path: Path) -> None:
    """Draw budget against coverage.

    Raises:
        UsageError: the coverage is not known.
    """
    from rrti_sgl.programs.reporting.figures import regating, style
    from rrti_sgl.programs.reporting.writing import write_atomically

    if found.tokens.disagreement is None:
        raise UsageError(
            f"Run {found.tokens.run.run_id} has no divergence at every position, so there is no coverage to draw.",
            "Leave --figure out, or name a diagnose run.",
        )
    points = [
        regating.GatePoint(
            budget=row["budget"],
            coverage=row["coverage"],
            low=row["coverage"] if row["coverage_low"] is None else row["coverage_low"],
            high=row["coverage"] if row["coverage_high"] is None else row["coverage_high"],
            best=row["best_coverage"],
            spike_ratio=row["spike_ratio"],
        )
        for row in found.rows
    ]
    condition = "" if found.rows[0]["lambda"] is None else f", lambda on (W = {found.rows[0]['window']})"
    label = f"gate on {found.tokens.metric}{condition}, n = {len(found.tokens.tokens.scores):,}"
    caption = f"Expected budget and share of the total {found.tokens.disagreement} at the positions that fire."
    drawing = style.draw(
        "regating", caption, lambda: regating.regating_figure(points, label, str(found.tokens.disagreement))
    )
    write_atomically(path, drawing.files[_ending("--figure", path, FIGURE_FORMATS)])
    typer.echo(f"The figure is in {path}.", err=True)


def _ending(option: str, path: Path, known: tuple[str, ...]) -> str:
    ending = path.suffix.removeprefix(".").lower()
    if ending not in known:
        raise UsageError(f"{option} {path} has no ending that can be written.", f"Use .{', .'.join(known)}.")
    return ending


def _with_intervals(shown: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    for name in ("budget", "coverage"):
        if row[f"{name}_low"] is not None:
            shown[name] = f"{row[name]:.4f} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
    return shown
