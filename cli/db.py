"""`rrti db`: the schema of a trace store and what is in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.help import Command, Group
from rrti_sgl.cli.parse import with_signature
from rrti_sgl.cli.terminal import ask, say
from rrti_sgl.errors import UsageError

if TYPE_CHECKING:
    from rrti_sgl.db.attaching import Attached

app = typer.Typer(cls=Group, help="Upgrade, inspect, check and keep a trace store.", no_args_is_help=True)


File = Annotated[Path, typer.Argument(help="The trace store.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run; `rrti db info` lists them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print a list of row objects.")]
Db = Annotated[Path | None, typer.Option("--db", help="The trace store, in place of FILE.", show_default=False)]
DEFAULT = Path("traces.duckdb")


def on_store(function: Callable[..., None]) -> Callable[..., None]:
    """A command whose store is its last argument, or is named by `--db` as everywhere.

    Raises:
        UsageError: of the command: it is named both ways.
    """
    own = inspect.signature(function, eval_str=True).parameters
    named = inspect.Parameter("db", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Db)

    def called(*, db: Path | None, **values: Any) -> None:
        if db is not None and "paths" in own:
            values["paths"] = [*values["paths"], str(db)]
        elif db is not None:
            if values["file"] != DEFAULT:
                raise UsageError(f"--db {db} and {values['file']} both name the store.", "Name it once.")
            values["file"] = db
        function(**values)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own.values(), named)]
    with_signature(called, function, parameters)
    return called


@app.command(cls=Command)
@on_store
def upgrade(file: File = DEFAULT, revision: Annotated[str, typer.Option(help="Revision to go to.")] = "head") -> None:
    """Bring a store to the newest schema; creates the file if there is none."""
    from rrti_sgl.db.upgrading import upgrade_file

    before, after = upgrade_file(file, revision)
    say(f"{file}: schema {after}" + (", nothing to do" if before == after else f", was {before or 'empty'}"))


@app.command(cls=Command)
@on_store
def downgrade(
    revision: Annotated[str, typer.Argument(help='Revision to go back to; "base" drops every table.')],
    file: File = DEFAULT,
    yes: Yes = False,
) -> None:
    """Take a store back to an older schema; what the older schema has no place for is lost."""
    from rrti_sgl.db.upgrading import downgrade_file

    if not yes:
        ask(f"Take {file} back to {revision}, losing what that schema has no place for?")
    before, after = downgrade_file(file, revision)
    say(f"{file}: schema {after or 'empty'}, was {before}")


@app.command(cls=Command)
@on_store
def info(file: File = DEFAULT, json: Json = False) -> None:
    """Show the schema revision, the number of rows and the runs of a store."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.schema import describe

    facts, runs = describe(file)
    if json:
        tables.print_json([facts | {"run_list": runs}])
        return
    tables.print_facts(facts)
    tables.print_rows(runs)


@app.command(cls=Command)
@on_store
def snapshot(
    file: File = DEFAULT,
    timeout: Annotated[float, typer.Option(min=0.001, max=bounds.SECONDS, help="Wait so many seconds for it.")] = 60.0,
) -> None:
    """Have the process that writes a store make what it holds readable: `rrti sql --snapshot`."""
    from rrti_sgl.db import snapshots
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import StoreLockedError

    try:
        Store.open_readonly(file).close()
    except StoreLockedError:
        snapshots.request(file, timeout)
        with Store.open_snapshot(file) as store:
            rows = store.sql("SELECT count(*) AS runs, sum(n_samples)::BIGINT AS samples FROM run_view").to_pylist()
        say(f"{file}: {rows[0]['runs']} runs with {rows[0]['samples']} samples can be read with --snapshot")
    else:
        say(f"{file}: nobody writes it; read it as it is")


@app.command(cls=Command)
@on_store
def seal(
    run: Run,
    file: File = DEFAULT,
    unfinished: Annotated[bool, typer.Option(help="Also a run whose process died; it cannot be continued.")] = False,
) -> None:
    """Move a finished run into Parquet files beside the store, which need no lock to be read."""
    from rrti_sgl.db import relations, sealing

    manifest = sealing.seal(file, run, unfinished=unfinished)
    folder = relations.run_folder(file, run)
    say(f"{folder}: {manifest.n_samples} samples, {manifest.n_tokens} tokens. `rrti db vacuum` frees their space.")


