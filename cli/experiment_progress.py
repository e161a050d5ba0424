"""How a grid goes on: a live table in a terminal, plain lines elsewhere. On standard error."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rrti_sgl.cli.terminal import console as safe_console
from rrti_sgl.programs.experiments.estimates import Measured, Waiting, seconds_left
from rrti_sgl.programs.experiments.grid import Cell, Grid
from rrti_sgl.programs.running.runner import Progress
from rrti_sgl.programs.tables.numbers import RATE, SHARE, duration
from rrti_sgl.programs.tables.safe_text import one_line
from rrti_sgl.records import RunRecord

QUIET_S = 60.0  # between two plain lines of one run
WIDTHS = {"samples": 13, "rho": 5, "accuracy": 8, "tok/s": 6, "time": 13}
GAP = 2


@dataclass
class CellState:
    """Where one run stands. `before`: samples that were stored when it began; `tokens` are those of this time."""

    total: int
    done: int = 0
    before: int = 0
    tokens: int = 0
    takeovers: int = 0
    correct: int = 0
    started: float | None = None
    seconds: float = 0.0
    finished: bool = False
    stored: bool = False

    @property
    def new(self) -> int:
        """Samples of this time."""
        return self.done - self.before

    @property
    def speed(self) -> float | None:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds > 0 and self.tokens else None


class GridProgress:
    """Shows the grid while it runs; a context manager.

    Args:
        grid: what will be run.
        n_problems: problems by name of the evaluation.
        in_flight: samples at once. A run's pace is believed once so many have ended: at the first ones most of the work that
            was done is in the others.
        console: where to; None takes standard error.
    """

    def __init__(self, grid: Grid, n_problems: Mapping[str, int], in_flight: int, console: Console | None = None) -> None:
        self._in_flight = in_flight
        self._console = console or safe_console(stderr=True)
        self._cells = grid.all_cells
        self._states = {
            (cell.evaluation.name, cell.label): CellState(n_problems[cell.evaluation.name] * cell.settings.samples)
            for cell in self._cells
        }
        self._current: CellState | None = None
        self._shown = 0.0
        self._live = Live(console=self._console, get_renderable=self.table, refresh_per_second=4)

    def __enter__(self) -> GridProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._current = None
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, cell: Cell) -> None:
        """A run begins."""
        self._current = self._state(cell)
        self._current.started = self._shown = time.monotonic()

    def progress(self, cell: Cell, progress: Progress) -> None:
        """A sample is finished."""
        state = self._state(cell)
        if state.done == 0:
            state.before = progress.done - 1
        state.done, state.tokens = progress.done, progress.tokens
        state.takeovers, state.correct = progress.takeovers, progress.correct
        state.seconds = time.monotonic() - (state.started or 0.0)
        if not self._console.is_terminal and time.monotonic() - self._shown > QUIET_S:
            self._shown = time.monotonic()
            self._print_line(cell, state)

    def end(self, cell: Cell, run: RunRecord, *, stored: bool) -> None:
        """A run is finished."""
        state = self._state(cell)
        state.finished, state.stored = True, stored
        if stored:
            state.before = state.total
        state.done = state.total
        if not self._console.is_terminal:
            self._print_line(cell, state)

    def _state(self, cell: Cell) -> CellState:
        return self._states[cell.evaluation.name, cell.label]

    def left(self, cells: Sequence[Cell] | None = None) -> float | None:
        """Seconds that are left for these cells, by default for all; None while that is not known."""
        states = [(cell, self._state(cell)) for cell in self._cells]
        measured = [
            Measured(cell, state.new, state.tokens, state.seconds)
            for cell, state in states
            if state.finished or state.new >= self._in_flight
        ]
        counted = [(cell, self._state(cell)) for cell in (self._cells if cells is None else cells)]
        waiting = [Waiting(cell, state.total - state.done) for cell, state in counted if state.done < state.total]
        return seconds_left(measured, waiting)

    def _time(self, cells: Sequence[Cell]) -> str:
        """What the cells still take, or else took."""
        left = self.left(cells)
        if left:
            return f"{duration(left)} left"
        spent = sum(self._state(cell).seconds for cell in cells)
        return duration(spent) if left is not None and spent >= 1 else ""

    # -- plain lines ------------------------------------------------------------------------------------------------

    def _print_line(self, cell: Cell, state: CellState) -> None:
        number = list(self._states).index((cell.evaluation.name, cell.label)) + 1
        facts = ["stored already"] if state.stored else [f"{state.done}/{state.total}"]
        if state.new:
            rho, accuracy, speed = _facts(state)
            facts += [f"rho {rho}", f"accuracy {accuracy}", *([f"{speed} tok/s"] if speed else [])]
        left = self.left()
        tail = f"; about {duration(left)} left" if left else ""
        width = len(str(len(self._cells)))
        line = f"[{number:>{width}}/{len(self._cells)}] {cell.name}: {', '.join(facts)}{tail}"
        self._console.print(line, soft_wrap=True)

    # -- the live table ---------------------------------------------------------------------------------------------

    def table(self) -> Table:
        """The table as it stands."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=self._caption(), caption_justify="left")
        room = self._console.width - sum(WIDTHS.values()) - GAP * len(WIDTHS) - GAP
        widest = max(max(len(cell.label) + 2, len(cell.evaluation.name) + 7) for cell in self._cells)
        table.add_column("", overflow="ellipsis", no_wrap=True, width=min(widest, max(room, 10)))
        for name, width in WIDTHS.items():
            table.add_column(name, justify="right", no_wrap=True, width=width)
        for evaluation in dict.fromkeys(cell.evaluation.name for cell in self._cells):
            cells = [cell for cell in self._cells if cell.evaluation.name == evaluation]
            self._add_group(table, evaluation, cells)
        return table

    def _add_group(self, table: Table, evaluation: str, cells: list[Cell]) -> None:
        """The group's line, and a line for each of its runs while one of them is under way."""
        states = [self._state(cell) for cell in cells]
        open_ = any(state is self._current for state in states)
        done, total = sum(s.done for s in states), sum(s.total for s in states)
        finished = sum(s.finished for s in states)
        style = "bold" if open_ else "dim" if finished < len(cells) else ""
        name = Text(f"{one_line(evaluation)}  {finished}/{len(cells)}", style=style)
        table.add_row(name, f"{done:,}/{total:,}", "", "", "", self._time(cells), style=style)
        if open_:
            for cell, state in zip(cells, states, strict=True):
                current = state is self._current
                name = Text(("> " if current and not state.finished else "  ") + one_line(cell.label))
                counted = "stored" if state.stored else f"{state.done:,}/{state.total:,}"
                row_style = "" if state.finished or current else "dim"
                table.add_row(name, counted, *_facts(state), self._time([cell]), style=row_style)

    def _caption(self) -> Text:
        states = list(self._states.values())
        runs, samples = sum(s.finished for s in states), sum(s.done for s in states)
        total = sum(s.total for s in states)
        left = self.left()
        tail = ", done" if runs == len(states) else f", about {duration(left)} left" if left is not None else ""
        return Text(f"{runs} of {len(states)} runs, {samples:,} of {total:,} samples{tail}", style="")


def _facts(state: CellState) -> tuple[str, str, str]:
    """What is known of a run as texts: rate of takeovers, accuracy, and tokens a second of the samples of this time."""
    if not state.new:
        return "", "", ""
    speed = f"{state.speed:,.0f}" if state.speed else ""
    return RATE.text(state.takeovers / max(state.tokens, 1)), SHARE.text(state.correct / state.new), speed
