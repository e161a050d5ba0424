"""`rrti samples`: samples of a store, to choose one for `rrti show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.terminal import say_next


def samples(
    run: Annotated[list[str] | None, typer.Argument(help="Run ids, prefixes of them, or programs; none: all.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    right: Annotated[bool, typer.Option("--right", help="Only right ones.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only wrong ones.")] = False,
    flipped: Annotated[bool, typer.Option("--flipped", help="Only those that the base run has otherwise.")] = False,
    takeovers: Annotated[int, typer.Option(min=0, max=bounds.WHOLE, help="Only those with so many takeovers or more.")] = 0,
    problem: Annotated[str, typer.Option(help="Only those of a problem: its id, or the first digits of it.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=bounds.COUNT, help="Show so many.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
) -> None:
    """List samples, those whose takeovers changed most tokens first."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.reporting.listing import SampleFilter, Verdict, list_samples

    if right and wrong:
        raise UsageError("--right and --wrong leave no sample.", "Give one of them.")
    verdict: Verdict | None = "right" if right else "wrong" if wrong else None
    with Store.open_readonly(db) as store:
        found = list_samples(store, run or (), SampleFilter(verdict, flipped, takeovers, problem, limit))
    if json:
        return tables.print_json(found.data.to_pylist())
    tables.print_fitted([found])
    if len(found):
        say_next(db, f"show {found.data['sample_id'][0]}")
