"""How the table of a statistic is printed: an estimate with its interval in one cell, one table for each part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rrti_sgl.cli import tables

if TYPE_CHECKING:
    import pyarrow as pa


def print_statistic(table: pa.Table, question: str) -> None:
    """Print the table under its question.

    Rows with different values in a column `part` are printed as tables of their own; columns that are NULL throughout a
    table are left out; a run, program or problem set that all rows share stands in the title.
    """
    rows, title = table.to_pylist(), question
    columns = table.column_names
    for name in ("run_id", "program", "problem_set"):
        found = {row[name] for row in rows} if name in columns else set()
        if len(found) == 1 and len(columns) > 1:
            columns.remove(name)
            shared = found.pop()
            title += "" if shared is None else f"\n{name.removesuffix('_id').replace('_', ' ')} {shared}"
    for part in dict.fromkeys(row.get("part") for row in rows):
        chosen = [row for row in rows if row.get("part") == part]
        shown = [name for name in columns if name != "part" and any(row[name] is not None for row in chosen)]
        printed = [name for name in shown if not _is_bound(name, columns)]
        cells = [{name: _cell(row, name, shown) for name in printed} for row in chosen]
        tables.print_table(cells, printed, title="\n".join(filter(None, (title, part))))
        title = ""


def with_interval(estimate: float, low: float, high: float) -> str:
    """`0.896 [0.880, 0.911]`: as many decimals as show two digits of the interval's width, at most 6."""
    width = high - low
    decimals = min(6, max(0, 1 - math.floor(math.log10(width)))) if width > 0 else 3
    return f"{estimate:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _is_bound(name: str, columns: Sequence[str]) -> bool:
    """Whether the column is the low or high end of another one's interval."""
    return any(name == f"{other}_{end}" for other in columns for end in ("low", "high"))


def _cell(row: Mapping[str, Any], name: str, columns: Sequence[str]) -> Any:
    if f"{name}_low" not in columns or row[name] is None or row[f"{name}_low"] is None:
        return row[name]
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
