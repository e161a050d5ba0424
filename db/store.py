"""The trace store: a DuckDB file of runs, calibrations, problems, samples and tokens, and Parquet files of sealed runs.

One process writes at a time; DuckDB lets no other process into the file meanwhile, not even to read. Open to everybody at
any time are the sealed runs beside it (`Store.open_sealed`) and snapshots, which the writing process makes when it is asked
to (`Store.open_snapshot`, `rrti_sgl.db.snapshots`). Within the process every call uses a cursor of its own, so a store may
be used from several threads. A sample is there whole or not at all, and once
`write_samples` has returned, it survives the death of the process.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import duckdb

from rrti_sgl import migrations
from rrti_sgl.db import connection as opening
from rrti_sgl.db import inserting, relations, snapshots
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.layouts import Precision, check_precision
from rrti_sgl.db.reader import StoreReader
from rrti_sgl.errors import StoreError, StoreLockedError, command
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.sinks.refusals import check_trace

# Of the queries of statistics and reports; what is more goes to temporary files.
MEMORY_LIMIT = "512MB"


class Store(StoreReader):
    """An open trace store; a context manager that closes it. Use `Store.open` or `Store.open_readonly`."""

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        *,
        read_only: bool,
        folders: Mapping[Path, str] | None = None,
    ) -> None:
        super().__init__(path, connection, folders)
        self.read_only = read_only
        self._writing = threading.Lock()
        self._file = None if read_only else opening.identity(path)
        self._answering: snapshots.Answering | None = None
        if not read_only:
            self._answer_snapshots()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool = True,
        precision: Precision | None = None,
        lasting: bool = False,
        parts: Path | None = None,
    ) -> Self:
        """Open for writing; a file that is missing or has no tables gets the newest schema.

        Args:
            path: the DuckDB file.
            create: make the file when it is missing.
            precision: "compact" rounds within the bounds of `rrti_sgl.db.quantisation`, "exact" keeps every number; the
                file remembers it for tokens written from then on. None leaves what the file says (at first "compact").
            lasting: it stays open for a long time: what is written goes to the file earlier, and memory is bounded.
            parts: a folder whose parts of runs are merged while the store is open (`rrti_sgl.db.attaching.attach_parts`);
                memory is bounded then, too.

        Raises:
            StoreLockedError: another process holds the file.
            StoreVersionError: the schema is older (the message names the upgrade command) or newer.
            StoreError: there is no file and `create` is off, or it is no trace store.
            UsageError: there is no such precision.
        """
        path = Path(path)
        if precision is not None:
            check_precision(precision)
        if not opening.is_there(path) and not create:
            raise StoreError(f"There is no store at {path}.", "Name another file.")
        opening.make_folder(path)
        lasting = lasting or parts is not None
        connection = opening.connect(path, read_only=False, lasting=lasting)
        try:
            if opening.is_confined(connection):
                raise opening.already_open(path)
            revision = opening.revision_of(connection)
            if revision is None:
                connection.close()
                migrations.upgrade(path)
                connection = opening.connect(path, read_only=False, lasting=lasting)
            else:
                opening.check_revision(path, revision)
            if relations.is_moved(connection, path):
                relations.refresh_views(connection, path)
            if precision is not None:
                connection.execute("INSERT OR REPLACE INTO store_settings VALUES ('precision', ?)", [precision])
            opening.confine(connection, relations.runs_folder(path), *([] if parts is None else [parts.resolve()]))
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, read_only=False)

    @classmethod
    def open_readonly(cls, path: str | Path, *, memory_limit: str = MEMORY_LIMIT, spill: bool = True) -> Self:
        """Open for reading.

        Args:
            path: the DuckDB file.
            memory_limit: of DuckDB, such as "2GB".
            spill: let queries that need more use temporary files (`rrti_sgl.db.spilling`); else they are refused.

        Raises:
            StoreLockedError: another process writes; the message says what can be read meanwhile.
            StoreVersionError, StoreError: as `open`.
        """
        path = Path(path)
        try:
            connection = opening.connect_current(path, read_only=True, memory_limit=memory_limit, spill=spill)
        except StoreLockedError as error:
            error.remedy += (
                f" Meanwhile `rrti db snapshot {path}` makes what it holds readable: {command('sql', snapshot=True)}"
            )
            sealed = len(relations.complete_folders(path))
            error.remedy += f"; its {sealed} sealed runs: {command('sql', sealed=True)}." if sealed else "."
            raise
        if relations.is_moved(connection, path):
            connection.close()
            message = f"The store {path} was moved since it was last written; its views name the old place."
            raise StoreError(message, f"Run: rrti db upgrade {path}")
        opening.confine(connection, relations.runs_folder(path))
        return cls(path, connection, read_only=True)

    @classmethod
    def open_sealed(cls, path: str | Path, *, memory_limit: str = MEMORY_LIMIT, spill: bool = True) -> Self:
        """Read the sealed runs of a store without opening its file, so while another process writes it, too.

        Args:
            path, memory_limit, spill: as `open_readonly`.

        Raises:
            StoreError: the store has no sealed runs, or their files are of another schema.
        """
        path = Path(path)
        folders = relations.complete_folders(path)
        if not folders:
            raise StoreError(f"The store {path} has no sealed runs.", "Seal one: rrti db seal RUN.")
        return cls._over_files(path, folders, memory_limit, spill)

    @classmethod
    def open_snapshot(cls, path: str | Path, *, memory_limit: str = MEMORY_LIMIT, spill: bool = True) -> Self:
        """Read the sealed runs of a store and the newest snapshot of the others without opening its file.

        Args:
            path, memory_limit, spill: as `open_readonly`.

        Raises:
            StoreError: there is neither, or their files are of another schema.
        """
        path = Path(path)
        sealed = relations.complete_folders(path)
        names = {folder.name for folder in sealed}
        folders = [*sealed, *(part for part in snapshots.parts(path) if part.parent.name not in names)]
        if not folders:
            message = f"The store {path} has no snapshot and no sealed runs."
            raise StoreError(message, f"While a process writes it: `rrti db snapshot {path}`. Else read it as it is.")
        return cls._over_files(path, folders, memory_limit, spill)

    @classmethod
    def _over_files(cls, path: Path, folders: Sequence[Path], memory_limit: str, spill: bool) -> Self:
        manifests = {folder: Manifest.read(folder) for folder in folders}
        for folder, manifest in manifests.items():
            manifest.check_revision(folder)
        connection = opening.connect_memory(memory_limit, spill=spill)
        try:
            relations.create_over_files(connection, folders)
            opening.confine(connection, relations.runs_folder(path))
        except duckdb.Error as error:
            connection.close()
            raise opening.translate(error) from error
        return cls(path, connection, read_only=True, folders={folder: each.run_id for folder, each in manifests.items()})

    def _answer_snapshots(self) -> None:
        itself = weakref.ref(self)  # a store that is dropped without `close` is closed all the same

        def cursor() -> duckdb.DuckDBPyConnection | None:
            store = itself()
            return None if store is None else store._cursor()

        self._answering = snapshots.Answering(cursor, self.path)
        self._answering.start()

    @property
    def precision(self) -> Precision:
        """How tokens are written from now on."""
        with self._cursor() as cursor:
            return self._precision(cursor)

    @staticmethod
    def _precision(cursor: duckdb.DuckDBPyConnection) -> Precision:
        rows = cursor.execute("SELECT value FROM store_settings WHERE name = 'precision'").fetchall()
        return "exact" if rows == [("exact",)] else "compact"

    def close(self) -> None:
        """Close the file; a store opened for writing is checkpointed by DuckDB."""
        if self._answering is not None:
            self._answering.stop()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
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
        with self.writing() as cursor:
            cursor.execute(statement, {"status": status, "error": error, "now": now, "run": run_id})

    def resume_run(self, run_id: str) -> None:
        """Mark a run that ended early as running again.

        Raises:
            UsageError: there is no such run.
            StoreError: it is sealed.
        """
        self.get_run(run_id)
        with self.writing(run_id) as cursor:
            statement = "UPDATE runs SET status = 'running', error = NULL, finished_at = NULL WHERE run_id = $run"
            cursor.execute(statement, {"run": run_id})

    def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """Add problems; those whose (problem_set, problem_id) is there already are left as they are."""
        self._insert("problems", problems, on_conflict=inserting.IF_MISSING)

    def add_calibration(self, calibration: CalibrationRecord, *, if_missing: bool = False) -> None:
        """Add a calibration.

        Raises:
            StoreError: there is a calibration of that id, and `if_missing` is off.
        """
        self._insert("calibrations", [calibration], on_conflict=inserting.IF_MISSING if if_missing else "")

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
            check_trace(trace)
        with self.writing(*{trace.sample.run_id for trace in traces}) as cursor:
            new = self._unwritten(cursor, traces)
            inserting.insert_samples(cursor, new, self._precision(cursor))
        return len(new)

    @contextmanager
    def writing(self, *run_ids: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor whose transaction is committed at the end, or rolled back if that is an error; one at a time.

        Args:
            run_ids: runs whose rows are to change.

        Raises:
            StoreError: one of the runs is sealed, the file was removed meanwhile, or DuckDB refused.
        """
        with self._writing, self._cursor() as cursor:
            try:
                cursor.execute("BEGIN TRANSACTION")
                self._refuse_sealed(cursor, run_ids)
                yield cursor
                cursor.execute("COMMIT")
                self._refuse_removed()
            except duckdb.ConstraintException as error:
                message = f"The store has such a record already, or a value is missing: {opening.first_line(error)}"
                raise StoreError(message, "Use another id.") from error
            except duckdb.Error as error:
                raise opening.translate(error) from error

    def _refuse_removed(self) -> None:
        """Raises StoreError where the file that is written has lost its name: what goes there is lost when it is closed."""
        if opening.identity(self.path) != self._file:
            raise StoreError(
                f"The store {self.path} is not there any more: it was removed or replaced while it was written.",
                "What went there since then is lost; run it again.",
            )

    @staticmethod
    def _refuse_sealed(cursor: duckdb.DuckDBPyConnection, run_ids: Collection[str]) -> None:
        """Raises StoreError, with what to do, where one of the runs is sealed: its rows are fixed."""
        query = "SELECT run_id FROM sealed_runs WHERE list_contains($runs, run_id) ORDER BY run_id"
        if sealed := cursor.execute(query, {"runs": sorted(run_ids)}).fetchone():
            message = f"Run {sealed[0]} is sealed: its samples are fixed."
            raise StoreError(message, f"To change it: rrti db unseal {sealed[0]}. Or start a new run.")

    @staticmethod
    def _unwritten(cursor: duckdb.DuckDBPyConnection, traces: Sequence[SampleTrace]) -> list[SampleTrace]:
        """The traces that the store does not have; of one that is repeated the first."""
        by_key: dict[tuple[str, str], SampleTrace] = {}
        for trace in traces:
            by_key.setdefault((trace.sample.run_id, trace.sample.sample_id), trace)
        query = "SELECT run_id, sample_id FROM stored_samples WHERE sample_id IN (SELECT unnest($ids))"
        present = set(cursor.execute(query, {"ids": [sample_id for _, sample_id in by_key]}).fetchall())
        return [trace for key, trace in by_key.items() if key not in present]

    def _insert(self, table: str, records: Sequence[Any], on_conflict: str = "") -> None:
        with self.writing() as cursor:
            inserting.insert_records(cursor, table, records, on_conflict)
