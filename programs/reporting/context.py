"""What every section of the report is made from, and what it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.queries import find_query, parameters_of, run_with_reader
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.published import Published
from rrti_sgl.programs.reporting.runs import RunSelection
from rrti_sgl.programs.tables.table import BOUNDS, Table

if TYPE_CHECKING:
    from rrti_sgl.programs.reporting.figures.style import Drawing

# Curves that one pair of axes can hold.
MAX_SERIES = 4


@dataclass(frozen=True, slots=True)
class Content:
    """What a section shows. `missing` says of what it could not be made, and why."""

    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ReportContext:
    """The store and the runs that the report is of. Its statistics read and sort the tokens once, together."""

    reader: TokenReader
    selection: RunSelection
    published: Published

    @property
    def store(self) -> Store:
        """Where the runs are."""
        return self.reader.store

    def query(self, name: str, runs: Sequence[str], labels: Mapping[str, str] | None = None, **params: Any) -> pa.Table:
        """A statistic of runs that belong together, with a column `run` in front.

        Args:
            name: of the statistic.
            runs: their ids.
            labels: what each is called; None: as in the whole report.
            **params: of the statistic; those that are None are left to it.
        """
        given = {key: value for key, value in params.items() if value is not None}
        data = run_with_reader(self.reader, name, run=list(runs), **given)
        if "run_id" not in data.column_names:
            return data
        names = labels or self.selection.labels
        return data.add_column(0, "run", pa.array([names.get(run, run) for run in data["run_id"].to_pylist()], pa.string()))

    def points(self, name: str, runs: Sequence[str], **params: Any) -> pa.Table:
        """Like `query`, without intervals: for the points of a curve."""
        resamples: dict[str, Any] = {"resamples": 0} if "resamples" in parameters_of(find_query(name)) else {}
        return self.query(name, runs, **params, **resamples)

    def each(self, name: str, runs: Sequence[str], **params: Any) -> Gathered:
        """A statistic of each run by itself; a run that it cannot be made of is left out with the reason.

        Raises:
            UsageError: it can be made of none; the message holds the reasons.
        """
        tables, missing = [], []
        for run in runs:
            try:
                tables.append(self.query(name, [run], **params))
            except UsageError as error:
                missing.append(str(error))
        if not tables:
            raise UsageError(" ".join(dict.fromkeys(missing)))
        return Gathered(pa.concat_tables(tables, promote_options="default"), missing)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The rows of several runs, and why other runs have none."""

    data: pa.Table
    missing: Sequence[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        return list(self.data.to_pylist())


@dataclass(frozen=True, slots=True)
class Section:
    """One statistic of the paper in the report.

    Args:
        name: the statistic.
        title: heading.
        build: makes its content.
    """

    name: str
    title: str
    build: Callable[[ReportContext], Content] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """A section with its content, or without any and the reason as its only remark."""

    section: Section
    question: str
    content: Content


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report, not yet written.

    Args:
        title: of its pages.
        findings: what was found, in paragraphs.
        conditions: what the runs were made with.
        caution: what a reader must know before any other number, in paragraphs.
        legend: what is said of all tables at the head, by the note of a table that says it.
        runs: the runs.
        sections: one for each statistic.
        explored: whether a page of the samples that are shown lies beside it, in the folder `explorer`.
    """

    title: str
    findings: Sequence[str]
    conditions: str
    caution: Sequence[str]
    legend: Mapping[str, str]
    runs: Table
    sections: Sequence[Finished]
    explored: bool = False

    @property
    def tables(self) -> list[Table]:
        """All tables in order."""
        return [self.runs, *(table for finished in self.sections for table in finished.content.tables)]

    @property
    def drawings(self) -> list[Drawing]:
        """All figures in order."""
        return [drawing for finished in self.sections for drawing in finished.content.drawings]


def curves_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by what their run and metric are called, in order; as many curves as one pair of axes can hold."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['run']}, {row['metric']}", []).append(row)
    return dict(islice(found.items(), MAX_SERIES))


def with_column(data: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType | None = None) -> pa.Table:
    """The data with one more column at the end."""
    return data.append_column(name, pa.array(values, kind or pa.float64()))


def wide(
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    name_of: Callable[[Mapping[str, Any]], str],
    value: str = "value",
    bounds: Sequence[str] = BOUNDS,
) -> pa.Table:
    """One row for each combination of `keys`; each long row's value, with its interval, becomes the column that it names.

    Args:
        rows: with a column of values, and maybe of the ends of their intervals.
        keys: columns that stay.
        name_of: the new column of a row.
        value: the column of values.
        bounds: endings of the columns of the intervals' ends; none leaves these out.

    Raises:
        ValueError: two rows give the same column of the same keys.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        target = found.setdefault(tuple(row[key] for key in keys), {key: row[key] for key in keys})
        name = name_of(row)
        if name in target:
            raise ValueError(f"two values of {name}")
        target |= {name + end: row[value + end] for end in ("", *bounds) if value + end in row}
    columns = list(dict.fromkeys(name for target in found.values() for name in target))
    return pa.Table.from_pylist([{name: target.get(name) for name in columns} for target in found.values()])
