"""`rrti stats`: the statistics of the paper from the trace store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say


def stats(
    name: Annotated[str | None, typer.Argument(help="The statistic; --list names them.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    run: Annotated[list[str] | None, typer.Option(help="Run id, prefix of one, or program; may be repeated.")] = None,
    metric: Annotated[str | None, typer.Option(help="A metric, such as ce, or score: what decided.")] = None,
    base: Annotated[str | None, typer.Option(help="accuracy: run that recovery starts from.")] = None,
    reasoning: Annotated[str | None, typer.Option(help="accuracy: run that is full recovery.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="Other parameter, name=value.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the statistics.")] = False,
    definitions: Annotated[bool, typer.Option("--definitions", help="Print what each statistic is, as Markdown.")] = False,
) -> None:
    """Print a statistic for each run that has what it needs, or for the runs that are named.

    Intervals in brackets are 95 % bootstrap intervals over problems; with --json they are the fields `<name>_low` and
    `<name>_high`. `--set resamples=0` leaves them out.
    """
    from rrti_sgl.cli import tables
    from rrti_sgl.cli.parse import name_value
    from rrti_sgl.db.definitions import definitions_markdown
    from rrti_sgl.db.queries import QUERIES, find_query, run_query
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.tables.statistics import printed_tables

    if definitions:
        return say(definitions_markdown(), nl=False)
    if list_ or name is None:
        rows = [{"name": query.name, "question": query.question} for query in QUERIES.values()]
        return tables.print_json(rows) if json else tables.print_rows(rows)
    query = find_query(name)
    named = {"metric": metric, "base": base, "reasoning": reasoning}
    params = {key: value for key, value in named.items() if value is not None}
    params |= dict(name_value("--set", text) for text in parameter or [])
    with Store.open_readonly(db) as store:
        table = run_query(store, name, run=run or None, **params)
    if json:
        return tables.print_json(table.to_pylist())
    return tables.print_tables(printed_tables(name, query.question, table))
