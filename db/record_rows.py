"""The one place that turns records into rows and rows into records.

Rows of the small tables are tuples in the order of the record's fields; token rows are written by `rrti_sgl.db.layouts`
and read here. What a record calls "not computed" (NaN in a float column, -1 in an id column) is NULL in a row. A top-k row
is a list of the ids that are there: ids of -1 are padding and left out with their log-probabilities, a row of nothing but
padding is a NULL list.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from rrti_sgl.records import TokenColumns
from rrti_sgl.sinks.refusals import TOKEN_FIELDS

Record = TypeVar("Record")

TEXT_COLUMNS = ("token_text", "base_token_text", "source", "planning_tag")
ID_COLUMNS = ("token_id", "base_token_id", "reasoning_token_id")
# Scores that a statistic can be asked for, in the order of the documentation.
METRICS = ("score", "ce", "kl", "reverse_kl", "js", "tv", "entropy_base", "entropy_reasoning")


def fields_of(record_type: type[Any]) -> list[str]:
    """Field names of a record: the columns of its table."""
    return [field.name for field in dataclasses.fields(record_type)]


def row_of(record: Any) -> list[Any]:
    """The row of a record: mappings as JSON text, times as UTC without a zone."""
    return [_to_cell(getattr(record, name)) for name in fields_of(type(record))]


def record_of(record_type: type[Record], row: Mapping[str, Any]) -> Record:
    """The record of a row (column name -> value); columns that the record does not have are left out."""
    hints = {field.name: str(field.type) for field in dataclasses.fields(record_type)}  # type: ignore[arg-type]
    return record_type(**{name: _from_cell(row[name], hint) for name, hint in hints.items()})


def _to_cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _from_cell(value: Any, hint: str) -> Any:
    if isinstance(value, str) and hint.startswith("Mapping"):
        return json.loads(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def rows_to_arrow(records: Sequence[Any]) -> pa.Table:
    """The rows of records of one type, as `row_of` makes them, with a column for each field."""
    names = fields_of(type(records[0]))
    columns = zip(*(row_of(record) for record in records), strict=True)
    return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})


def tokens_from_arrow(table: pa.Table, k: int) -> TokenColumns:
    """Token rows of one sample, in order of position, as columns; top-k arrays are (T, k)."""
    columns: dict[str, Any] = {}
    for name in TOKEN_FIELDS:
        column = table.column(name).combine_chunks()
        if name.endswith("_ids"):
            columns[name] = _topk_array(column, k, -1, np.dtype(np.int32))
        elif name.endswith("_logprobs"):
            columns[name] = _topk_array(column, k, np.nan, np.dtype(np.float32))
        elif name in TEXT_COLUMNS:
            columns[name] = column.to_pylist()
        elif name == "fired":
            columns[name] = column.to_numpy(zero_copy_only=False).astype(bool)
        elif name in ID_COLUMNS or name == "planted":
            columns[name] = column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return TokenColumns(**columns)


def _topk_array(column: Any, k: int, missing: float, dtype: np.dtype[Any]) -> Any:
    """A list column of length T as a (T, k) array, padded with `missing`."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    array = np.full((len(column), max(k, int(lengths.max(initial=0)))), missing, dtype=dtype)
    array[np.arange(array.shape[1]) < lengths[:, None]] = column.flatten().to_numpy(zero_copy_only=False)
    return array
