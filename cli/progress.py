"""The progress of long work on standard error: samples, tokens/s and takeover rate of runs, or the stage of a report."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from rrti_sgl.cli.terminal import console, say
from rrti_sgl.programs.running.runner import OnProgress, Progress
from rrti_sgl.programs.tables.numbers import RATE
from rrti_sgl.programs.tables.safe_text import one_line


class RunProgress:
    """Shows one run after another on standard error; a context manager."""

    def __init__(self) -> None:
        self._bars = RichProgress(
            TextColumn("{task.description:<25}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]:<21}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console(stderr=True),
        )

    def __enter__(self) -> RunProgress:
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()

    def track(self, label: str) -> OnProgress:
        """A new line for one run, and what updates it: called by the runner after every sample."""
        task = self._bars.add_task(one_line(label), total=None, visible=False, rates="")
        start = time.monotonic()
        shown = 0.0

        def update(progress: Progress) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < 0.1 and progress.done < progress.total:
                return
            shown = now
            seconds = max(now - start, 1e-9)
            rho = progress.takeovers / max(progress.tokens, 1)
            rates = f"{progress.tokens / seconds:4.0f} tok/s, rho {RATE.text(rho)}"
            self._bars.update(task, total=progress.total, completed=progress.done, rates=rates, visible=True)

        return update


class StageProgress:
    """Says which stage of some work goes on: in a terminal on one line that goes at the end, else a line a stage."""

    def __init__(self) -> None:
        to = console(stderr=True)
        self._bars = RichProgress(
            TextColumn("{task.description:<32}", markup=False), BarColumn(), MofNCompleteColumn(), console=to, transient=True
        )
        self._task = self._bars.add_task("", total=None, visible=False) if to.is_terminal else None

    def __enter__(self) -> StageProgress:
        if self._task is not None:
            self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._task is not None:
            self._bars.stop()

    def __call__(self, title: str, place: int | None = None, total: int | None = None) -> None:
        """A stage begins: its number, and of how many; without a number it is what comes after these."""
        if self._task is None:
            say(f"{place}/{total} {title}" if place else title, err=True)
            return
        self._bars.update(self._task, description=one_line(title), total=total, completed=place, visible=True)
