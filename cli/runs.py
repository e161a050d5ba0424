"""`rrti runs`: the runs of a store, grouped by what can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say_next


def runs(
    run: Annotated[list[str] | None, typer.Argument(help="Run ids, prefixes of them, or programs; none: all.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
) -> None:
    """List runs: id, what it is, its budget and its accuracy."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.reporting.listing import list_runs

    with Store.open_readonly(db) as store:
        found = list_runs(store, run or ())
    if json:
        return tables.print_json([row for table in found for row in table.data.to_pylist()])
    tables.print_fitted(found)
    say_next(db, "samples RUN", "compare RUN RUN", "stats accuracy")
