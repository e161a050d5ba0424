"""What becomes of an error: a line that says what is wrong, one that says what to do, and an exit code.

Errors that we raise on purpose have theirs (`rrti_sgl.errors`). What is left is a fault of ours: its traceback goes into a
file, which the line names. Nothing that is said here holds a control code.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import tempfile
import traceback
from typing import Any

import typer

from rrti_sgl.cli import signals
from rrti_sgl.cli.terminal import say
from rrti_sgl.errors import RRTIError, UsageError
from rrti_sgl.programs.tables.safe_text import one_line, visible

_LONG = re.compile(r"\S{1000,}")
FAULT = 70  # EX_SOFTWARE of sysexits.h


class SafeFormatter(logging.Formatter):
    """Log lines without control codes of what they tell."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return visible(super().format(record))


def told(error: BaseException, *, debug: bool) -> int:
    """Tell what a command ended with; returns the exit code.

    Args:
        error: what it raised.
        debug: show the traceback in place of the line.
    """
    if isinstance(error, signals.Stopped):
        return _complain(
            128 + error.number, f"Stopped by {signal.Signals(error.number).name}.", "What was finished is stored."
        )
    if isinstance(error, BrokenPipeError):
        # The reader of our output (`| head`) has gone; nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if type(error).__name__ == "NoArgsIsHelpError":
        say(error.ctx.get_help())  # type: ignore[attr-defined]
        return UsageError.exit_code
    if debug and isinstance(error, Exception):
        say("".join(traceback.format_exception(error)), err=True, nl=False)
        return 1
    if isinstance(error, RRTIError):
        return _complain(error.exit_code, error.message, error.remedy)
    if hasattr(error, "format_message"):  # typer's: an option, an argument or a command is wrong
        return _complain(*_of_typer(error))
    if isinstance(error, typer.Abort):
        return _complain(1, "Aborted.")
    if isinstance(error, UnicodeEncodeError):
        missing = error.object[error.start : error.end]
        message = f"The output is in {error.encoding}, which has no {missing!a}."
        return _complain(1, message, "Set PYTHONIOENCODING=utf-8.")
    if isinstance(error, MemoryError):
        return _complain(
            1, "The command needs more memory than it may use.", "Ask for less, or raise --memory if it has one."
        )
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        return _complain(1, f"{error.strerror}{place}.", "Check the path, its rights and the space that is left.")
    duckdb = sys.modules.get("duckdb")
    if duckdb is not None and isinstance(error, duckdb.Error):
        from rrti_sgl.db.connection import translate

        refused = translate(error)
        return _complain(refused.exit_code, refused.message, "If it says so of every command: take a copy of the store.")
    return _fault(error)


def _of_typer(error: Any) -> tuple[int, str, str]:
    context = getattr(error, "ctx", None)
    return error.exit_code, error.format_message(), f"See: {context.command_path} --help" if context is not None else ""


def _fault(error: BaseException) -> int:
    """Keep the traceback of what nobody foresaw."""
    descriptor, path = tempfile.mkstemp(prefix="rrti-fault-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(traceback.format_exception(error)))
    said = one_line(str(error).strip())
    message = f"rrti failed: {type(error).__name__}{': ' * bool(said)}{said[:200]}"
    return _complain(FAULT, message, f"This is a fault of rrti-sgl. Report it with the traceback in {path}.")


def _shortened(text: str) -> str:
    """A message without the middle of words that nobody reads: names and values of thousands of characters."""
    return _LONG.sub(lambda found: f"{found[0][:80]}...{found[0][-40:]}", text)


def _complain(code: int, message: str, remedy: str = "") -> int:
    typer.secho(visible(f"error: {_shortened(message)}"), fg=typer.colors.RED, err=True)
    if remedy:
        say(f"       {_shortened(remedy)}", err=True)
    return code
