"""What a command says to people: on either stream without any control code of what it says, styles apart."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rrti_sgl.programs.tables.safe_text import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text and end the line; see `visible`."""
    typer.echo(visible(text), err=err, nl=nl)


def say_next(db: Path, *commands: str) -> None:
    """What to type next about a store."""
    store = "" if db == Path("traces.duckdb") else f" --db {shlex.quote(str(db))}"
    say("Next:\n" + "\n".join(f"  rrti {command}{store}" for command in commands))


def say_data(text: str) -> None:
    """Print a document of data: as it is into a file or a pipe; where somebody reads it, its control codes are seen."""
    import sys

    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)  # typer would leave codes out


def ask(question: str) -> None:
    """Go on after a yes.

    Raises:
        typer.Abort: it was none.
    """
    typer.confirm(visible(question), abort=True)


def console(**options: Any) -> Console:
    """A console of rich for plain text: nothing that is printed is read as markup, and no text brings codes of its own."""
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

    return SafeConsole(**{"markup": False, "emoji": False, "highlight": False, **options})
