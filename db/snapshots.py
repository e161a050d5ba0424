"""Snapshots: what a store holds while another process writes it, as Parquet files that need no lock.

Whoever wants one leaves a request beside the store (`request`). The process that has the store open for writing looks for
requests once a second and answers all of them at once (`Answering`): what its open runs hold that no snapshot has yet goes
into one new folder a run, `STORE.runs/.snapshots/RUN/NUMBER`, so each row is written once however often one asks. Folders
never change; they go when the run is sealed, deleted or graded anew, and with `rrti db vacuum`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from rrti_sgl.db import folders, relations
from rrti_sgl.db.connection import first_line
from rrti_sgl.errors import StoreError, StoreLockedError

logger = logging.getLogger(__name__)

WANTED, FAILED = ".wanted", ".failed"
POLL_S = 1.0


def root_of(store: Path) -> Path:
    """The folder of the snapshots of a store."""
    return relations.runs_folder(store) / ".snapshots"


def parts(store: Path) -> list[Path]:
    """Complete folders of every snapshot that a store has, run by run, oldest first; the store is not opened."""
    return sorted(path.parent for path in root_of(store).glob(f"*/[!.]*/{relations.MANIFEST}"))


def discard(store: Path, run_id: str | None = None) -> None:
    """Remove the snapshots of a run, or of all."""
    shutil.rmtree(root_of(store) if run_id is None else root_of(store) / run_id, ignore_errors=True)


def request(store: Path, timeout_s: float = 60.0) -> None:
    """Ask the process that writes a store for a snapshot, and wait until it is there.

    Raises:
        StoreLockedError: nobody answered in time.
        StoreError: the answer was that it failed.
    """
    wanted = root_of(store) / f"{secrets.token_hex(8)}{WANTED}"
    failed = wanted.with_suffix(FAILED)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.touch()
    end = time.monotonic() + timeout_s
    try:
        while wanted.exists():
            if time.monotonic() > end:
                message = f"No snapshot of {store} within {timeout_s:g} s: the process that holds it does not answer."
                raise StoreLockedError(message, "Wait longer, or until it is done.")
            time.sleep(POLL_S / 10)
        if failed.exists():
            reason = failed.read_text(encoding="utf-8") or "it could not write why, either"
            raise StoreError(f"The process that writes {store} could not write a snapshot: {reason}.")
    finally:
        wanted.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)


def write(connection: duckdb.DuckDBPyConnection, store: Path) -> int:
    """Write what open runs hold beyond their snapshots; returns the number of new folders.

    Args:
        connection: a cursor of the open store, without a transaction; all runs are read in one.
        store: its file.

    Raises:
        StoreError, OSError, duckdb.Error: it did not work; the store is unchanged.
    """
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        rows = connection.execute("SELECT run_id FROM runs ANTI JOIN sealed_runs USING (run_id) ORDER BY run_id").fetchall()
        return sum(_write_part(connection, store, run_id) for (run_id,) in rows)
    finally:
        connection.execute("ROLLBACK")


def _write_part(connection: duckdb.DuckDBPyConnection, store: Path, run_id: str) -> bool:
    """Write the samples of a run that its snapshots lack, where there are any or the run itself changed."""
    known = [part for part in parts(store) if part.parent.name == run_id]
    content = dict(folders.CONTENT)
    if known:
        held = f"SELECT sample_id FROM {relations.rows_of(known, 'stored_samples')}"
        newest = f"SELECT * FROM {relations.rows_of(known[-1:], 'runs')}"
        changed = f"""
            SELECT EXISTS (FROM stored_samples WHERE run_id = $run AND sample_id NOT IN ({held}))
                OR EXISTS (SELECT * FROM runs WHERE run_id = $run EXCEPT {newest})
        """
        if connection.execute(changed, {"run": run_id}).fetchone() == (False,):
            return False
        for table in relations.SEALED_VIEWS:
            content[table] = content[table].replace("$run", f"$run AND sample_id NOT IN ({held})")
    number = 1 + max((int(part.name) for part in known), default=0)
    name = f"{number:06d}"
    folders.write_folder(connection, run_id, root_of(store) / run_id / name, content, part=name)
    return True


class Answering(threading.Thread):
    """Answers requests for snapshots of an open store until it is stopped.

    Args:
        cursor: gives a cursor of the store, or None when the store is gone: the thread ends then.
        store: its file.
    """

    def __init__(self, cursor: Callable[[], duckdb.DuckDBPyConnection | None], store: Path) -> None:
        super().__init__(name="store-snapshots", daemon=True)
        self._cursor = cursor
        self._store = store
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look for requests once a second."""
        while not self._stopped.wait(POLL_S):
            wanted = list(root_of(self._store).glob(f"*{WANTED}"))
            cursor = self._cursor()
            if cursor is None:
                return
            with cursor:
                if wanted:
                    self._answer(cursor, wanted)

    def stop(self) -> None:
        """End the thread; a snapshot that is being written is finished first."""
        self._stopped.set()
        self.join()

    def _answer(self, cursor: duckdb.DuckDBPyConnection, wanted: list[Path]) -> None:
        try:
            write(cursor, self._store)
        except (StoreError, OSError, duckdb.Error) as error:
            logger.warning("no snapshot of %s: %s", self._store, error)
            for path in wanted:
                with contextlib.suppress(OSError):  # a full disk takes no reason; a request becomes a refusal all the same
                    path.write_text(first_line(error), encoding="utf-8")
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(FAILED))
        for path in wanted:
            path.unlink(missing_ok=True)
