"""Opening the DuckDB file of a store, with DuckDB's complaints turned into errors that say what to do.

A store's connection is confined: no file or network access from SQL beyond the folder of its sealed runs, no extensions, no
Python variables as tables, and the settings are locked. What runs through a store can reach the store and nothing else.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import duckdb

from rrti_sgl import migrations
from rrti_sgl.db import run_ids
from rrti_sgl.db.spilling import spill_folder
from rrti_sgl.errors import StoreError, StoreLockedError, StoreVersionError, UsageError, argument

OFFLINE = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
}
# Fewer checkpoints while samples stream in; the rest is checkpointed when the store is closed.
WRITING = {"checkpoint_threshold": "1GB"}
# What is not checkpointed stays in memory (450 MiB a million tokens), and what was written or read stays cached: a process
# that has a store open for weeks bounds both. A checkpoint takes the longer the larger the file is: rarer ones cost less
# in all (docs/endpoint.md). What it reads of other files it reads once, and need not keep.
LASTING = {"checkpoint_threshold": "128MB", "memory_limit": "512MB", "enable_external_file_cache": "false"}


# What DuckDB says of a file that is cut or changed.
_DAMAGE = re.compile(
    "read enough bytes|orrupt|checksum|(failed|error).* (to )?deserializ|storage version|INTERNAL", re.IGNORECASE
)


def connect(
    path: Path, *, read_only: bool, memory_limit: str | None = None, spill: bool = True, lasting: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open the file; what runs on the connection may still reach files, until `confine`.

    Args:
        path: the DuckDB file; created unless `read_only`.
        read_only: open for reading.
        memory_limit: DuckDB's limit, such as "2GB"; None leaves its own default (80 % of the memory).
        spill: let what is more than that go to temporary files: beside the file where it is written, and else in a folder of
            the process (`rrti_sgl.db.spilling`).
        lasting: it is written for a long time, or much at once: what it holds in memory is bounded.

    Raises:
        StoreLockedError: another process holds the file.
        StoreError: the file cannot be opened, is none, or no DuckDB file.
    """
    settings = OFFLINE | ({} if read_only else WRITING) | (LASTING if lasting else {}) | _limit(memory_limit)
    if read_only or not spill:
        settings |= _temporary_files(str(Path.cwd() / path) if spill else None)
    if str(path).startswith(":memory:"):
        raise StoreError(f"The store {path} would be in memory, and gone with the command.", "Name a file.")
    if path.is_dir():
        raise StoreError(f"The store {path} is a folder.", "Name a file in it.")
    if path.is_fifo() or path.is_socket():  # opening one waits for somebody
        raise StoreError(f"The store {path} is a pipe and no file.", "Name another file.")
    try:
        return duckdb.connect(str(path), read_only=read_only, config=dict(settings))
    except duckdb.Error as error:
        raise open_error(path, str(error)) from error


def connect_current(
    path: Path, *, read_only: bool, memory_limit: str | None = None, spill: bool = True, lasting: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open a file that is there and has the newest schema, as `connect` does.

    Raises:
        StoreVersionError: its schema is older (the message names the upgrade command) or newer.
        StoreLockedError, StoreError: as `connect`; there is no file, it is empty, or it is no trace store.
    """
    if not is_there(path):
        raise StoreError(f"There is no store at {path}.", "Name another file.")
    connection = connect(path, read_only=read_only, memory_limit=memory_limit, spill=spill, lasting=lasting)
    try:
        revision = revision_of(connection)
        if revision is None:
            raise StoreError(f"The store {path} is empty.", f"Run: rrti db upgrade {path}")
        check_revision(path, revision)
    except BaseException:
        connection.close()
        raise
    return connection


def is_there(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        StoreError: that cannot be found out: a folder may not be looked into, or the name is none that can be.
    """
    try:
        return path.exists()
    except OSError as error:
        why = f"The store {path} cannot be reached ({error.strerror})."
        raise StoreError(why, "Check the path and its rights.") from error


def make_folder(path: Path) -> None:
    """Make the folder that a store lies in.

    Raises:
        StoreError: it cannot be made: a file is in the way, or there are no rights.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"The folder {path.parent} of the store {path} cannot be made ({error.strerror})."
        raise StoreError(why, "Check the path and its rights.") from error


def identity(path: Path) -> tuple[int, int] | None:
    """Which file a name means now; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect_memory(memory_limit: str | None = None, *, spill: bool = False) -> duckdb.DuckDBPyConnection:
    """An empty database in memory, with the same settings.

    Raises:
        StoreError: the limit is none.
    """
    settings = OFFLINE | _limit(memory_limit) | _temporary_files(secrets.token_hex(8) if spill else None)
    try:
        return duckdb.connect(":memory:", config=dict(settings))
    except duckdb.Error as error:
        raise translate(error) from error


def literal(value: str | Path) -> str:
    """Text as SQL writes it. For a parameter, DuckDB imports pandas where it is installed, and every command would wait."""
    return "'" + str(value).replace("'", "''") + "'"


def is_confined(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether another connection of this process has the same file open, and confined it."""
    return connection.execute("SELECT current_setting('lock_configuration')").fetchone() == (True,)


def confine(connection: duckdb.DuckDBPyConnection, *folders: Path) -> None:
    """From now on SQL reaches the database itself and the files under these folders, and no setting can be changed."""
    if is_confined(connection):  # the settings belong to the file as this process has it open
        return
    connection.execute(f"SET allowed_directories = [{', '.join(map(literal, folders))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def bytes_of(memory_limit: str) -> int:
    """Bytes that a limit such as "2GB" or "1.5 GiB" names.

    Raises:
        UsageError: it names none, or more than machines have.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT])(i?)B\s*", memory_limit, re.IGNORECASE)
    size = float(found[1]) * (1024 if found[3] else 1000) ** (" KMGT".index(found[2].upper())) if found else 0
    if not 10**6 <= size <= 10**15:
        raise UsageError(argument("memory_limit", text=f"{memory_limit!r} is no size of memory."), "Give for example 2GB.")
    return int(size)


