"""How rows are printed: a table for people, JSON or CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

Rows = Sequence[Mapping[str, Any]]
COLUMN_GAP = 3
EDGES = 2
# Room that a column of text asks for at most before it is broken over lines.
TEXT_WIDTH = 32


def print_json(rows: Rows) -> None:
    """Print a list of row objects; NaN and infinities are null."""
    import orjson
    import typer

    def plain(value: Any) -> Any:
        return float(value) if isinstance(value, Decimal) else str(value)

    text = orjson.dumps([dict(row) for row in rows], default=plain, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    typer.echo(text.decode())


def print_csv(rows: Rows, columns: Sequence[str]) -> None:
    """Print comma-separated values under a line of column names; NULL is empty, lists are JSON."""
    import csv
    import sys

    import orjson

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row[name] for name in columns]
        writer.writerow([orjson.dumps(cell).decode() if isinstance(cell, list | dict) else cell for cell in cells])


def print_table(rows: Rows, columns: Sequence[str] | None = None, title: str = "") -> None:
    """Print a table; one that is wider than the terminal is cut into several, each with the first column.

    Args:
        rows: what to print, values by column name.
        columns: their order; None takes the keys of the first row.
        title: printed above the table.
    """
    from rich.console import Console

    console = Console(highlight=False)
    columns = list(columns if columns is not None else rows[0] if rows else ())
    if not columns:
        return
    if title:
        console.print(title, style="bold")
    cells = {name: [format_cell(row[name]) for row in rows] for name in columns}
    widths = {name: _width(name, cells[name]) for name in columns}
    widths |= {name: min(widths[name], TEXT_WIDTH) for name in columns if not _is_fixed(name, rows)}
    for part in _parts(columns, widths, console.width - EDGES):
        console.print(_table(rows, part, cells, widths if part != columns[:1] else {}))


def format_cell(value: Any) -> str:
    """A cell as text: numbers to 3 significant digits (whole numbers in full), NULL empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, float):
        return f"{value:.0f}" if 999.5 <= abs(value) < 1e15 else f"{value:.3g}"
    if isinstance(value, str):
        return value.replace("\n", "\\n").replace("\t", "\\t")
    return str(value)


def _is_number_column(name: str, rows: Rows) -> bool:
    kinds = {type(row[name]) for row in rows} - {type(None)}
    return bool(kinds) and kinds <= {int, float, Decimal}


def _is_fixed(name: str, rows: Rows) -> bool:
    """Numbers and ids are never broken over lines; other text is."""
    return name.endswith("_id") or _is_number_column(name, rows)


def _width(name: str, cells: Sequence[str]) -> int:
    """The width that a column needs: its longest cell, and the longest word of its name."""
    return max(map(len, [*cells, *name.split("_")]))


def _parts(columns: Sequence[str], widths: Mapping[str, int], room: int) -> list[list[str]]:
    """Columns in groups that fit side by side, each headed by the first column."""
    parts = [[columns[0]]]
    for name in columns[1:]:
        used = sum(widths[other] + COLUMN_GAP for other in parts[-1])
        if used + widths[name] > room and len(parts[-1]) > 1:
            parts.append([columns[0]])
        parts[-1].append(name)
    return parts


def _table(rows: Rows, columns: Sequence[str], cells: Mapping[str, Sequence[str]], widths: Mapping[str, int]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        number = _is_number_column(name, rows)
        fixed = widths.get(name) if _is_fixed(name, rows) else None
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(name.replace("_", " "), justify=justify, width=fixed, overflow="fold")
    for index in range(len(rows)):
        table.add_row(*(Text(cells[name][index]) for name in columns))
    return table
