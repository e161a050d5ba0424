"""A table: numbers as a statistic or a run gives them, and how each column is shown.

The numbers stay in Arrow, in full. Cells of text are made of them in one place, so that a terminal, Markdown, HTML and LaTeX
show the same; what is shown, title and notes included, holds no control codes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rrti_sgl.programs.tables.kinds import KINDS, ByRow
from rrti_sgl.programs.tables.numbers import COUNT, IDENTIFIER, MISSING, NUMBER, SETTING, SHARE, Kind
from rrti_sgl.programs.tables.safe_text import one_line, visible
from rrti_sgl.programs.tables.values import json_text, values_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

BOUNDS = ("_low", "_high")
INTERVAL = " [95 %]"
BRACKETS = "In brackets: 95 % intervals, bootstrap over problems."
NOT_DEFINED = f"{MISSING}: not defined, or not published."
NO_INTERVAL = (
    "A number without brackets has no interval: too few problems stand behind it, or other problems would not change it "
    "(`rrti stats --definitions`)."
)
# Columns that say of which part of a run a row is, and what that part is.
PARTS = {
    "covered": "Only {parts} of the tokens have the scores (covered): the numbers are of these, not of the run.",
    "graded": "Only {parts} of the samples are graded: the numbers are of these.",
}


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of the data is shown.

    Where the data also has `<name>_low` and `<name>_high`, they stand behind the number as its interval.

    Args:
        name: the column of the data.
        label: heading; None takes the name.
        kind: what its numbers are; None goes by the name, or where that says nothing by the type.
        beside: columns whose numbers stand behind these, after a slash.
    """

    name: str
    label: str | None = None
    kind: Kind | ByRow | None = None
    beside: Sequence[str] = ()


