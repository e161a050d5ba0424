"""What `rrti whatif` prints and writes: the gates, the positions where one fires, the figure."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rrti_sgl.cli.terminal import console, say, say_data
from rrti_sgl.db.scored_tokens import read_positions
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.stored.whatif import WhatIf
from rrti_sgl.programs.tables.numbers import COUNT, RATE
from rrti_sgl.programs.tables.table import stored_table

POSITION_FORMATS = ("csv", "json", "parquet")
FIGURE_FORMATS = ("svg", "png", "pdf")


def check_files(positions: str | None, figure: Path | None) -> None:
    """Refuse file endings that cannot be written, before anything is computed.

    Raises:
        UsageError: names what can.
    """
    if positions is not None and positions != "-":
        _ending("--positions", Path(positions), POSITION_FORMATS)
    if figure is not None:
        _ending("--figure", figure, FIGURE_FORMATS)


def print_notes(found: WhatIf, *, beside_data: bool) -> None:
    """What must be known of the numbers; on standard error where standard output is data."""
    shown = console(stderr=beside_data)
    for note in found.notes if beside_data else [*_meanings(found), *found.notes]:
        shown.print(f"- {note}", style="dim")


def _meanings(found: WhatIf) -> list[str]:
    """What the columns of the gates' table are."""
    rows, fired = found.rows, found.tokens.tokens.fired
    against = ""
    if len(rows) == 1 and fired.any():
        added, dropped = COUNT.text(rows[0]["n_added"]), COUNT.text(rows[0]["n_dropped"])
        against = f" ({added} positions fire in addition, {dropped} no longer)"
    meanings = [
        f"{COUNT.text(len(fired))} positions of {rows[0]['n_problems']} problems; the stored gate, {found.tokens.run.gate}, "
        f"fired at {RATE.text(rows[0]['stored_budget'])} of them{against}.",
        "In brackets: 95 % intervals, bootstrap over problems. problem sd: of the budget between problems.",
    ]
    if found.tokens.disagreement is not None:
        meanings.append(
            f"coverage: share of the total {found.tokens.disagreement} at the positions that fire; best coverage: of as "
            "many positions of largest disagreement."
        )
    if any(trial.realised_budget is not None for trial in found.trials):
        meanings.append("realised budget: of the newest run in the store that used this gate at the same temperature.")
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


def give_positions(listed: pa.Table, to: str, *, as_json: bool) -> None:
    """Write the positions to a file, in the format of its ending, or print them ("-"): as JSON or comma-separated values."""
    from rrti_sgl.programs.reporting.writing import write_atomically
    from rrti_sgl.programs.tables.formats import find_format

    printed = to == "-"
    ending = ("json" if as_json else "csv") if printed else _ending("--positions", Path(to), POSITION_FORMATS)
    encoded = find_format(ending).encode(stored_table(listed))
    if printed:
        say_data(encoded.decode())
    else:
        write_atomically(Path(to), encoded)
        say(f"{COUNT.text(listed.num_rows)} positions are in {to}.", err=True)


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
    rows = found.rows
    condition = "" if rows[0]["lambda"] is None else f", lambda on (W = {rows[0]['window']})"
    label = f"gate on {found.tokens.metric}{condition}, n = {COUNT.text(len(found.tokens.tokens.scores))}"
    caption = f"Expected budget and share of the total {found.tokens.disagreement} at the positions that fire."
    drawing = style.draw("regating", caption, lambda: regating.regating_figure(rows, label, str(found.tokens.disagreement)))
    write_atomically(path, drawing.files[_ending("--figure", path, FIGURE_FORMATS)])
    say(f"The figure is in {path}.", err=True)


def _ending(option: str, path: Path, known: tuple[str, ...]) -> str:
    ending = path.suffix.removeprefix(".").lower()
    if ending not in known:
        raise UsageError(f"{option} {path} has no ending that can be written.", f"Use .{', .'.join(known)}.")
    return ending
