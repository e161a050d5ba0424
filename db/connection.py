"""Opening the DuckDB file of a store, with DuckDB's complaints turned into errors that say what to do.

Every connection is confined: no file or network access from SQL, no extensions, no Python variables as tables, and the
settings are locked. What runs through a store can reach the store and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from rrti_sgl import migrations
from rrti_sgl.errors import StoreError, StoreLockedError, StoreVersionError

CONFINED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}
# Fewer checkpoints while samples stream in; the rest is checkpointed when the store is closed.
WRITING = {"checkpoint_threshold": "1GB"}


def connect(
    path: Path, *, read_only: bool, memory_limit: str | None = None, spill: bool = True
) -> duckdb.DuckDBPyConnection:
    """Open the file, confined.

    Args:
        path: the DuckDB file; created unless `read_only`.
        read_only: open for reading.
        memory_limit: DuckDB's limit, such as "2GB"; None leaves its own default (80 % of the memory).
        spill: let large intermediate results go to a temporary folder beside the file.

    Raises:
        StoreLockedError: another process holds the file.
        StoreError: the file cannot be opened or is no DuckDB file.
    """
    settings = CONFINED | ({} if read_only else WRITING)
    if memory_limit is not None:
        settings = settings | {"memory_limit": memory_limit}
    if not spill:
        settings = settings | {"temp_directory": ""}
    try:
        return duckdb.connect(str(path), read_only=read_only, config=dict(settings))
    except duckdb.Error as error:
        raise _open_error(path, str(error)) from error


def _open_error(path: Path, message: str) -> StoreError:
    """The error for what DuckDB said when it could not open `path`."""
    if "Could not set lock" in message:
        holder = re.search(r"held in (.+?) \(PID (\d+)\)", message)
        who = f"{holder[1]}, process {holder[2]}" if holder else "another process"
        return StoreLockedError(f"The store {path} is held open by {who}.", "Wait until it is done, or stop it.")
    if "different configuration" in message:
        return StoreLockedError(
            f"The store {path} is already open in this process.", "Use the open store, or close it first."
        )
    if "not a valid DuckDB database file" in message:
        return StoreError(f"{path} is not a trace store: it is no DuckDB file.", "Name another file with --db.")
    if "version number" in message:
        return StoreError(
            f"{path} was written in a file format that this DuckDB ({duckdb.__version__}) cannot read.",
            "Read it with the version that wrote it.",
        )
    return StoreError(f"The store {path} cannot be opened: {first_line(message)}", "Check the path and its rights.")


def translate(error: duckdb.Error) -> StoreError:
    """The error for what DuckDB said while a store was in use: its first line, without DuckDB's class names."""
    return StoreError(f"The store refused: {first_line(error)}")


def first_line(error: duckdb.Error | str) -> str:
    """What DuckDB said, in one line and without the name of its error class."""
    line = next((line for line in str(error).splitlines() if line.strip()), str(error))
    return re.sub(r"^[A-Z][\w ]* Error: ", "", line).strip()


def revision_of(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The schema revision of an open file; None when it has no tables at all.

    Raises:
        StoreError: the file holds tables, but not those of a trace store.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is not None:
            return str(row[0])
    if tables - {"alembic_version"}:
        raise StoreError(
            f"The file is no trace store: it holds {', '.join(sorted(tables))}, but no schema revision.",
            "Name another file with --db.",
        )
    return None


def check_revision(path: Path, revision: str) -> None:
    """Refuse a schema that is older or newer than this package.

    Raises:
        StoreVersionError: with the command that brings an older store up to date.
    """
    known = migrations.revisions()
    if revision not in known:
        raise StoreVersionError(
            f"The store {path} has schema {revision}, newer than {known[-1]}, the newest that this version knows.",
            "Update rrti-sgl.",
        )
    if revision != known[-1]:
        raise StoreVersionError(
            f"The store {path} has schema {revision}; this version needs {known[-1]}.",
            f"Run: rrti db upgrade {path}",
        )
