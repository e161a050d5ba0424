"""Rows into tables by the names of their columns, none of which is left out without a word.

Statements are on a cursor whose transaction is the caller's. Rows are compared with the columns that the table has, both
ways: `INSERT BY NAME` alone would make NULL of a column that was forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from rrti_sgl.db import layouts, record_rows
from rrti_sgl.db.layouts import Precision
from rrti_sgl.errors import StoreError
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


def insert_selected(
    cursor: duckdb.DuckDBPyConnection, table: str, select: str, *, older: bool, on_conflict: str = ""
) -> int:
    """Insert what a statement selects from files; returns the number of rows.

    Args:
        cursor: of the store; temporary tables that the statement reads are its own.
        table: the table.
        select: the statement.
        older: the files are of an older schema, whose columns may be fewer: what they lack is NULL.
        on_conflict: see `insert_records`.

    Raises:
        StoreError: see `check_columns`.
    """
    if not older:
        check_columns(cursor, table, [name for name, *_ in cursor.execute(f"DESCRIBE {select}").fetchall()])
    [(rows,)] = cursor.execute(f"INSERT INTO {table} BY NAME {select} {on_conflict}").fetchall()
    return int(rows)


def check_columns(cursor: duckdb.DuckDBPyConnection, table: str, given: Collection[str]) -> None:
    """Compare the columns that rows have with those of the table in the file.

    Raises:
        StoreError: naming what only one of the two has.
    """
    wanted = {name for (name,) in cursor.execute("SELECT name FROM pragma_table_info(?)", [table]).fetchall()}
    if wanted != set(given):
        lacking, unknown = (", ".join(sorted(names)) or "nothing" for names in (wanted - set(given), set(given) - wanted))
        message = f"Rows for the table {table} lack {lacking} of it and have {unknown} beyond it."
        raise StoreError(message, "Rows and tables follow from one declaration; a change of it needs a migration.")


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, rows: pa.Table, on_conflict: str = "") -> None:
    check_columns(cursor, table, rows.column_names)
    # As a table of Arrow's: a thousand times faster than row by row.
    cursor.register("incoming", rows)
    cursor.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming {on_conflict}")
    cursor.unregister("incoming")
