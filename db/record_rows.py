"""The one place that turns records into rows and rows into records.

Rows of the small tables are tuples in the order of the record's fields; token rows are written by `rrti_sgl.db.layouts`
and read here. What a record calls "not computed" (NaN in a float column, -1 in an id column) is NULL in a row. A top-k row
is a list of the ids that are there: ids of -1 are padding and left out with their log-probabilities, a row of nothing but
padding is a NULL list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from rrti_sgl.columns import Kind, columns_of
from rrti_sgl.db.tables import TOKEN_FIELDS
from rrti_sgl.records import TokenColumns
from rrti_sgl.science.metrics import METRICS

Record = TypeVar("Record")


def fields_of(record_type: type[Any]) -> list[str]:
    """Field names of a record: the columns of its table."""
    return [field.name for field in columns_of(record_type)]


def row_of(record: Any) -> list[Any]:
    """The row of a record: mappings as JSON text, times as UTC without a zone."""
    return [_to_cell(getattr(record, name)) for name in fields_of(type(record))]


def record_of(record_type: type[Record], row: Mapping[str, Any]) -> Record:
    """The record of a row (column name -> value); columns that the record does not have are left out."""
    return record_type(**{field.name: _from_cell(row[field.name], field.kind) for field in columns_of(record_type)})


def _to_cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _from_cell(value: Any, kind: Kind) -> Any:
    if kind == "json" and isinstance(value, str):
        return json.loads(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def rows_to_arrow(records: Sequence[Any]) -> pa.Table:
    """The rows of records of one type, as `row_of` makes them, with a column for each field."""
    names = fields_of(type(records[0]))
    columns = zip(*(row_of(record) for record in records), strict=True)
    return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})


def tokens_from_arrow(table: pa.Table, k: int) -> TokenColumns:
    """Token rows of one sample, in order of position, as columns; top-k arrays are (T, k)."""
    columns = {field.name: _array(table.column(field.name).combine_chunks(), field.kind, k) for field in TOKEN_FIELDS}
    metrics = {name: columns.pop(name) for name in METRICS}
    return TokenColumns(metrics=metrics, **columns)


def _array(column: Any, kind: Kind, k: int) -> Any:
    match kind:
        case "ids":
            return _topk_array(column, k, -1, np.dtype(np.int32))
        case "logprobs":
            return _topk_array(column, k, np.nan, np.dtype(np.float32))
        case "text":
            return column.to_pylist()
        case "flag":
            return column.to_numpy(zero_copy_only=False).astype(bool)
        case "integer" | "id" | "mark":
            return column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        case _:
            return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _topk_array(column: Any, k: int, missing: float, dtype: np.dtype[Any]) -> Any:
    """A list column of length T as a (T, k) array, padded with `missing`."""
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    array = np.full((len(column), max(k, int(lengths.max(initial=0)))), missing, dtype=dtype)
    array[np.arange(array.shape[1]) < lengths[:, None]] = column.flatten().to_numpy(zero_copy_only=False)
    return array
