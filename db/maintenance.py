"""Upkeep of a store: deleting a run, and giving the file's free space back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from rrti_sgl import migrations
from rrti_sgl.db import connection as opening
from rrti_sgl.db import folders, relations, sealing, snapshots
from rrti_sgl.db.tables import TABLES
from rrti_sgl.errors import StoreError, UsageError, need_posix

# What goes with a run, by the table that it goes from. A calibration stays while another run decides by it.
GOES = {
    "runs": "run_id = $run",
    "stored_samples": "run_id = $run",
    "exact_tokens": "run_id = $run",
    "compact_tokens": "run_id = $run",
    "calibrations": """run_id = $run AND calibration_id NOT IN (
        SELECT calibration_id FROM runs WHERE run_id <> $run AND calibration_id IS NOT NULL)""",
    "problems": """problem_set IN (SELECT problem_set FROM runs WHERE run_id = $run)
        AND problem_set NOT IN (SELECT problem_set FROM runs WHERE run_id <> $run)""",
}


@dataclass(frozen=True)
class Deletion:
    """What goes with a run.

    Args:
        run_id, status: of the run.
        rows: by table.
        folder: of its sealed files; None: it is not sealed.
        folder_bytes: what these take on disk.
        continued: samples of other runs that continue its own, as far as their files are there; they stay.
    """

    run_id: str
    status: str
    rows: Mapping[str, int]
    folder: Path | None
    folder_bytes: int
    continued: int


def plan_deletion(store: Path, run_id: str) -> Deletion:
    """What `delete_run` would take away.

    Raises:
        UsageError: there is no such run.
        StoreError: the store cannot be opened.
    """
    with sealing.open_for_upkeep(store, read_only=True) as connection:
        return _plan(connection, store, run_id)


def delete_run(store: Path, run_id: str) -> Deletion:
    """Take a run out of a store with everything that belongs to it alone, its sealed files included.

    Raises:
        UsageError, StoreError: as `plan_deletion`.
    """
    with sealing.open_for_upkeep(store) as connection:
        plan = _plan(connection, store, run_id)
        connection.execute("BEGIN TRANSACTION")
        for table in reversed(GOES):  # the run last: what the conditions look up must still be there
            connection.execute(f"DELETE FROM {table} WHERE {GOES[table]}", {"run": run_id})
        connection.execute("DELETE FROM sealed_runs WHERE run_id = $run", {"run": run_id})
        relations.refresh_views(connection, store)
        connection.execute("COMMIT")
    snapshots.discard(store, run_id)
    if plan.folder is not None:
        folders.discard(plan.folder)
    return plan


def vacuum(store: Path) -> tuple[int, int]:
    """Write the file anew without the space that deleted and sealed rows left; returns its bytes before and after.

    The new file takes the old one's place in one step, once it is durable and has as many rows in every table. Nobody can
    write to the old one from the copying to that step. Snapshots go: the file itself can be read.

    Raises:
        StoreError: the store cannot be opened, another process wrote to it meanwhile, or the copy is not complete (the store
            is unchanged then).
        UsageError: this is Windows, where a file that is read cannot be replaced.
    """
    need_posix("`rrti db vacuum` needs")
    with sealing.open_for_upkeep(store) as connection:
        connection.execute("CHECKPOINT")
        snapshots.discard(store)
        before = store.stat().st_size
    fresh = store.with_name(f"{store.name}.vacuum")
    _remove(fresh)  # of a process that was killed
    try:
        migrations.upgrade(fresh)
        _replace(store, fresh)
    finally:
        _remove(fresh)
    return before, store.stat().st_size


def _remove(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}.wal")):
        path.unlink(missing_ok=True)


def _replace(store: Path, fresh: Path) -> None:
    """Put an empty store, filled with what a store holds, in its place; raises as `vacuum`."""
    with opening.connect_memory() as connection:
        # A read-only attachment keeps writers out and, unlike a writing one, leaves nothing to do to a file that has been
        # replaced when it is closed. The file must not be opened a second time: closing that would free the lock.
        try:
            connection.execute(f"ATTACH {opening.literal(store)} AS old (READ_ONLY)")
        except duckdb.Error as error:
            raise opening.open_error(store, str(error)) from error
        if store.with_name(f"{store.name}.wal").exists():
            raise StoreError(f"The store {store} was written to meanwhile; it is unchanged.", "Try again.")
        _copy(connection, fresh)
        with sealing.open_for_upkeep(fresh) as other:
            relations.refresh_views(other, store)
            other.execute("CHECKPOINT")
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(store)


def _copy(connection: duckdb.DuckDBPyConnection, fresh: Path) -> None:
    """Fill the tables of a fresh store from the database attached as `old`.

    Raises:
        StoreError: DuckDB refused, or a table has another number of rows afterwards.
    """
    try:
        connection.execute(f"ATTACH {opening.literal(fresh)} AS fresh")
        connection.execute("BEGIN TRANSACTION")
        connection.execute("DELETE FROM fresh.store_settings")
        for table in TABLES:
            connection.execute(f"INSERT INTO fresh.{table} BY NAME SELECT * FROM old.{table} ORDER BY rowid")
            wanted, copied = (_count(connection, f"SELECT count(*) FROM {name}.{table}") for name in ("old", "fresh"))
            if wanted != copied:
                raise StoreError(f"The new file has {copied} rows of {table} and not {wanted}; the store is unchanged.")
        connection.execute("COMMIT")
        connection.execute("DETACH fresh")
    except duckdb.Error as error:
        raise opening.translate(error) from error


def _plan(connection: duckdb.DuckDBPyConnection, store: Path, run_id: str) -> Deletion:
    row = connection.execute("SELECT status FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        raise UsageError(f"There is no run {run_id!r} in {store}.", "List them: rrti db info.")
    rows = {
        table: _count(connection, f"SELECT count(*) FROM {table} WHERE {condition}", run_id)
        for table, condition in GOES.items()
    }
    sealed = connection.execute("SELECT n_samples, n_tokens FROM sealed_runs WHERE run_id = ?", [run_id]).fetchone()
    tokens = rows.pop("exact_tokens") + rows.pop("compact_tokens") + (sealed[1] if sealed else 0)
    samples = rows.pop("stored_samples") + (sealed[0] if sealed else 0)
    continued = """
        SELECT count(*) FROM samples
        WHERE run_id <> $run AND parent_sample_id IN (SELECT sample_id FROM samples WHERE run_id = $run)
    """
    # A run can go whose files are away, or another run's: what nobody can read is not counted.
    registered = connection.execute("SELECT run_id FROM sealed_runs ORDER BY run_id").fetchall()
    places = [relations.run_folder(store, name) for (name,) in registered]
    with connection.cursor() as cursor:
        there = [place for place in places if relations.file_of(place, "stored_samples").is_file()]
        relations.narrow_views(cursor, there, registered=True)
        n_continued = _count(cursor, continued, run_id)
    counts = rows | {"samples": samples, "tokens": tokens}
    folder = relations.run_folder(store, run_id) if sealed else None
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else 0
    return Deletion(run_id, row[0], counts, folder, n_bytes, n_continued)


def _count(connection: duckdb.DuckDBPyConnection, query: str, run_id: str | None = None) -> int:
    row = connection.execute(query, None if run_id is None else {"run": run_id}).fetchone()
    assert row is not None
    return int(row[0])
