"""Tables on a terminal: as wide as it is, or cut into parts that fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from rrti_sgl.programs.tables.numbers import MINUS, MISSING
from rrti_sgl.programs.tables.safe_text import one_line
from rrti_sgl.programs.tables.table import INTERVAL, Table, text_of
from rrti_sgl.programs.tables.values import json_text, values_of

if TYPE_CHECKING:
    from rich.console import RenderableType

COLUMN_GAP = 3
NARROW_GAP = 2  # where it saves a table from being cut
EDGES = 2
# Room that a column of text asks for at most before it is broken over lines.
TEXT_WIDTH = 32
# Of a longer list, so many values are shown.
LIST_VALUES = 3
_LONGEST = 1_000_000  # characters of a cell
_TYPED = str.maketrans({MINUS: "-"})  # what one types, searches for and copies
_ASCII = str.maketrans({MINUS: "-", MISSING: "-"})


def parts(table: Table, width: int, *, ascii_only: bool = False) -> Iterator[RenderableType]:
    """Title, rows and notes for rich to print; a table that is too wide as several, each headed by its key columns.

    Args:
        table: what is printed.
        width: of the terminal, characters.
        ascii_only: whether the terminal lacks other characters.
    """
    from rich.text import Text

    if table.title:
        yield Text(table.title, "bold")
    if table.columns:
        characters = _ASCII if ascii_only else _TYPED
        cells = [
            [cell.translate(characters) if number else _readable(cell) for cell in column]
            for number, column in zip(table.is_numeric, _columns(table), strict=True)
        ]
        layout = _layout(table, cells, width - EDGES)
        for chosen in layout.groups:
            yield _grid(table, cells, chosen, layout)
    for note in [*table.notes, *table.necessary_notes]:
        yield Text(note, "dim")


def _columns(table: Table) -> Iterator[Sequence[str]]:
    """The cells of each column; of lists their first values, and how many there are."""
    for column, texts in zip(table.columns, table.texts, strict=True):
        values = table.data.column(column.name)
        if _holds_lists(values.type) and not column.beside:
            yield [_list_text(value) for value in values_of(values)]
        else:
            yield texts


def _holds_lists(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _list_text(values: Sequence[Any] | None) -> str:
    """A list as a line of its first values, numbers in three digits, and how many it has."""
    if values is None or len(values) <= LIST_VALUES:
        return text_of(values)
    first = [f"{value:.3g}" if isinstance(value, float) else json_text(value) for value in values[:LIST_VALUES]]
    return one_line(f"[{', '.join(first)}, ...] ({len(values)})")


def _readable(text: str) -> str:
    """A text as far as anybody reads it; laying out a hundred million characters takes minutes."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def fitted(table: Table, width: int) -> Table:
    """The table without its last columns, as many as there is no room for beside the others; a note names them."""
    shown = table
    while len(shown.columns) > 2:
        if len(_layout(shown, shown.texts, width - EDGES).groups) == 1:
            break
        shown = replace(shown, columns=shown.columns[:-1])
    left = ", ".join(column.label or column.name.replace("_", " ") for column in table.columns[len(shown.columns) :])
    return replace(shown, notes=[*shown.notes, f"In a wider terminal also: {left}."]) if left else shown


@dataclass(frozen=True, slots=True)
class _Layout:
    """How wide each column is, which of them stand side by side, and what is between them."""

    widths: Sequence[int]
    groups: Sequence[Sequence[int]]
    gap: int


def _layout(table: Table, cells: Sequence[Sequence[str]], room: int) -> _Layout:
    tried = []
    for gap in (COLUMN_GAP, NARROW_GAP):
        widths = _widths(table, cells, room, gap)
        tried.append(_Layout(widths, column_groups(table, widths, room, gap), gap))
    return next((layout for layout in tried if len(layout.groups) == 1), tried[0])


def _widths(table: Table, cells: Sequence[Sequence[str]], room: int, gap: int) -> list[int]:
    """Of each column: of its longest cell and its whole heading; where that is too wide, headings and texts are broken."""
    longest = [max(map(len, column), default=0) for column in cells]
    whole = [max(cell, len(heading)) for cell, heading in zip(longest, table.headings, strict=True)]
    if _total(whole, gap) <= room:
        return whole
    words = [max(map(len, heading.split()), default=0) for heading in table.headings]
    broken = [max(pair) for pair in zip(longest, words, strict=True)]
    fixed = [number or column.name.endswith("_id") for number, column in zip(table.is_numeric, table.columns, strict=True)]
    widths = [size if keep else min(size, TEXT_WIDTH) for size, keep in zip(broken, fixed, strict=True)]
    for place, size in enumerate(broken):
        widths[place] += max(0, min(size - widths[place], room - _total(widths, gap)))
    return widths


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def column_groups(table: Table, widths: Sequence[int], room: int, gap: int = COLUMN_GAP) -> list[list[int]]:
    """Places of columns in groups that fit side by side, each headed by the keys as far as these take half the room.

    Args:
        table: whose columns.
        widths: of each, in characters.
        room: in characters.
        gap: between two columns, characters.
    """
    keys = list(range(min(table.keys, len(widths))))
    while len(keys) > 1 and _total([widths[i] for i in keys], gap) > room // 2:
        keys.pop()
    groups = [keys]
    for place in range(len(keys), len(widths)):
        if _total([widths[i] for i in (*groups[-1], place)], gap) > room and len(groups[-1]) > len(keys):
            groups.append([*keys])
        groups[-1] = [*groups[-1], place]
    return groups


def _grid(table: Table, cells: Sequence[Sequence[str]], chosen: Sequence[int], layout: _Layout) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, layout.gap - NARROW_GAP))
    justify: Literal["left", "right"]
    for i in chosen:
        justify = "right" if table.is_numeric[i] else "left"
        heading = table.headings[i]
        if len(heading) > layout.widths[i]:
            heading = heading.replace(INTERVAL, f"\n{INTERVAL.strip()}")
        grid.add_column(Text(heading), justify=justify, width=layout.widths[i], overflow="fold")
    for row in range(table.data.num_rows):
        grid.add_row(*(Text(cells[i][row]) for i in chosen))
    return grid