def _limit(memory_limit: str | None) -> dict[str, str]:
    if memory_limit is None:
        return {}
    bytes_of(memory_limit)
    return {"memory_limit": memory_limit}


def _temporary_files(database: str | None) -> dict[str, str]:
    """Where they go, of a database that has such a name in this process; None: nowhere."""
    folder = None if database is None else spill_folder(database)
    return {"temp_directory": "" if folder is None else str(folder)}


def open_error(path: Path, message: str) -> StoreError:
    """The error for what DuckDB said when it could not open `path`."""
    if "Could not set lock" in message:
        holder = re.search(r"held in (.+?) \(PID (\d+)\)", message)
        who = f"{holder[1]}, process {holder[2]}" if holder else "another process"
        return StoreLockedError(f"The store {path} is held open by {who}.", "Wait until it is done, or stop it.")
    if "different configuration" in message:
        return already_open(path)
    if "not a valid DuckDB database file" in message:
        return StoreError(f"{path} is not a trace store: it is no DuckDB file.", "Name another file.")
    if "version number" in message:
        return StoreError(
            f"{path} was written in a file format that this DuckDB ({duckdb.__version__}) cannot read.",
            "Read it with the version that wrote it.",
        )
    if _DAMAGE.search(message):
        return StoreError(f"The store {path} is damaged: {first_line(message)}", "Take it from a copy.")
    return StoreError(f"The store {path} cannot be opened: {first_line(message)}", "Check the path and its rights.")


def already_open(path: Path) -> StoreLockedError:
    """The error for a file that this process has open in a way that leaves no second one."""
    return StoreLockedError(f"The store {path} is already open in this process.", "Use the open store, or close it first.")


def translate(error: Exception) -> StoreError:
    """The error for what DuckDB said while a store was in use: its first line, without DuckDB's class names."""
    said = first_line(error)
    away = "No files found that match the pattern" in said
    return StoreError(f"The store refused: {said}", "The files of a sealed run are away: put them back." if away else "")


def first_line(error: Exception | str) -> str:
    """What DuckDB said, in one line and without the name of its error class."""
    line = next((line for line in str(error).splitlines() if line.strip()), str(error))
    return re.sub(r"^[A-Z][\w ]* Error: ", "", line).strip()


def revision_of(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The schema revision of an open file; None when it has no tables at all.

    Raises:
        StoreError: the file holds tables, but not those of a trace store, or ids of runs that are no names of folders.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "alembic_version" in tables:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is not None:
            run_ids.refuse_others(connection, tables)
            return str(row[0])
    if tables - {"alembic_version"}:
        raise StoreError(
            f"The file is no trace store: it holds {', '.join(sorted(tables))}, but no schema revision.",
            "Name another file.",
        )
    return None


def check_revision(path: Path, revision: str) -> None:
    """Refuse a schema that is older or newer than this package.

    Raises:
        StoreVersionError: with the command that brings an older store up to date.
    """
    refuse_newer(path, revision)
    if revision != migrations.head():
        message = f"The store {path} has schema {revision}; this version needs {migrations.head()}."
        raise StoreVersionError(message, f"Run: rrti db upgrade {path}")


def refuse_newer(path: Path, revision: str) -> None:
    """Raises StoreVersionError where a schema is none that this package knows."""
    known = migrations.revisions()
    if revision not in known:
        newest = f"newer than {known[-1]}, the newest that this version knows"
        raise StoreVersionError(f"The store {path} has schema {revision}, {newest}.", "Update rrti-sgl.")
