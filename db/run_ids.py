"""Ids of runs as names of folders.

A store that comes from elsewhere chose its ids, and what is sealed, deleted or attached lies where they say. So every door
to a store checks them, and folders are derived in one place (`rrti_sgl.db.relations.run_folder`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import duckdb

from rrti_sgl.errors import StoreError, UsageError

_NAME = re.compile(r"[\w-][\w.-]*")
_MOST_BYTES = 200  # a temporary name adds some to it; file systems take 255


def is_name(value: object) -> bool:
    """Whether a value can be the name of a folder: text without a separator, not hidden, not too long for a file system."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and len(value.encode()) <= _MOST_BYTES


def checked(run_id: str) -> str:
    """The id, where it can be the name of a folder.

    Raises:
        UsageError: it cannot.
    """
    if not is_name(run_id):
        raise UsageError(f"The run id {run_id!r} is no name of a folder.", "Use letters, digits and _ - . alone.")
    return run_id


def refuse_others(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    """Refuse a store with ids that could lead out of its own folder.

    Args:
        connection: to the store.
        tables: the tables that it has.

    Raises:
        StoreError: names the id.
    """
    for table in sorted({"runs", "sealed_runs"} & set(tables)):
        for (run_id,) in connection.execute(f"SELECT run_id FROM {table}").fetchall():
            if not is_name(run_id):
                raise StoreError(
                    f"The store has a run with the id {run_id!r}, which is no name of a folder: it is not opened.",
                    "Paths are made of ids, so such a store is damaged or was made to do harm. Take a copy you trust.",
                )
