"""How rows are printed: a table for people, JSON or CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rrti_sgl.cli.terminal import console, say
from rrti_sgl.programs.tables.safe_text import one_line

if TYPE_CHECKING:
    from rrti_sgl.programs.tables.table import Table


def print_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a list of row objects; NaN and infinities are null."""
    from rrti_sgl.programs.tables.formats import to_json

    say(to_json(rows).decode(), nl=False)


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables; one that is wider than the terminal is cut into several, each with the columns that name the rows."""
    shown = console()
    for place, table in enumerate(tables):
        shown.print(*([""] if place else []), table, sep="\n")


def print_fitted(tables: Sequence[Table]) -> None:
    """Print tables, of each the columns that there is room for."""
    from rrti_sgl.programs.tables.terminal import fitted

    print_tables([fitted(table, console().width) for table in tables])


def print_rows(rows: Sequence[Mapping[str, Any]], title: str = "") -> None:
    """Print row objects as a table of all their fields."""
    from rrti_sgl.programs.tables.table import rows_table

    if rows:
        print_tables([rows_table(title, rows)])


def print_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line, numbers as columns of these names show them; what is None is left out."""
    from rrti_sgl.programs.tables.kinds import named_text

    width = max(map(len, facts))
    for name, value in facts.items():
        if value is not None:
            say(one_line(f"{name:<{width}}  {named_text(name, value)}"))
