"""`rrti export`: the rows of a statistic, a training set, a table or a SELECT as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say

STDOUT = Path("-")


def export(
    source: Annotated[str, typer.Argument(help="A statistic, preferences, distillation, a table or view, or one SELECT.")],
    format: Annotated[str, typer.Option(help="csv, json, parquet, arrow, latex, markdown, tsv or html.")] = "csv",
    out: Annotated[Path, typer.Option(help="The file; - is standard output.")] = STDOUT,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    run: Annotated[
        list[str] | None, typer.Option(help="Of a statistic or training set: run id, prefix of one, or program; repeat.")
    ] = None,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="Of a statistic: parameter, name=value.")] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Stop a SELECT after so many seconds.")] = 300.0,
    memory: Annotated[str, typer.Option(help="Memory that the query may use.")] = "4GB",
) -> None:
    """Write rows as a file: whole or not at all, so that a file that was there stays until the new one is complete."""
    from rrti_sgl import bounds
    from rrti_sgl.cli.parse import name_value
    from rrti_sgl.db.connection import bytes_of
    from rrti_sgl.db.queries import QUERIES
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.reporting.exporting import table_of
    from rrti_sgl.programs.reporting.writing import write_atomically
    from rrti_sgl.programs.tables.formats import find_format

    kind = find_format(format)
    if kind.is_binary and out == STDOUT and sys.stdout.isatty():
        raise UsageError(f"The format {format!r} is binary and standard output is a terminal.", "Name a file with --out.")
    params = dict(name_value("--set", text) for text in parameter or [])
    most = bytes_of(memory)
    with Store.open_readonly(db, memory_limit=memory, spill=source in QUERIES) as store, bounds.memory(most):
        content = kind.encode(table_of(store, source, run=run or None, timeout_s=timeout, most_bytes=most, **params))
    if out == STDOUT and sys.stdout.isatty():
        say(content.decode(), nl=False)
    elif out == STDOUT:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_atomically(out, content)
