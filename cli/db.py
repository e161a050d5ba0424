"""`rrti db`: the schema of a trace store and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Upgrade, inspect and describe a trace store.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The trace store.")]
DEFAULT = Path("traces.duckdb")


@app.command()
def upgrade(file: File = DEFAULT, revision: Annotated[str, typer.Option(help="Revision to go to.")] = "head") -> None:
    """Bring a store to the newest schema; creates the file if there is none."""
    from rrti_sgl.db.upgrading import upgrade_file

    before, after = upgrade_file(file, revision)
    typer.echo(f"{file}: schema {after}" + (", nothing to do" if before == after else f", was {before or 'empty'}"))


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help='Revision to go back to; "base" drops every table.')],
    file: File = DEFAULT,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a store back to an older schema; what the older schema has no place for is lost."""
    from rrti_sgl.db.upgrading import downgrade_file

    if not yes:
        typer.confirm(f"Take {file} back to {revision}, losing what that schema has no place for?", abort=True)
    before, after = downgrade_file(file, revision)
    typer.echo(f"{file}: schema {after or 'empty'}, was {before}")


@app.command()
def info(
    file: File = DEFAULT, json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False
) -> None:
    """Show the schema revision, the number of rows and the runs of a store."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.schema import describe

    facts, runs = describe(file)
    if json:
        tables.print_json([facts | {"run_list": runs}])
        return
    tables.print_table([{"what": name, "count": str(value)} for name, value in facts.items()], ["what", "count"])
    if runs:
        tables.print_table(runs, list(runs[0]))


@app.command()
def schema() -> None:
    """Print the schema reference as Markdown."""
    from rrti_sgl.db.schema import schema_markdown

    typer.echo(schema_markdown(), nl=False)