@dataclass(frozen=True, repr=False)
class Table:
    """A table with what a reader needs to judge it. A notebook and a terminal draw it; data frames are made of it.

    Args:
        name: stem of its files.
        title: one line.
        data: all numbers, in full; what CSV and Parquet hold.
        columns: what is shown, in order.
        notes: sentences under the table.
        rule_by: a column of the data; where its value changes, a rule separates the rows.
        brackets: what the intervals are.
    """

    name: str
    title: str
    data: pa.Table
    columns: Sequence[Column]
    notes: Sequence[str] = ()
    rule_by: str | None = None
    brackets: str = BRACKETS

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", visible(self.title))
        object.__setattr__(self, "notes", [one_line(note) for note in self.notes])

    @property
    def headings(self) -> list[str]:
        """One heading a column: its label, the unit, and that there are intervals."""
        return [one_line(self._heading(column)) for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        """The shown rows as text, not yet escaped for any kind of page."""
        return [list(row) for row in zip(*self.texts, strict=True)]

    @cached_property
    def texts(self) -> list[list[str]]:
        """The shown columns as text, the same cells."""
        return [self._cells(column) for column in self.columns]

    @cached_property
    def is_numeric(self) -> list[bool]:
        """Which columns are numbers: they are aligned to the right."""
        return [self._kind(column) is not None for column in self.columns]

    @cached_property
    def numbers(self) -> list[list[float | None]]:
        """What the shown rows are sorted by, in columns of numbers: their first number; None where there is none."""
        found: list[list[float | None]] = []
        for column, number in zip(self.columns, self.is_numeric, strict=True):
            values = self.data.column(column.name).to_pylist() if number else [None] * len(self)
            found.append([None if value is None or value != value else float(value) for value in values])
        return [list(row) for row in zip(*found, strict=True)]

    @property
    def keys(self) -> int:
        """Columns, from the first, that tell a row from the others; they head every part of a table that is cut."""
        kinds = [self._kind(column) for column in self.columns]
        return next((i for i, kind in enumerate(kinds) if kind not in (None, SETTING)), len(kinds)) or 1

    @property
    def all_notes(self) -> list[str]:
        """The notes and those that follow from what is shown."""
        notes = list(self.notes)
        if any(self._has_interval(column.name) for column in self.columns):
            notes.append(self.brackets)
        notes += self.necessary_notes
        if any(MISSING in texts for texts in self.texts):
            notes.append(NOT_DEFINED)
        return notes

    @property
    def necessary_notes(self) -> list[str]:
        """What a reader must know of these very numbers, wherever they are shown."""
        notes = []
        for name, said in PARTS.items():
            if is_partial(self.data, name):
                notes.append(said.format(parts=" and ".join(self._parts(name))))
        return [*notes, *([NO_INTERVAL] if self._lacks_intervals() else [])]

    def _parts(self, name: str) -> list[str]:
        """The shares below 1 of a column, each with the runs that it is of."""
        runs_of: dict[str, list[str]] = {}
        for row in self.data.to_pylist():
            if row[name] is not None and row[name] < 1:
                run = row.get("run") or row.get("run_id")
                of = runs_of.setdefault(SHARE.text(row[name]), [])
                of += [run] if run is not None and run not in of else []
        return [f"{share} ({', '.join(runs)})" if runs else share for share, runs in runs_of.items()]

    def _lacks_intervals(self) -> bool:
        """Whether some numbers have no interval in columns that can have one."""
        for column in self.columns:
            if self._has_bounds(column.name):
                values, lows = (self.data.column(name) for name in (column.name, column.name + BOUNDS[0]))
                if lows.null_count > values.null_count:
                    return True
        return False

    @property
    def rules(self) -> list[int]:
        """Indices of the rows that a rule stands above; none where it would stand above each."""
        if self.rule_by is None:
            return []
        values = self.data.column(self.rule_by).to_pylist()
        changes = [i for i in range(1, len(values)) if values[i] != values[i - 1]]
        return changes if len(changes) < len(values) - 1 or len(values) == 2 else []

    def to_pandas(self) -> Any:
        """All numbers as a pandas data frame."""
        return self.data.to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """What lets polars, DuckDB and others take the table as it is: `polars.DataFrame(table)`."""
        return self.data.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def __repr__(self) -> str:
        """The table as text, 100 characters wide."""
        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, force_jupyter=False, color_system=None, highlight=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints: the table in the width that there is."""
        from rrti_sgl.programs.tables.terminal import parts

        yield from parts(self, options.max_width, ascii_only=options.ascii_only)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from rrti_sgl.programs.tables.html import table_block

        return table_block(self)

    def _heading(self, column: Column) -> str:
        label = column.name.replace("_", " ") if column.label is None else column.label
        kind = self._kind(column)
        unit = f" ({kind.unit})" if isinstance(kind, Kind) and kind.unit else ""
        return label + unit + (INTERVAL if self._has_interval(column.name) else "")

    def _kind(self, column: Column) -> Kind | ByRow | None:
        """What the column's numbers are; None where it holds text."""
        kind = self.data.schema.field(column.name).type
        if pa.types.is_null(kind):
            return column.kind or KINDS.get(column.name)
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            return None
        return column.kind or KINDS.get(column.name) or (COUNT if pa.types.is_integer(kind) else NUMBER)

    def _has_bounds(self, name: str) -> bool:
        return all(name + end in self.data.column_names for end in BOUNDS)

    def _has_interval(self, name: str) -> bool:
        return self._has_bounds(name) and self.data.column(name + BOUNDS[0]).null_count < self.data.num_rows

    def _cells(self, column: Column) -> list[str]:
        cells = self._written(column.name, self._kind(column))
        for name in column.beside:
            cells = [f"{cell} / {other}" for cell, other in zip(cells, self._written(name, self._kind(column)), strict=True)]
        return cells

    def _written(self, name: str, kind: Kind | ByRow | None) -> list[str]:
        values = values_of(self.data.column(name))
        if kind is None:
            return [text_of(value) for value in values]
        kinds = [kind.of(row) for row in self.data.to_pylist()] if isinstance(kind, ByRow) else [kind] * len(values)
        if not self._has_interval(name):
            return [of.text(value) for of, value in zip(kinds, values, strict=True)]
        lows, highs = (self.data.column(name + end).to_pylist() for end in BOUNDS)
        return [of.interval(*cell) for of, *cell in zip(kinds, values, lows, highs, strict=True)]


def rows_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column] | None = None, **more: Any) -> Table:
    """A table of row objects; without `columns` all of them, under their own names."""
    data = pa.Table.from_pylist([*rows])
    return Table(title, title, data, [*map(Column, data.column_names)] if columns is None else columns, **more)


def plain_table(name: str, data: pa.Table, title: str = "") -> Table:
    """Every column under its own name, as what it is known for; intervals stand behind their numbers."""
    return Table(name, title or name, data, [Column(column) for column in shown_columns(data)])


def shown_columns(data: pa.Table) -> list[str]:
    """The columns of a statistic that are shown: no bounds, which stand behind their numbers, and no share that is all 1."""
    names = data.column_names
    return [name for name in names if not is_bound(name, names) and (name not in PARTS or is_partial(data, name))]


def stored_table(data: pa.Table) -> Table:
    """The rows of any query, whose columns may be called anything: numbers as they are, every column for itself."""

    def kind(of: pa.DataType) -> Kind:
        whole = pa.types.is_integer(of) or (pa.types.is_decimal(of) and of.scale == 0)
        return IDENTIFIER if whole else NUMBER

    return Table("rows", "", data, [Column(field.name, kind=kind(field.type)) for field in data.schema])


def is_partial(data: pa.Table, name: str) -> bool:
    """Whether a column is there that says that rows are of a part of their run."""
    return name in data.column_names and any(share is not None and share < 1 for share in data[name].to_pylist())


def is_bound(name: str, columns: Sequence[str]) -> bool:
    """Whether a column is the low or high end of another one's interval."""
    stems = [name.removesuffix(end) for end in BOUNDS if name.endswith(end)]
    return any(stem in columns and all(stem + end in columns for end in BOUNDS) for stem in stems)


def text_of(value: Any) -> str:
    """What is no number, as one line of text: None as a dash, lists as JSON."""
    match value:
        case None:
            return MISSING
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return one_line(json_text(value))
