"""The tables of a statistic: one for each of its parts, with the columns that the part has."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.programs.tables.table import Column, Table, is_bound, shown_columns

SHARED = ("run_id", "base_run_id", "program", "problem_set", "metric")


def part_tables(
    name: str,
    title: str,
    data: pa.Table,
    *,
    hidden: Collection[str] = (),
    notes: Sequence[str] = (),
    rule_by: str | None = None,
) -> list[Table]:
    """One table for each value of the column `part`, of the columns that are not NULL throughout; one where there is none.

    Args:
        name: of the statistic.
        title: of the tables; the part is added to it.
        data: rows of the statistic.
        hidden: columns that are not shown.
        notes: under each table.
        rule_by: column whose changes are ruled; where all rows of a table have one value of it, that stands in the title.
    """
    if "part" not in data.column_names:
        return [_table(name, title, data, hidden, notes, rule_by)]
    found = []
    for part in dict.fromkeys(data["part"].to_pylist()):
        rows = data.filter(pc.equal(data["part"], part)).drop_columns("part")
        names = rows.column_names
        of = {name: name.rpartition("_")[0] if is_bound(name, names) else name for name in names}
        used = [name for name in names if rows[of[name]].null_count < rows.num_rows]
        titled = ": ".join(filter(None, [title, part.replace("_", " ")]))
        found.append(_table(f"{name}-{part}", titled, rows.select(used), hidden, notes, rule_by))
    return found


def printed_tables(name: str, question: str, data: pa.Table) -> list[Table]:
    """The parts of a statistic as they are printed, the first under the question.

    A run, program, problem set or metric that all rows of a table share stands in its title. Runs that have several rows in
    a part, as a rule, have a table each.
    """
    printed: list[Table] = []
    for part in part_tables(name, "", data):
        rows = part.data
        runs = list(dict.fromkeys(rows["run_id"].to_pylist())) if "run_id" in rows.column_names else []
        several = 1 < len(runs) <= rows.num_rows / 2
        for chosen in [rows.filter(pc.equal(rows["run_id"], run)) for run in runs] if several else [rows]:
            printed.append(_without_shared(replace(part, data=chosen), "" if printed else question))
    return printed


def _without_shared(table: Table, question: str) -> Table:
    """The table with what all rows share in the title."""
    rows = table.data
    values = {name: set(rows[name].to_pylist()) for name in SHARED if name in rows.column_names}
    shared = {name: found.pop() for name, found in values.items() if len(found) == 1}
    said = {name: value for name, value in shared.items() if value is not None}
    if str(said.get("run_id", "")).startswith(str(said.get("program", ""))):
        said.pop("program", None)
    facts = [f"{name.removesuffix('_id').replace('_', ' ')} {value}" for name, value in said.items()]
    title = "\n".join(filter(None, [question, ", ".join(filter(None, [table.title, *facts]))]))
    return replace(table, title=title, columns=_with_values(rows, [c for c in table.columns if c.name not in shared]))


def _with_values(data: pa.Table, columns: Sequence[Column]) -> list[Column]:
    """The columns that are not NULL throughout."""
    return [column for column in columns if data[column.name].null_count < max(data.num_rows, 1)]


def _table(
    name: str, title: str, data: pa.Table, hidden: Collection[str], notes: Sequence[str], rule_by: str | None
) -> Table:
    shown = [Column(column) for column in shown_columns(data) if column not in hidden]
    values = set(data[rule_by].to_pylist()) if rule_by else set()
    if len(values) == 1:
        title, rule_by, shown = f"{title} ({values.pop()})", None, [column for column in shown if column.name != rule_by]
    return Table(name, title, data, _with_values(data, shown), notes, rule_by)
