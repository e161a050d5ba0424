"""Records into tables: statements on a cursor whose transaction is the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa

from rrti_sgl.db import layouts, record_rows
from rrti_sgl.db.layouts import Precision
from rrti_sgl.records import SampleTrace

IF_MISSING = "ON CONFLICT DO NOTHING"


def insert_records(cursor: duckdb.DuckDBPyConnection, table: str, records: Sequence[Any], on_conflict: str = "") -> None:
    """Insert the records of one type; `on_conflict` says what happens to one whose key is there (else it is an error)."""
    if records:
        _insert(cursor, table, record_rows.rows_to_arrow(records), on_conflict)


def insert_samples(cursor: duckdb.DuckDBPyConnection, traces: Sequence[SampleTrace], precision: Precision) -> None:
    """Insert samples that are not there, with their tokens in the layout wanted."""
    insert_records(cursor, "stored_samples", [trace.sample for trace in traces])
    for name, rows in layouts.token_tables(traces, precision).items():
        _insert(cursor, name, rows)


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, on_conflict: str = "") -> None:
    # As a table of Arrow's: a thousand times faster than row by row.
    cursor.register("incoming", rows)
    cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming {on_conflict}")
    cursor.unregister("incoming")
