"""`rrti sql`: one SELECT on the trace store, which it cannot change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `rrti db schema` describes tables and views.")],
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Stop the query after so many seconds.")] = 300.0,
    memory: Annotated[str, typer.Option(help="Memory that the query may use.")] = "4GB",
) -> None:
    """Ask the trace store with SQL: one statement that only reads, without access to files or the network."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store

    with Store.open_readonly(db, memory_limit=memory) as store:
        result = store.sql(query, timeout_s=timeout)
    rows = result.to_pylist()
    if json:
        tables.print_json(rows)
    elif csv:
        tables.print_csv(rows, result.column_names)
    else:
        tables.print_table(rows, result.column_names)
        typer.echo(f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}")
