"""`rrti`: the commands, and what becomes of errors.

An error that we raise on purpose is one line (and what to do about it) on standard error and an exit code of its own, see
`rrti_sgl.errors`; the traceback is for `--debug`. Ctrl-C and SIGTERM end a command in order, with exit codes 130 and 143.
What nobody foresaw is one line, too (`rrti_sgl.cli.failing`), with exit code 70.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Annotated, Any

import typer

from rrti_sgl import __version__
from rrti_sgl.cli import signals
from rrti_sgl.cli.failing import SafeFormatter, told
from rrti_sgl.cli.help import Command, Group
from rrti_sgl.cli.spelling import Options
from rrti_sgl.errors import UsageError, spelled

# Each is the module of its name; `db` has commands of its own.
COMMANDS = (
    *("serve", "api", "calibrate", "run", "counterfactual", "experiment", "grade", "score", "runs", "samples", "compare"),
    *("stats", "whatif", "show", "view", "sql", "export", "report", "push", "pull", "db", "demo"),
)


# Questions to a store are answered in half a second. No part of them needs pandas, nor calls a user's class.
QUESTIONS = ("sql", "stats", "runs", "samples", "compare", "show", "db")
PATHS = (
    *("--db", "--out", "--log-dir", "--input", "--api-key-file", "--endpoint-key-file", "--tokenizer", "--figure"),
    *("--positions", "--export", "--parts"),
)


class WithoutPandas(MetaPathFinder):
    """Pandas is not there: DuckDB and Arrow load it for any parameter, which takes as long as answering."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse that one module."""
        if name == "pandas":
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)


class Commands(Group):
    """The commands, each loaded when it is asked for: the options of a run are made from its settings, which takes time."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in order; all are loaded."""
        return [name for name in COMMANDS if self.get_command(ctx, name)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None where there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module = import_module(f"rrti_sgl.cli.{cmd_name}")
            if hasattr(module, "app"):
                self.commands[cmd_name] = typer.main.get_group(module.app)
            else:
                alone = typer.Typer(**STYLE)
                alone.command(cmd_name, cls=Command)(getattr(module, cmd_name))
                self.commands[cmd_name] = typer.main.get_command(alone)
            self.commands[cmd_name].name = cmd_name
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run what is typed; messages name options."""
        with spelled(Options()):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is typed.

        Raises:
            UsageError: it is `run counterfactual`, which has options that `run` does not know.
        """
        if args[0] == "run" and "counterfactual" in args:
            raise UsageError("`counterfactual` is a command of its own.", "Use: rrti counterfactual SAMPLE [--position N]")
        if args[0] not in COMMANDS:
            self.list_commands(ctx)  # for the suggestion
        return super().resolve_command(ctx, args)


STYLE: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": "markdown"}
app = typer.Typer(
    name="rrti",
    help="Find where a base model's reasoning goes wrong, and put it right with a few tokens of a reasoning model.",
    cls=Commands,
    no_args_is_help=True,
    **STYLE,
)


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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)


def run(arguments: Sequence[str]) -> int:
    """One command; whatever it ends with is told, and its exit code returned."""
    try:
        _refuse_half_characters(arguments)
        _refuse_no_path(arguments)
        code = app(list(arguments), prog_name="rrti", standalone_mode=False)
    except (Exception, signals.Stopped) as error:
        return told(error, debug="--debug" in arguments)
    return code if isinstance(code, int) else 0


def _refuse_half_characters(arguments: Sequence[str]) -> None:
    """Bytes that are no UTF-8 come as halves of characters, which no store and no server takes."""
    for place, text in enumerate(arguments):
        if any("\ud800" <= character <= "\udfff" for character in text):
            after = f" after {arguments[place - 1]}" if place else ""
            raise UsageError(f"The argument {text!a}{after} is no UTF-8.", "Write it, or name the file, in UTF-8.")


def _refuse_no_path(arguments: Sequence[str]) -> None:
    """An empty path would be the folder that one is in, where a variable of a script was not set."""
    for option, value in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, rest = option.partition("=")
        given = rest if equals else value
        if name in PATHS and given is not None and not given.strip():
            raise UsageError(f"{name} '' is no path.", "Name a file or a folder.")
    if arguments and arguments[0] == "db" and not all(value.strip() for value in arguments):
        raise UsageError("'' is no path, and no id of a run.", "Name a file, a folder or a run.")


def main() -> None:
    """Entry point of the console script."""
    signals.install()
    if set(QUESTIONS) & set(sys.argv[1:3]):
        sys.meta_path.insert(0, WithoutPandas())
        gc.set_threshold(100_000)  # imports alone would have the whole heap searched for garbage several times
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
