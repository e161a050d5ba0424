"""A table of the report: numbers as a statistic gives them, and how each column is shown.

The numbers stay in Arrow, in full. Cells of text are made of them in one place, so that Markdown, HTML and LaTeX show the
same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import orjson
import pyarrow as pa

MISSING = "–"
MINUS = "−"
BOUNDS = ("_low", "_high")


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of the data is shown.

    Where the data also has `<name>_low` and `<name>_high`, they stand behind the number as its interval.

    Args:
        name: the column of the data.
        label: heading; empty takes the name.
        unit: written behind the heading in parentheses; "%" also multiplies shares by 100.
        digits: decimals; None shows three significant digits. Whole numbers are shown in full.
        signed: write the plus of positive numbers: for differences.
    """

    name: str
    label: str = ""
    unit: str = ""
    digits: int | None = None
    signed: bool = False

    @property
    def heading(self) -> str:
        """Label and unit."""
        label = self.label or self.name.replace("_", " ")
        return f"{label} ({self.unit})" if self.unit else label

    def format(self, value: Any, digits: int | None = None) -> str:
        """A number as this column shows it; None and NaN as a dash.

        Args:
            value: the number.
            digits: decimals that another number of the same cell has.
        """
        if value is None or value != value:
            return MISSING
        number = float(value) * (100 if self.unit == "%" else 1)
        plus = "+" if self.signed else ""
        if math.isinf(number):
            text = f"{number:{plus}}".replace("inf", "∞")
        elif isinstance(value, int) and self.unit != "%":
            text = f"{value:{plus},}"
        elif number and abs(number) < 1e-4 and self.digits is None and digits is None:
            text = f"{number:{plus}.2e}"
        else:
            text = f"{number:{plus},.{self.decimals(value) if digits is None else digits}f}"
        return text.replace("-", MINUS)

    def decimals(self, value: float) -> int:
        """Decimals of a number in this column."""
        number = abs(float(value) * (100 if self.unit == "%" else 1))
        if self.digits is not None or not number or not math.isfinite(number):
            return self.digits or 0
        return min(6, max(0, 2 - math.floor(math.log10(number))))


@dataclass(frozen=True)
class Table:
    """A table with what a reader needs to judge it.

    Args:
        name: stem of its files.
        title: one line.
        data: all numbers, in full; what CSV and Parquet hold.
        columns: what is shown, in order; the first heads the rows.
        notes: sentences under the table.
        rule_by: a column of the data; where its value changes, a rule separates the rows.
    """

    name: str
    title: str
    data: pa.Table
    columns: Sequence[Column]
    notes: Sequence[str] = ()
    rule_by: str | None = None

    @property
    def headings(self) -> list[str]:
        """One heading a column."""
        return [column.heading for column in self.columns]

    @cached_property
    def cells(self) -> list[list[str]]:
        """The shown rows as text, not yet escaped for any kind of page."""
        shown = [_column_cells(self.data, column) for column in self.columns]
        return [list(row) for row in zip(*shown, strict=True)]

    @cached_property
    def is_numeric(self) -> list[bool]:
        """Which columns are numbers: they are aligned to the right."""
        return [_is_number(self.data.schema.field(column.name).type) for column in self.columns]

    @property
    def all_notes(self) -> list[str]:
        """The notes and those that follow from what is shown."""
        notes = list(self.notes)
        if any(_has_interval(self.data, column) for column in self.columns):
            notes.append("In brackets: 95 % intervals, bootstrap over problems.")
        if any(cell == MISSING for row in self.cells for cell in row):
            notes.append(f"{MISSING}: not defined, or not published.")
        return notes

    @property
    def rules(self) -> list[int]:
        """Indices of the rows that a rule stands above."""
        if self.rule_by is None:
            return []
        values = self.data.column(self.rule_by).to_pylist()
        return [i for i in range(1, len(values)) if values[i] != values[i - 1]]


def plain_table(name: str, data: pa.Table, title: str = "") -> Table:
    """Every column under its own name; intervals stand behind their numbers."""
    intervals = {name for name in data.column_names if _has_interval(data, Column(name))}
    bounds = {name + end for name in intervals for end in BOUNDS}
    return Table(name, title or name, data, [Column(name) for name in data.column_names if name not in bounds])


def _has_interval(data: pa.Table, column: Column) -> bool:
    return all(column.name + end in data.column_names for end in BOUNDS)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _column_cells(data: pa.Table, column: Column) -> list[str]:
    values = data.column(column.name).to_pylist()
    if not _is_number(data.schema.field(column.name).type):
        return [text_of(value) for value in values]
    if not _has_interval(data, column):
        return [column.format(value) for value in values]
    lows, highs = (data.column(column.name + end).to_pylist() for end in BOUNDS)
    return [_with_interval(column, *cell) for cell in zip(values, lows, highs, strict=True)]


def _with_interval(column: Column, value: Any, low: float | None, high: float | None) -> str:
    if value is None or low is None or high is None or low != low or high != high:
        return column.format(value)
    digits = column.decimals(value or high)
    return f"{column.format(value, digits)} [{column.format(low, digits)}, {column.format(high, digits)}]"


def text_of(value: Any) -> str:
    """What is no number, as one line of text: None as a dash, lists as JSON."""
    match value:
        case None:
            return MISSING
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case list() | dict():
            return orjson.dumps(value, default=_plain).decode()
        case _:
            return " ".join(str(value).split("\n")) if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)
