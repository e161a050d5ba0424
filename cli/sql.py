"""`rrti sql`: one SELECT on the trace store, which it cannot change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rrti_sgl.cli.terminal import say, say_data

Format = Literal["table", "csv", "json", "parquet"]
Sealed = Annotated[bool, typer.Option("--sealed", help="Sealed runs only, without a lock: while a run writes.")]
Snapshot = Annotated[bool, typer.Option("--snapshot", help="Sealed runs and the last `rrti db snapshot`, without a lock.")]


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT; `rrti db schema` describes tables and views.")],
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    sealed: Sealed = False,
    snapshot: Snapshot = False,
    format: Annotated[Format, typer.Option(help="table, csv, json or parquet (with --out).")] = "table",
    json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Same as --format csv.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write the result to, as Parquet.")] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Stop the query after so many seconds.")] = 300.0,
    memory: Annotated[str, typer.Option(help="Memory that the query may use.")] = "4GB",
) -> None:
    """Ask the trace store with SQL: one statement that only reads, without access to files or the network.

    Numbers are shown as they are stored: shares from 0 to 1. In JSON null is NULL and nothing else; numbers have all their
    digits, bytes are hex digits, and NaN and infinities are texts.
    """
    from rrti_sgl import bounds
    from rrti_sgl.cli import tables
    from rrti_sgl.db.connection import bytes_of
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.reporting.writing import write_atomically
    from rrti_sgl.programs.tables import formats
    from rrti_sgl.programs.tables.table import stored_table

    chosen = "json" if json else "csv" if csv else format
    if (chosen == "parquet") != (out is not None):
        raise UsageError("Parquet goes to a file, and only Parquet does.", "Give both: --format parquet --out FILE.")
    opened = Store.open_snapshot if snapshot else Store.open_sealed if sealed else Store.open_readonly
    most = bytes_of(memory)
    with opened(db, memory_limit=memory, spill=False) as store, bounds.memory(most):
        result = store.sql(query, timeout_s=timeout, most_bytes=most)
    if out is not None:
        write_atomically(out, formats.to_parquet(result))
        say(f"{out}: {result.num_rows} {'row' if result.num_rows == 1 else 'rows'}")
        return
    if chosen == "csv":
        say_data(formats.to_csv(result, bare=True).decode())
    elif chosen == "json":
        say(formats.query_json(result).decode(), nl=False)
    else:
        tables.print_tables([stored_table(result)])
        say(f"{result.num_rows} {'row' if result.num_rows == 1 else 'rows'}")
