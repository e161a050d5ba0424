"""`rrti`: the commands, and what becomes of errors.

An error that we raise on purpose is one line (and what to do about it) on standard error and an exit code of its own, see
`rrti_sgl.errors`; the traceback is for `--debug`. Ctrl-C and SIGTERM end a command in order, with exit codes 130 and 143.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Annotated

import typer

from rrti_sgl import __version__
from rrti_sgl.cli import (
    calibrate,
    db,
    demo,
    experiment,
    export,
    grade,
    report,
    run,
    score,
    serve,
    show,
    signals,
    sql,
    stats,
    whatif,
)
from rrti_sgl.errors import RRTIError

app = typer.Typer(
    name="rrti",
    help="Find where a base model's reasoning goes wrong, and put it right with a few tokens of a reasoning model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command(name="serve")(serve.serve)
app.command(name="calibrate")(calibrate.calibrate)
app.command(name="run")(run.run)
app.command(name="experiment")(experiment.experiment)
app.command(name="grade")(grade.grade)
app.command(name="score")(score.score)
app.command(name="stats")(stats.stats)
app.command(name="whatif")(whatif.whatif)
app.command(name="show")(show.show)
app.command(name="sql")(sql.sql)
app.command(name="export")(export.export)
app.command(name="report")(report.report)
app.add_typer(db.app, name="db")
app.command(name="demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"rrti-sgl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Set up logging for every command."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


def main() -> None:
    """Entry point of the console script."""
    signals.install()
    try:
        app()
    except RRTIError as error:
        if "--debug" in sys.argv:
            raise
        _complain(error.message, error.remedy)
        sys.exit(error.exit_code)
    except signals.Stopped as stopped:
        _complain(f"Stopped by {signal.Signals(stopped.number).name}.", "What was finished is stored.")
        sys.exit(128 + stopped.number)
    except UnicodeEncodeError as error:
        if "--debug" in sys.argv:
            raise
        missing = error.object[error.start : error.end]
        _complain(f"The output is in {error.encoding}, which has no {missing!a}.", "Set PYTHONIOENCODING=utf-8.")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output (`| head`) has gone; nothing is wrong


def _complain(message: str, remedy: str) -> None:
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    if remedy:
        typer.echo(f"       {remedy}", err=True)


if __name__ == "__main__":
    main()
