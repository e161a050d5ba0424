"""Folders of Parquet files that hold a run, or a part of one: written under a temporary name, made durable, then named.

A folder has one file for each table and a manifest of counts and SHA-256 sums. What was written is compared with the rows it
was made of before the folder gets its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from rrti_sgl import migrations
from rrti_sgl.db import relations, run_ids
from rrti_sgl.errors import StoreError, StoreVersionError

ROW_GROUP = 122_880
_LONGEST_MANIFEST = 2**20  # bytes
# What belongs to a run, table by table.
CONTENT = {
    "runs": "FROM runs WHERE run_id = $run",
    "problems": "FROM problems WHERE problem_set IN (SELECT problem_set FROM runs WHERE run_id = $run) ORDER BY ALL",
    "calibrations": """
        FROM calibrations
        WHERE run_id = $run OR calibration_id IN (SELECT calibration_id FROM runs WHERE run_id = $run) ORDER BY ALL
    """,
    "stored_samples": "FROM stored_samples WHERE run_id = $run ORDER BY sample_id",
} | {table: f"FROM {table} WHERE run_id = $run ORDER BY sample_id, position" for table in relations.TOKEN_TABLES}


@dataclass(frozen=True)
class FileFacts:
    """What a manifest says of a file."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder says of itself.

    Args:
        run_id: the run.
        revision: of the schema that its files have.
        n_samples, n_tokens: what it holds.
        files: a file's name -> its rows and the SHA-256 of its bytes.
        part: name of the part of a run that the folder is; None for a whole run.
    """

    run_id: str
    revision: str
    n_samples: int
    n_tokens: int
    files: dict[str, FileFacts]
    part: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises StoreError where there is none, or none of ours."""
        try:
            path = folder / relations.MANIFEST
            if not path.is_file() or path.stat().st_size > _LONGEST_MANIFEST:
                raise OSError("it is no file, or far too long")
            text = path.read_bytes()
            manifest = TypeAdapter(cls).validate_json(text, strict=True)
        except (OSError, ValidationError) as error:
            said = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                said = f"{'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']}"
            raise StoreError(
                f"{folder} is no sealed run and no part of one: its manifest cannot be read ({said})."
            ) from error
        for name in (manifest.run_id, manifest.part):
            if name is not None and not run_ids.is_name(name):
                raise StoreError(f"{folder} is of {name!r}, which is no name of a folder.")
        return manifest

    @classmethod
    def of_sealed(cls, folder: Path) -> Manifest:
        """That of a folder beside a store, which has its run's name; raises as `read`, or where it is of another."""
        manifest = cls.read(folder)
        if manifest.run_id != folder.name:
            raise StoreError(f"{folder} is of run {manifest.run_id!r} and not of the one that it is named after.")
        return manifest

    @property
    def is_older(self) -> bool:
        """Whether the files are of an older schema than this package's; they are read all the same."""
        return self.revision in migrations.revisions()[:-1]

    def check_revision(self, folder: Path) -> None:
        """Raises StoreVersionError where the files are of a schema that this package does not know."""
        if self.revision not in migrations.revisions():
            message = f"{folder} was written with schema {self.revision}; this version reads up to {migrations.head()}."
            raise StoreVersionError(message, "Update rrti-sgl.")

    def refuse_damage(self, folder: Path) -> None:
        """Raises StoreError where anything of the folder is not as the manifest says."""
        if damage := self.damage(folder):
            raise StoreError(f"{folder} is damaged: {'; '.join(damage)}.", "Take it from a copy.")

    def damage(self, folder: Path) -> list[str]:
        """What of the folder is not as the manifest says, one line each; reads every byte."""
        wanted = {f"{table}.parquet" for table in relations.FILES}
        lines = [f"the manifest does not list {name}" for name in sorted(wanted - set(self.files))]
        for name, facts in sorted(self.files.items()):
            path = folder / name
            if not path.is_file():
                lines.append(f"{name} is missing")
            elif sha256(path) != facts.sha256:
                lines.append(f"{name} was changed: its SHA-256 is not the manifest's")
        return lines or self._lies(folder)

    def _lies(self, folder: Path) -> list[str]:
        """What whole files hold beside what the manifest says: other counts, or rows of other runs."""
        lines, rows = [], {}
        for table in relations.FILES:
            path = relations.file_of(folder, table)
            try:
                with pq.ParquetFile(path) as file:
                    rows[table] = file.metadata.num_rows
                    # Problems are of no run, and a calibration may be of another one, whose threshold this run has.
                    has_ids = table not in ("problems", "calibrations")
                    ids = set(file.read(["run_id"])["run_id"].unique().to_pylist()) if has_ids else set()
            except (OSError, pa.ArrowException, KeyError) as error:
                return [f"{path.name} is no Parquet file of a run ({error})"]
            if rows[table] != (said := self.files[path.name].rows):
                lines.append(f"{path.name} has {rows[table]} rows, the manifest says {said}")
            if other := sorted(map(str, ids - {self.run_id})):
                lines.append(f"{path.name} has rows of the run {other[0]!r}")
        if rows["runs"] != 1:
            lines.append(f"runs.parquet has {rows['runs']} rows and not one")
        n_tokens = sum(rows[table] for table in relations.TOKEN_TABLES)
        held = rows["stored_samples"]
        if (self.n_samples, self.n_tokens) != (held, n_tokens):
            counts = f"{held} samples and {n_tokens} tokens"
            lines.append(f"the files hold {counts}, the manifest says {self.n_samples} and {self.n_tokens}")
        return lines


