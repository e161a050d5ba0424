"""`rrti stats`: the statistics of the paper from the trace store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rrti_sgl.cli.terminal import console, say

Format = Literal["table", "tsv", "csv", "json"]


def stats(
    name: Annotated[str | None, typer.Argument(help="The statistic; --list names them.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    run: Annotated[list[str] | None, typer.Option(help="Run id, prefix of one, or program; may be repeated.")] = None,
    metric: Annotated[str | None, typer.Option(help="A metric, such as ce, or score: what decided.")] = None,
    base: Annotated[str | None, typer.Option(help="accuracy: run that recovery starts from.")] = None,
    reasoning: Annotated[str | None, typer.Option(help="accuracy: run that is full recovery.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="Other parameter, name=value.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Every part and column, of every run.")] = False,
    format: Annotated[
        Format | None, typer.Option(help="table, tsv, csv or json; a table in a terminal, else tsv.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the statistics.")] = False,
    definitions: Annotated[bool, typer.Option("--definitions", help="Print what each statistic is, as Markdown.")] = False,
) -> None:
    """Print a statistic: its headline in a terminal, every row into a file or a pipe.

    It is of the runs that a report takes for it, in groups that can be compared, or of those that are named. Intervals in
    brackets are 95 % bootstrap intervals over problems; as tsv, csv or json they are the fields `<name>_low` and
    `<name>_high`. `--set resamples=0` leaves them out.
    """
    from rrti_sgl.cli import tables
    from rrti_sgl.cli.parse import name_value
    from rrti_sgl.db.queries import QUERIES, find_query
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.reporting.headlines import everything, headline
    from rrti_sgl.programs.tables import formats
    from rrti_sgl.programs.tables.statistics import printed_tables

    chosen = "json" if json else format or ("table" if console().is_terminal else "tsv")
    if definitions:
        from rrti_sgl.db.definitions import definitions_markdown

        return say(definitions_markdown(), nl=False)
    if list_ or name is None:
        rows = [{"name": query.name, "question": query.question} for query in QUERIES.values()]
        return tables.print_json(rows) if chosen == "json" else tables.print_rows(rows)
    question = find_query(name).question
    named = {"metric": metric, "base": base, "reasoning": reasoning}
    params = {key: value for key, value in named.items() if value is not None}
    params |= dict(name_value("--set", text) for text in parameter or [])
    with Store.open_readonly(db) as store:
        if chosen == "table" and not full:
            return tables.print_fitted(headline(store, name, run or (), **params))
        found = everything(store, name, run or (), **params)
    match chosen:
        case "json":
            tables.print_json(found.to_pylist())
        case "table":
            tables.print_tables(printed_tables(name, question, found))
        case _:
            say(formats.to_csv(found, "\t" if chosen == "tsv" else ",", bare=True).decode(), nl=False)
