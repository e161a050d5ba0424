"""The tables of the trace store, as they follow from the records of `rrti_sgl.records` and from the declared metrics.

Everything that names a column takes it from here: the models that migrations are compared with, the layouts, the rows, and
the schema page. SQL reads `samples` and `tokens`, views of `views.sql` over what lies in these tables and in the Parquet
files of sealed runs.

Keys are on the small tables only: an index on tokens would cost most of the ingest speed, and DuckDB can alter neither an
indexed column nor a table that a foreign key refers to. Small vocabularies (`source`, `status`, ...) are text, because a
native ENUM outlives the table that uses it. Timestamps are UTC without a zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rrti_sgl.columns import Field, Kind, columns_of
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, SampleRecord
from rrti_sgl.science.metrics import METRICS, token_fields

_TYPES: Final[Mapping[Kind, str]] = {
    "text": "VARCHAR", "integer": "INTEGER", "wide": "BIGINT", "real": "DOUBLE", "flag": "BOOLEAN", "time": "TIMESTAMP",
    "json": "JSON", "id": "INTEGER", "mark": "SMALLINT", "number": "DOUBLE", "decided": "DOUBLE", "ids": "INTEGER[]",
    "logprobs": "FLOAT[]",
}  # fmt: skip
SCORES: Final = ("score", *METRICS)
"""Columns of tokens that a statistic can be made of: what decided, and every metric."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column with its type as DuckDB calls it. `null`: it may hold NULL."""

    name: str
    type: str
    comment: str
    null: bool = False
    key: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file."""

    name: str
    comment: str
    columns: tuple[TableColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns by name."""
        return tuple(column.name for column in self.columns)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a row; none for tokens."""
        return tuple(column.name for column in self.columns if column.key)

    @property
    def definition(self) -> str:
        """Columns and key, as CREATE TABLE takes them."""
        columns = [f'"{column.name}" {column.type}{"" if column.null else " NOT NULL"}' for column in self.columns]
        return ", ".join([*columns, *([f"PRIMARY KEY ({', '.join(self.key)})"] if self.key else [])])


TOKEN_FIELDS: Final = token_fields()
_AWAY: Final = "NULL where the files were away when they were to be added up."


def _of_record(record: type[Any]) -> tuple[TableColumn, ...]:
    return tuple(_column(field) for field in columns_of(record))


def _column(field: Field) -> TableColumn:
    return TableColumn(field.name, _TYPES[field.kind], field.comment, field.null, field.key)


_PLACE: Final = (
    TableColumn("run_id", "VARCHAR", "Run that it belongs to."),
    TableColumn("sample_id", "VARCHAR", "Sample that it belongs to."),
    TableColumn("position", "INTEGER", "Generated tokens before it: 0 for the first."),
)
_CODES: Final = "code c for -(exp(c / 27) - 1) / 4 nats, 255 for log 0."
# Columns that the compact layout has in place of one of the exact layout, or beside it.
_COMPACT: Final[Mapping[str, tuple[TableColumn, ...]]] = {
    "base_token_text": (
        TableColumn(
            "base_token_text", "VARCHAR", "Text of that token on its own, where it differs from `token_text`.", True
        ),
    ),
    "reasoning_token_id": (
        TableColumn(
            "reasoning_token_id",
            "INTEGER",
            "What the reasoning model drew there, where it is not the emitted token; NULL else.",
            True,
        ),
    ),
    "score": (
        TableColumn(
            "score_is", "VARCHAR", "Metric that the scores of the sample equal bit for bit; its column is NULL.", True
        ),
    ),
    "base_topk_logprobs": (TableColumn("base_topk_codes", "UTINYINT[]", f"Their log-probabilities: {_CODES}", True),),
    "reasoning_topk_ids": (
        TableColumn(
            "reasoning_topk_ranks",
            "USMALLINT[]",
            "Reasoning model's list as places, from 1, in `base_topk_ids` followed by `reasoning_other_ids`.",
            True,
        ),
        TableColumn("reasoning_other_ids", "INTEGER[]", "Ids of that list that `base_topk_ids` does not hold.", True),
    ),
    "reasoning_topk_logprobs": (
        TableColumn("reasoning_topk_codes", "UTINYINT[]", f"Log-probabilities of that list: {_CODES}", True),
    ),
}


def _compact_columns() -> Iterator[TableColumn]:
    for field in TOKEN_FIELDS:
        if field.kind == "number":
            copied = "; NULL too where `score` is its copy" if field.name in METRICS else ""
            yield TableColumn(field.name, "FLOAT", f"As in `tokens`, in single precision{copied}.", True)
        elif field.kind == "decided" or field.name not in _COMPACT:
            yield _column(field)
        yield from _COMPACT.get(field.name, ())


TABLES: Final = {
    table.name: table
    for table in (
        Table("runs", "One run of one program over one problem set.", _of_record(RunRecord)),
        Table("calibrations", "Thresholds taken from the scores of base rollouts.", _of_record(CalibrationRecord)),
        Table("problems", "The problems that runs worked on, stored once.", _of_record(ProblemRecord)),
        Table("stored_samples", "One generated solution, written whole with its tokens.", _of_record(SampleRecord)),
        Table(
            "exact_tokens",
            "One row for each generated token. Distributions are at temperature 1; NULL means not computed.",
            (*_PLACE, *map(_column, TOKEN_FIELDS)),
        ),
        Table(
            "compact_tokens",
            "Tokens in the compact layout; read them through `tokens`.",
            (*_PLACE, *_compact_columns()),
        ),
        Table(
            "sealed_runs",
            "Runs whose samples and tokens are in Parquet files, one folder each.",
            (
                TableColumn("run_id", "VARCHAR", "Run that was sealed; its folder beside the store has its name.", key=True),
                TableColumn("sealed_at", "TIMESTAMP", "When it was sealed or attached (UTC)."),
                TableColumn("n_samples", "INTEGER", "Samples in the folder."),
                TableColumn("n_tokens", "BIGINT", "Tokens in the folder."),
                TableColumn("n_takeovers", "BIGINT", f"Takeovers of them all; {_AWAY}", True),
                TableColumn("n_graded", "BIGINT", f"Samples with a reference answer; {_AWAY}", True),
                TableColumn("n_correct", "BIGINT", f"Samples that are correct; {_AWAY}", True),
                TableColumn("n_problems", "BIGINT", f"Problems with whole solutions, not continuations; {_AWAY}", True),
                TableColumn("problems", "VARCHAR", "MD5 of the sorted ids of these problems.", True),
            ),
        ),
        Table(
            "store_settings",
            "Settings of the file: `precision` of new tokens, `location` that the views were made for.",
            (
                TableColumn("name", "VARCHAR", "Name of the setting.", key=True),
                TableColumn("value", "VARCHAR", "Its value."),
            ),
        ),
    )
}
"""Every table by its name."""
IN_BOTH_LAYOUTS: Final = tuple(
    column.name for column in TABLES["exact_tokens"].columns if column in TABLES["compact_tokens"].columns
)
"""Columns of tokens that both layouts keep as they were put."""