@app.command(cls=Command)
@on_store
def unseal(run: Run, file: File = DEFAULT) -> None:
    """Take a sealed run back into the store's file, to continue or to migrate it."""
    from rrti_sgl.db import sealing

    say(f"{file}: run {run} is open again, {sealing.unseal(file, run)} tokens")


@app.command(cls=Command)
@on_store
def attach(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDERS [FILE]",
            help="Folders of sealed runs or of parts of runs, or folders above them; then the trace store, if it is not "
            f"{DEFAULT}. It is made when it is missing.",
        ),
    ],
) -> None:
    """Merge what others wrote into a store: sealed runs of other stores, and Parquet parts of runs.

    What the store has already is left as it is, so attaching twice changes nothing. Settings, problems or samples that
    contradict it are refused, and nothing is attached then.
    """
    from rrti_sgl.db import attaching

    *folders, last = map(Path, paths)
    file = DEFAULT if last.is_dir() else last
    folders += [last] if last.is_dir() else []
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UsageError(f"There is no folder {missing[0]}.", "Name folders, and then the store.")
    if not folders:
        raise UsageError(f"There is no folder {last}, and none is named before it.", "Name folders, and then the store.")
    tell_attached(file, attaching.attach(file, folders))


def tell_attached(file: Path, runs: Iterable[Attached]) -> None:
    """What became of each run in a store, a line each."""
    for run in runs:
        known = f"; {run.known_samples} samples were there" if run.known_samples else ""
        say(f"{file}: run {run.run_id} ({run.status}): {run.samples} new samples, {run.tokens} tokens{known}")


@app.command(cls=Command)
@on_store
def check(file: File = DEFAULT, json: Json = False) -> None:
    """Verify counts, references, decisions and the files of sealed runs; exit code 1 and a line for what is wrong."""
    from dataclasses import asdict

    from rrti_sgl.cli import tables
    from rrti_sgl.db.checking import check as find

    found = [asdict(finding) for finding in find(file)]
    if json:
        tables.print_json(found)
    else:
        tables.print_rows(found)
        say(f"{file}: {len(found) or 'no'} {'finding' if len(found) == 1 else 'findings'}")
    raise typer.Exit(1 if found else 0)


@app.command(cls=Command)
@on_store
def vacuum(file: File = DEFAULT) -> None:
    """Give back the space in the file that deleted and sealed runs left."""
    from rrti_sgl.db import maintenance

    before, after = maintenance.vacuum(file)
    say(f"{file}: {after} bytes, were {before}")


@app.command(cls=Command)
@on_store
def delete(run: Run, file: File = DEFAULT, yes: Yes = False) -> None:
    """Delete a run and what belongs to it alone: samples, tokens, calibrations and problems that no other run uses."""
    from rrti_sgl.db import maintenance

    plan = maintenance.plan_deletion(file, run)
    goes = ", ".join(f"{count} {name}" for name, count in plan.rows.items() if count)
    say(f"Run {run} ({plan.status}{', sealed' if plan.folder else ''}) goes with: {goes}.")
    if plan.folder:
        say(f"The folder {plan.folder} goes with it, {plan.folder_bytes / 1e6:,.1f} MB.")
    if plan.continued:
        say(f"{plan.continued} samples of other runs continue samples of it; they stay.")
    if not yes:
        ask("Delete it?")
    maintenance.delete_run(file, run)
    say(f"{file}: run {run} deleted")


@app.command(cls=Command)
@on_store
def precision(
    precision: Annotated[str, typer.Argument(help="compact (the default) or exact: every number as computed.")],
    file: File = DEFAULT,
) -> None:
    """Say how precisely tokens are stored from now on; `rrti db schema` states the bounds."""
    from typing import cast

    from rrti_sgl.db.layouts import Precision
    from rrti_sgl.db.store import Store

    with Store.open(file, precision=cast(Precision, precision)):
        say(f"{file}: tokens are stored {precision} from now on")


@app.command(cls=Command)
def schema() -> None:
    """Print the schema reference as Markdown."""
    from rrti_sgl.db.schema import schema_markdown

    say(schema_markdown(), nl=False)