def write_folder(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    final: Path,
    content: Mapping[str, str] = CONTENT,
    part: str | None = None,
) -> Manifest:
    """Write what belongs to a run into a folder, which is there whole or not at all.

    Args:
        connection: of the store; it must be allowed to read the folder.
        run_id: the run.
        final: where the folder will be; what lies there is replaced.
        content: table -> what of it to write, from FROM on, with `$run`.
        part: name of the part of the run that this is; None for a whole run.

    Raises:
        StoreError: what was written is not what was read.
        OSError: the disk refused.
    """
    partial = partial_of(final)
    files: dict[str, FileFacts] = {}
    for table, rows_of in content.items():
        path = relations.file_of(partial, table)
        rows = _write_file(connection.execute(f"SELECT * {rows_of}", {"run": run_id}), path)
        _compare(connection, table, rows_of, partial, run_id)
        files[path.name] = FileFacts(rows, sha256(path))
    n_tokens = sum(files[f"{table}.parquet"].rows for table in relations.TOKEN_TABLES)
    manifest = Manifest(run_id, migrations.head(), files["stored_samples.parquet"].rows, n_tokens, files, part)
    text = json.dumps({k: v for k, v in asdict(manifest).items() if v is not None}, indent=1, sort_keys=True)
    (partial / relations.MANIFEST).write_text(text, encoding="utf-8")
    sync(partial / relations.MANIFEST)
    publish(partial, final)
    return manifest


def _write_file(result: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Write what a query returns, row group by row group; returns the number of rows."""
    reader = result.to_arrow_reader(ROW_GROUP)
    # Measured (benchmarks/store.py): ids, texts and numbers of few values are smallest as a dictionary, floats with their
    # bytes apart. DuckDB reads bytes apart for floats alone.
    floats = {field.name for field in reader.schema if pa.types.is_floating(_item(field.type))}
    rows = 0
    with pq.ParquetWriter(
        path,
        reader.schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=[_leaf(field) for field in reader.schema if field.name not in floats],
        use_byte_stream_split=[_leaf(field) for field in reader.schema if field.name in floats],
    ) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += len(batch)
    sync(path)
    return rows


def _leaf(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def _item(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_list(kind) else kind


def _compare(connection: duckdb.DuckDBPyConnection, table: str, content: str, folder: Path, run_id: str) -> None:
    """Raises StoreError unless the file holds the rows it was made of (count and combined hash)."""
    summary = "SELECT count(*), bit_xor(hash(rows))"
    before = connection.execute(f"{summary} FROM (SELECT * {content}) AS rows", {"run": run_id}).fetchone()
    described = connection.execute(f"DESCRIBE {table}").fetchall()
    columns = ", ".join(f'"{name}"::{kind} AS "{name}"' for name, kind, *_ in described)
    after = connection.execute(
        f"{summary} FROM (SELECT {columns} FROM {relations.files_of([folder], table)}) AS rows"
    ).fetchone()
    if before != after:
        path = relations.file_of(folder, table)
        raise StoreError(f"The file {path} does not hold what was written to it.", "Check the disk; the run is unchanged.")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard(folder: Path) -> None:
    """Remove a folder of a run; a reader sees it whole or not at all."""
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def partial_of(final: Path) -> Path:
    """An empty folder under a temporary name beside the final one."""
    folder = final.with_name(f".{final.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def publish(partial: Path, final: Path) -> None:
    """Give a complete folder its name, durably. What lies there was left by an attempt that was never registered."""
    sync(partial)
    discard(final)
    partial.rename(final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Make a file or a folder durable; on Windows nothing, where a folder cannot be opened for it."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
