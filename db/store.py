"""The trace store: one DuckDB file that keeps runs, calibrations, problems, samples and tokens.

One process writes at a time; DuckDB lets no other process in meanwhile, not even to read. Within the process every call
uses a cursor of its own, so a store may be used from several threads. A sample is there whole or not at all, and once
`write_samples` has returned, it survives the death of the process.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from rrti_sgl import migrations
from rrti_sgl.db import connection as opening
from rrti_sgl.db import mapping
from rrti_sgl.db.reader import StoreReader
from rrti_sgl.errors import StoreError
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleRecord, SampleTrace

MEMORY_LIMIT = "4GB"


class Store(StoreReader):
    """An open trace store; a context manager that closes it. Use `Store.open` or `Store.open_readonly`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        super().__init__(path, connection)
        self.read_only = read_only
        self._writing = threading.Lock()

    @classmethod
    def open(cls, path: str | Path, *, create: bool = True) -> Self:
        """Open for writing; a file that is missing or has no tables gets the newest schema.

        Raises:
            StoreLockedError: another process holds the file.
            StoreVersionError: the schema is older (the message names the upgrade command) or newer.
            StoreError: there is no file and `create` is off, or it is no trace store.
        """
        path = Path(path)
        if not path.exists() and not create:
            raise StoreError(f"There is no store at {path}.", "Name another file with --db.")
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = opening.connect(path, read_only=False)
        try:
            revision = opening.revision_of(connection)
            if revision is None:
                connection.close()
                migrations.upgrade(path)
                connection = opening.connect(path, read_only=False)
            else:
                opening.check_revision(path, revision)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, read_only=False)

    @classmethod
    def open_readonly(cls, path: str | Path, *, memory_limit: str = MEMORY_LIMIT) -> Self:
        """Open for reading, without spilling to disk.

        Raises:
            StoreLockedError, StoreVersionError, StoreError: as `open`.
        """
        path = Path(path)
        if not path.exists():
            raise StoreError(f"There is no store at {path}.", "Name another file with --db.")
        connection = opening.connect(path, read_only=True, memory_limit=memory_limit, spill=False)
        try:
            revision = opening.revision_of(connection)
            if revision is None:
                raise StoreError(f"The store {path} is empty.", f"Run: rrti db upgrade {path}")
            opening.check_revision(path, revision)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, read_only=True)

    def close(self) -> None:
        """Close the file; a store opened for writing is checkpointed by DuckDB."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def begin_run(self, run: RunRecord) -> None:
        """Add a run.

        Raises:
            StoreError: there is a run of that id.
        """
        self._insert("runs", [run])

    def finish_run(self, run_id: str, status: RunStatus, error: str | None = None) -> None:
        """Set the end, the status and the error of a run."""
        self.get_run(run_id)
        statement = "UPDATE runs SET status = $status, error = $error, finished_at = $now WHERE run_id = $run"
        now = datetime.now(UTC).replace(tzinfo=None)
        self._write(statement, {"status": status, "error": error, "now": now, "run": run_id})

    def resume_run(self, run_id: str) -> None:
        """Mark a run that ended early as running again."""
        self.get_run(run_id)
        statement = "UPDATE runs SET status = 'running', error = NULL, finished_at = NULL WHERE run_id = $run"
        self._write(statement, {"run": run_id})

    def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """Add problems; those whose (problem_set, problem_id) is there already are left as they are."""
        self._insert("problems", problems, on_conflict="ON CONFLICT DO NOTHING")

    def add_calibration(self, calibration: CalibrationRecord) -> None:
        """Add a calibration.

        Raises:
            StoreError: there is a calibration of that id.
        """
        self._insert("calibrations", [calibration])

    def write_samples(self, traces: Sequence[SampleTrace]) -> int:
        """Write whole samples in one transaction, skipping those that are there already.

        Args:
            traces: finished samples of any runs; the same sample twice counts once.

        Returns:
            How many were new. They are durable against the death of the process when this returns.

        Raises:
            StoreError: DuckDB refused, or a sample contradicts itself; nothing of the batch is written then.
        """
        for trace in traces:
            mapping.check_trace(trace)
        with self._writing, self._cursor() as cursor:
            try:
                cursor.execute("BEGIN TRANSACTION")
                new = self._unwritten(cursor, traces)
                if new:
                    samples = [mapping.row_of(trace.sample) for trace in new]
                    cursor.executemany(_insert_statement("samples", SampleRecord), samples)
                    cursor.register("incoming_tokens", mapping.tokens_to_arrow(new))
                    cursor.execute("INSERT INTO tokens BY NAME SELECT * FROM incoming_tokens")
                cursor.execute("COMMIT")
            except duckdb.Error as error:
                raise opening.translate(error) from error
        return len(new)

    @staticmethod
    def _unwritten(cursor: duckdb.DuckDBPyConnection, traces: Sequence[SampleTrace]) -> list[SampleTrace]:
        """The traces that the store does not have, without repetitions."""
        by_key = {(trace.sample.run_id, trace.sample.sample_id): trace for trace in traces}
        query = "SELECT run_id, sample_id FROM samples WHERE list_contains($ids, sample_id)"
        present = set(cursor.execute(query, {"ids": [sample_id for _, sample_id in by_key]}).fetchall())
        return [trace for key, trace in by_key.items() if key not in present]

    def _insert(self, table: str, records: Sequence[Any], on_conflict: str = "") -> None:
        if records:
            statement = f"{_insert_statement(table, type(records[0]))} {on_conflict}"
            self._write(statement, [mapping.row_of(record) for record in records])

    def _write(self, statement: str, params: Mapping[str, Any] | list[list[Any]]) -> None:
        with self._writing, self._cursor() as cursor:
            try:
                cursor.execute("BEGIN TRANSACTION")
                if isinstance(params, list):
                    cursor.executemany(statement, params)
                else:
                    cursor.execute(statement, dict(params))
                cursor.execute("COMMIT")
            except duckdb.ConstraintException as error:
                message = f"The store has such a record already, or a value is missing: {opening.first_line(error)}"
                raise StoreError(message, "Use another id.") from error
            except duckdb.Error as error:
                raise opening.translate(error) from error


def _insert_statement(table: str, record_type: type[Any]) -> str:
    names = mapping.fields_of(record_type)
    columns = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' for _ in names)})"
