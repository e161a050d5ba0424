"""`rrti compare A B`: two runs on the same problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.terminal import say_next


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run id, a prefix of it, or a program: the newest of it.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The run that is compared with it.")],
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    limit: Annotated[int, typer.Option(min=0, max=bounds.COUNT, help="Show so many samples.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print the tables as one object of row objects.")] = False,
) -> None:
    """Compare two runs: budget, accuracy, the difference with its interval, and the samples that only one has right."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.reporting.listing import compare_runs

    with Store.open_readonly(db) as store:
        found = compare_runs(store, first, second, limit)
    if json:
        return tables.print_json([{table.name: table.data.to_pylist() for table in found}])
    tables.print_fitted(found)
    if len(found[-1]):
        say_next(db, f"show {found[-1].data['second'][0]}")
