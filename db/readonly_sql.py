"""SQL from users: one statement that only reads, within limits of time and memory.

The confinement is the connection's (`rrti_sgl.db.connection`): no files, no network, no extensions, locked settings. Here
the statement is checked, run in a read-only transaction that is always rolled back, and interrupted when it takes too
long.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from rrti_sgl import bounds
from rrti_sgl.db.connection import translate
from rrti_sgl.errors import StoreError, UsageError, argument

READING = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
WRITING = {"COPY", "EXPORT", "IMPORT", "ATTACH", "DETACH", "INSTALL", "LOAD", "CHECKPOINT", "VACUUM", "CALL", "PRAGMA"}
WRITING |= {"INSERT", "UPDATE", "DELETE", "MERGE", "CREATE", "ALTER", "DROP", "TRUNCATE"}


def check_statement(query: str) -> None:
    """Refuse what is not exactly one SELECT-like statement (SELECT, FROM, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN).

    Raises:
        StoreError: naming what was found instead.
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise translate(error) from error
    if len(statements) != 1:
        raise StoreError(f"The query holds {len(statements)} statements.", "Give exactly one SELECT.")
    kind = statements[0].type
    if kind not in READING:
        raise StoreError(f"{kind.name} is not allowed: the store is open for reading.", "Give one SELECT.")
    if kind == duckdb.StatementType.EXPLAIN and (word := _writing_keyword(query)):
        # EXPLAIN ANALYZE runs what it explains, and COPY would reach the files of sealed runs.
        raise StoreError(f"EXPLAIN of {word} is not allowed: the store is open for reading.", "Explain a SELECT.")


def _writing_keyword(query: str) -> str | None:
    starts = [(start, kind) for start, kind in duckdb.tokenize(query) if kind == duckdb.token_type.keyword]
    words = (re.match(r"\w*", query.encode()[start:].decode(errors="replace")) for start, _ in starts)
    return next((word[0].upper() for word in words if word and word[0].upper() in WRITING), None)


def distinct(names: Sequence[str]) -> list[str]:
    """Names of columns that differ: a name that was there before gets `_1`, `_2`, ..., as DuckDB does in subqueries."""
    found: list[str] = []
    for name in names:
        free = (name, *(f"{name}_{n}" for n in range(1, len(names) + 1)))
        taken = {*found, *names} - {name}
        found.append(next(each for each in free if each not in taken and (each != name or name not in found)))
    return found


def _bounded(cursor: duckdb.DuckDBPyConnection, most_bytes: int) -> pa.Table:
    reader = cursor.to_arrow_reader(100_000)
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > most_bytes:
            raise MemoryError
    return pa.Table.from_batches(batches, reader.schema)


def fetch(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    params: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
    most_bytes: int | None = None,
) -> pa.Table:
    """Run one reading statement and return its rows.

    Args:
        cursor: a cursor of its own, without an open transaction.
        query: the statement, checked by `check_statement`.
        params: values of its `$name` parameters.
        timeout_s: interrupt the statement after so many seconds.
        most_bytes: that the rows may take; they are taken in batches, and not all at once.

    Raises:
        StoreError: what DuckDB refused, the limit of time or of memory.
    """
    if timeout_s is not None and not 0 < timeout_s <= bounds.SECONDS:
        raise UsageError(argument("timeout_s", text=f"{timeout_s} is no time to wait."), "Give seconds, such as 300.")
    expired = threading.Event()

    def interrupt() -> None:
        expired.set()
        cursor.interrupt()

    timer = threading.Timer(timeout_s, interrupt) if timeout_s is not None else None
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        if timer is not None:
            timer.start()
        cursor.execute(query, dict(params) if params else None)
        rows = cursor.to_arrow_table() if most_bytes is None else _bounded(cursor, most_bytes)
        return rows.rename_columns(distinct(rows.column_names))
    except (duckdb.Error, MemoryError, OSError) as error:  # OSError: of Arrow, what DuckDB said in the midst of rows
        if expired.is_set():
            message = f"The query took longer than {timeout_s:g} s."
            raise StoreError(message, f"Narrow it, or raise {argument('timeout_s')}.") from error
        if isinstance(error, duckdb.InterruptException):
            raise
        raise _refused(error) from error
    finally:
        if timer is not None:
            timer.cancel()
        cursor.close()


def fetch_batches(
    cursor: duckdb.DuckDBPyConnection, query: str, params: Mapping[str, Any] | None, rows: int
) -> Iterator[pa.RecordBatch]:
    """Like `fetch`, about so many rows at a time, without limits."""
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        yield from cursor.execute(query, dict(params) if params else None).to_arrow_reader(rows)
    except (duckdb.Error, MemoryError, OSError) as error:  # OSError: of Arrow, what DuckDB said in the midst of rows
        raise _refused(error) from error
    finally:
        cursor.close()


def _refused(error: Exception) -> StoreError:
    """The error for what a statement needed and could not have."""
    if re.search("failed to offload|No space left", str(error)):
        message = f"The query's temporary files do not fit into {tempfile.gettempdir()}."
        return StoreError(message, "Make room there, or name another folder in the variable TMPDIR.")
    if isinstance(error, MemoryError) or "Out of Memory" in str(error):
        return StoreError("The query needs more memory than the limit.", f"Narrow it, or raise {argument('memory_limit')}.")
    return translate(error)
