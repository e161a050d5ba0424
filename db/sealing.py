"""Sealing: a finished run leaves the database file for a folder of Parquet files that needs no lock to be read.

The folder is complete and durable (`rrti_sgl.db.folders`) before it is put in the rows' place, in one transaction. A process
that dies in between leaves a folder that the next attempt replaces, and every row where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from rrti_sgl.db import connection as opening
from rrti_sgl.db import folders, inserting, relations, snapshots
from rrti_sgl.db.folders import Manifest
from rrti_sgl.errors import StoreError, UsageError, argument, command


def seal(store: Path, run_id: str, *, unfinished: bool = False) -> Manifest:
    """Move the samples and tokens of a run into a folder of Parquet files beside the store.

    Args:
        store: the DuckDB file; nobody else may have it open.
        run_id: a run that has ended.
        unfinished: seal a run, too, that says it is running (its process died): it cannot be continued then.

    Raises:
        UsageError: there is no such run, or it is not over.
        StoreError: it is sealed already, or what was written is not what was read.
        StoreLockedError: another process has the store open.
    """
    with open_for_upkeep(store) as connection:
        row = connection.execute("SELECT status FROM runs WHERE run_id = ?", [run_id]).fetchone()
        if row is None:
            raise UsageError(f"There is no run {run_id!r} in {store}.", "List them: rrti db info.")
        if connection.execute("FROM sealed_runs WHERE run_id = ?", [run_id]).fetchone():
            raise StoreError(f"Run {run_id} is sealed already.")
        if row[0] == "running" and not unfinished:
            remedy = f"Continue it: `{command('run', resume=run_id)}`. Or seal it as it is: {argument('unfinished', True)}."
            raise UsageError(f"Run {run_id} is not over: its status is running.", remedy)
        manifest = folders.write_folder(connection, run_id, relations.run_folder(store, run_id))
        connection.execute("BEGIN TRANSACTION")
        for table in relations.SEALED_VIEWS:
            connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])
        register(connection, store, manifest)
        connection.execute("COMMIT")
    snapshots.discard(store, run_id)
    return manifest


def unseal(store: Path, run_id: str) -> int:
    """Take the samples and tokens of a sealed run back into the database file; returns the number of tokens.

    Raises:
        UsageError: no such run is sealed.
        StoreError: its files were changed, or are another run's.
    """
    folder = relations.run_folder(store, run_id)
    with open_for_upkeep(store) as connection:
        if not connection.execute("FROM sealed_runs WHERE run_id = ?", [run_id]).fetchone():
            raise UsageError(f"Run {run_id!r} is not sealed in {store}.")
        manifest = Manifest.of_sealed(folder)
        manifest.refuse_damage(folder)
        connection.execute("BEGIN TRANSACTION")
        for table in relations.SEALED_VIEWS:
            rows = f"SELECT * FROM {relations.rows_of([folder], table)}"
            inserting.insert_selected(connection, table, rows, older=manifest.is_older)
        connection.execute("DELETE FROM sealed_runs WHERE run_id = ?", [run_id])
        relations.refresh_views(connection, store)
        connection.execute("COMMIT")
    folders.discard(folder)
    return manifest.n_tokens


@contextmanager
def open_for_upkeep(store: Path, *, read_only: bool = False, lasting: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """An unconfined connection to a store of the newest schema, for our own statements.

    Raises:
        StoreLockedError, StoreVersionError, StoreError: as `Store.open`.
    """
    with opening.connect_current(store, read_only=read_only, lasting=lasting) as connection:
        try:
            yield connection
        except duckdb.Error as error:
            raise opening.translate(error) from error


def register(connection: duckdb.DuckDBPyConnection, store: Path, manifest: Manifest) -> None:
    """Note in an open transaction that a run's samples and tokens are in the folder beside the store."""
    now = datetime.now(UTC).replace(tzinfo=None)
    columns = "(run_id, sealed_at, n_samples, n_tokens)"
    values = [manifest.run_id, now, manifest.n_samples, manifest.n_tokens]
    connection.execute(f"INSERT INTO sealed_runs {columns} VALUES (?, ?, ?, ?)", values)
    relations.refresh_views(connection, store)
