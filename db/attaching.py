"""Attaching: folders that other processes or stores wrote - parts of runs, or sealed runs whole - become part of a store.

Parts of a run become rows of the file, and not files that the store refers to. The run may still grow, by more parts or by a
run that goes on in the store; rows can be graded anew, and be sealed into one folder when it is over; and a query reads one
table where many writers would leave hundreds of files. A whole sealed run that the store does not know stays what it is: its
files are copied, and need no lock to be read.

What is given may be there already, in part or all of it: each sample is kept once, and attaching twice changes nothing. What
contradicts what is there, or each other, is refused, and the store stays as it was: one transaction holds everything. It
reads some folders at a time, and DuckDB writes what it holds to the disk: the memory that it takes is bounded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import duckdb

from rrti_sgl.db import connection as opening
from rrti_sgl.db import folders, inserting, record_rows, relations, sealing
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import IN_BOTH_LAYOUTS, TABLES
from rrti_sgl.db.upgrading import upgrade_file
from rrti_sgl.errors import StoreError
from rrti_sgl.records import RunRecord
from rrti_sgl.sinks.refusals import differences

# What the writers of one run may say differently of it: when and where they wrote, and how it ended. Where a file lies is in
# the configuration and not in its hash, which counts.
OWN = ("status", "created_at", "finished_at", "error", "config", "config_hash", "base_server", "reasoning_server")
AGREED = tuple(field.name for field in fields(RunRecord) if field.name not in {*OWN, "package_version"})
# What decoding a sample cost: another time it costs something else.
COSTS = (
    *("started_at", "wall_ms", "base_calls", "reasoning_calls", "base_ms", "reasoning_ms"),
    *("base_prompt_tokens", "base_cached_tokens", "reasoning_prompt_tokens", "reasoning_cached_tokens"),
    *("tokens_drafted", "tokens_discarded", "tokens_scored"),
)
REMEDY = "Leave one of them out, or delete the run here first (rrti db delete)."
_FOLDER = "parse_dirpath(file_of_row) AS folder"
# Folders and tokens that are read at a time (docs/performance.md).
_AT_ONCE, _TOKENS_AT_ONCE = 200, 1_000_000


@dataclass(frozen=True)
class Attached:
    """What became of a run: its status, the samples and tokens that are new, and the samples that were there before."""

    run_id: str
    status: str
    samples: int
    tokens: int
    known_samples: int


def attach(store: Path, given: Sequence[Path]) -> list[Attached]:
    """Take runs and parts of runs into a store, all of it or nothing; a store that is missing is made.

    Args:
        store: the DuckDB file; nobody else may have it open.
        given: folders of sealed runs or of parts, or folders above them (a folder that `ParquetSink` writes, say).

    Returns:
        What became of each run, in order of their ids.

    Raises:
        StoreError: a folder has neither, or is damaged; something contradicts something else; a run that is sealed in the
            store would get more samples.
        StoreVersionError: the files are of a newer schema.
        StoreLockedError: another process has the store open.
    """
    runs = _find(given)
    fresh = not opening.is_there(store)
    if fresh:
        upgrade_file(store)
    copies: list[Path] = []
    try:
        with sealing.open_for_upkeep(store, lasting=True) as connection:
            connection.execute("BEGIN TRANSACTION")
            done = [_attach(connection, store, run, copies) for run in runs]
            connection.execute("COMMIT")
    except BaseException:
        for copy in copies:
            folders.discard(copy)
        if fresh:
            store.unlink()
        raise
    return done


def attach_parts(store: Store, run_id: str, parts: Mapping[Path, Manifest]) -> None:
    """Take parts of a run into a store open for writing, as `attach` does. Of a sample that was made twice one counts.

    Pairs that share out a run may make a sample twice, and in floating point not bit by bit alike. So the rows of what is
    there already are not compared.

    Args:
        store: may read the folder that the parts lie in (`Store.open`).
        run_id: the run.
        parts: folders with their manifests, found undamaged.

    Raises:
        StoreError: see `attach`.
    """
    with store.writing() as connection:
        _attach(connection, store.path, _Given(run_id, parts), [], compared=False)


def in_groups(given: Iterable[tuple[Path, Manifest]]) -> Iterator[dict[Path, Manifest]]:
    """So many folders at a time as memory is bounded for; a folder is taken whole, and those after it wait to be read."""
    group: dict[Path, Manifest] = {}
    tokens = 0
    for folder, manifest in given:
        if group and (len(group) == _AT_ONCE or tokens + manifest.n_tokens > _TOKENS_AT_ONCE):
            yield group
            group, tokens = {}, 0
        group[folder] = manifest
        tokens += manifest.n_tokens
    if group:
        yield group


@dataclass(frozen=True)
class _Given:
    """What is given of one run, all of it or a group: its folders with their manifests."""

    run_id: str
    folders: Mapping[Path, Manifest]

    def groups(self) -> Iterator[_Given]:
        """See `in_groups`."""
        return (_Given(self.run_id, group) for group in in_groups(self.folders.items()))

    def rows(self, table: str) -> str:
        """The rows of all folders, with `file_of_row`, as SQL reads them."""
        return relations.rows_of(list(self.folders), table, with_file=True)

    @property
    def is_older(self) -> bool:
        """Whether a folder is of an older schema, so that it may lack columns."""
        return any(manifest.is_older for manifest in self.folders.values())

    def whole(self) -> Path | None:
        """The one folder that has all of the run, where it is one that was sealed."""
        [folder, *others] = self.folders
        return None if others or self.folders[folder].part is not None else folder


def _find(given: Sequence[Path]) -> list[_Given]:
    """What is given, by run, every byte compared with the manifests."""
    found: dict[str, dict[Path, Manifest]] = {}
    for root in given:
        # Hidden are snapshots of a store, and what was never finished.
        manifests = [path for path in root.rglob(relations.MANIFEST) if not _is_hidden(path.relative_to(root))]
        if not manifests:
            raise StoreError(f"{root} holds no sealed run and no parts of one: there is no {relations.MANIFEST} in it.")
        for folder in sorted(path.parent.resolve() for path in manifests):
            manifest = Manifest.read(folder)
            manifest.check_revision(folder)
            manifest.refuse_damage(folder)
            found.setdefault(manifest.run_id, {})[folder] = manifest
    return [_Given(run_id, found[run_id]) for run_id in sorted(found)]


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(".") for name in path.parts)


def _attach(
    connection: duckdb.DuckDBPyConnection, store: Path, run: _Given, copies: list[Path], *, compared: bool = True
) -> Attached:
    of_run = [run.run_id]
    rows = connection.execute("FROM runs WHERE run_id = ?", of_run).to_arrow_table().to_pylist()
    known = record_rows.record_of(RunRecord, rows[0]) if rows else None
    sealed = connection.execute("FROM sealed_runs WHERE run_id = ?", of_run).fetchone() is not None
    whole = run.whole() if known is None and not sealed else None
    connection.execute("CREATE OR REPLACE TEMP TABLE unseen AS SELECT sample_id FROM samples WHERE run_id = ?", of_run)
    record = _agreed(connection, run, known)
    n_new = n_known = n_tokens = 0
    for group in run.groups():
        _refuse_half_samples(connection, group)
        _list_samples(connection, group)
        _refuse_contradictions(connection, group, compared)
        new = _count(connection, "SELECT count(*) FROM given_samples WHERE NOT known")
        n_known += _count(connection, "DELETE FROM unseen WHERE sample_id IN (SELECT sample_id FROM given_samples)")
        n_new += new
        if sealed and new:
            message = f"Run {run.run_id} is sealed in {store}, and what is given has {new} samples more."
            raise StoreError(message, f"Take it back into the file first: rrti db unseal {run.run_id} {store}")
        if sealed:
            continue
        for table in ("problems", "calibrations"):
            source = f"SELECT * EXCLUDE file_of_row FROM {group.rows(table)} ORDER BY file_of_row"
            inserting.insert_selected(connection, table, source, older=group.is_older, on_conflict=inserting.IF_MISSING)
        if whole is None:
            n_tokens += _insert_samples(connection, group)
    if known is None:
        inserting.insert_records(connection, "runs", [record])
    elif not sealed:
        cells = dict(zip(record_rows.fields_of(RunRecord), record_rows.row_of(record), strict=True))
        end = "UPDATE runs SET status = $status, error = $error, finished_at = $finished_at WHERE run_id = $run_id"
        connection.execute(end, {name: cells[name] for name in ("status", "error", "finished_at", "run_id")})
    if whole is not None:
        manifest = run.folders[whole]
        _copy(whole, manifest, relations.run_folder(store, run.run_id), copies)
        sealing.register(connection, store, manifest)
        n_new, n_tokens, n_known = manifest.n_samples, manifest.n_tokens, 0
    return Attached(run.run_id, (known if known and sealed else record).status, n_new, n_tokens, n_known)


def _count(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    [(n,)] = connection.execute(statement).fetchall()
    return int(n)


def _agreed(connection: duckdb.DuckDBPyConnection, run: _Given, known: RunRecord | None) -> RunRecord:
    """The record of a run: as it began in the store, or else first of all; ended as the latest end says.

    Raises:
        StoreError: the records are of different runs.
    """
    rows: list[dict[str, Any]] = []
    for group in run.groups():
        _refuse_other_columns(connection, group)
        rows += connection.execute(f"FROM {group.rows('runs')}").to_arrow_table().to_pylist()
    rows.sort(key=lambda row: (row["created_at"], row["file_of_row"]))
    records = {Path(row["file_of_row"]).parent: record_rows.record_of(RunRecord, row) for row in rows}
    place, first = next(iter(records.items())) if known is None else ("the store", known)
    first = replace(first, run_id=run.run_id)
    for folder, record in records.items():
        if found := differences(first, record, AGREED):
            raise StoreError(f"Run {run.run_id} is not the same in {place} and {folder}: {'; '.join(found)}.", REMEDY)
    ends = [(end.finished_at, end.status, end.error or "") for end in (first, *records.values()) if end.finished_at]
    if not ends:
        return first
    finished_at, status, error = max(ends)
    return replace(first, status=status, error=error or None, finished_at=finished_at)


def _refuse_other_columns(connection: duckdb.DuckDBPyConnection, run: _Given) -> None:
    """Raises StoreError where a file lacks columns of its table, or has others, or of another type."""
    for table in relations.FILES:
        wanted = _types(connection, table)
        for folder, manifest in run.folders.items():
            given = _types(connection, f"SELECT * FROM {relations.files_of([folder], table)}")
            # An older schema had fewer columns; JSON is text in a file.
            names = wanted if not manifest.is_older else set(given) & set(wanted)
            if other := {name: kind for name, kind in given.items() if kind != wanted.get(name)} or set(names) - set(given):
                name = sorted(other)[0]
                path, kinds = relations.file_of(folder, table), (given.get(name, "missing"), wanted.get(name, "unknown"))
                raise StoreError(f"{path}: the column {name} is {kinds[0]}, in the store it is {kinds[1]}.")


def _types(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, str]:
    described = connection.execute(f"DESCRIBE {rows}").fetchall()
    return {name: "VARCHAR" if kind == "JSON" else kind for name, kind, *_ in described}


def _refuse_half_samples(connection: duckdb.DuckDBPyConnection, run: _Given) -> None:
    """Raises StoreError where a sample of a folder has other tokens there than it says, or is of another run."""
    tables = relations.TOKEN_TABLES
    tokens = " UNION ALL ".join(f"SELECT run_id, sample_id, {_FOLDER} FROM {run.rows(table)}" for table in tables)
    query = f"""
        WITH said AS (SELECT run_id, sample_id, {_FOLDER}, n_tokens FROM {run.rows("stored_samples")}),
        counted AS (SELECT run_id, sample_id, folder, count(*) AS n FROM ({tokens}) GROUP BY ALL)
        SELECT sample_id, folder FROM said FULL JOIN counted USING (run_id, sample_id, folder)
        WHERE n_tokens IS DISTINCT FROM COALESCE(n, 0) OR run_id <> $run ORDER BY ALL LIMIT 1
    """
    if half := connection.execute(query, {"run": run.run_id}).fetchone():
        raise StoreError(f"Sample {half[0]} is not whole in {half[1]}.", "Leave that folder out.")


def _list_samples(connection: duckdb.DuckDBPyConnection, run: _Given) -> None:
    """A table `given_samples`: the folder that each sample is taken from, in how many it is, whether the store has it."""
    query = f"""
        CREATE OR REPLACE TEMP TABLE given_samples AS
        SELECT sample_id, min(folder) AS folder, count(*) AS times,
            sample_id IN (SELECT sample_id FROM samples WHERE run_id = $run) AS known
        FROM (SELECT sample_id, {_FOLDER} FROM {run.rows("stored_samples")}) GROUP BY sample_id
    """
    connection.execute(query, {"run": run.run_id})


def _refuse_contradictions(connection: duckdb.DuckDBPyConnection, run: _Given, samples: bool) -> None:
    """Raises StoreError where folders and store have different things under one name; samples are compared if so said."""

    def refuse(kind: str, key: Sequence[str], columns: Sequence[str], rows: str, stored: str) -> None:
        names, content = ", ".join(key), ", ".join(f'"{name}"' for name in columns)
        query = f"""
            WITH placed AS (
                SELECT *, {_FOLDER} FROM {rows}
                UNION ALL BY NAME SELECT *, 'the store' AS folder FROM {stored}
            ),
            held AS (SELECT {names}, folder, bit_xor(hash({content})) AS content FROM placed GROUP BY {names}, folder)
            SELECT {names}, string_agg(folder, ', ' ORDER BY folder) FROM held
            GROUP BY {names} HAVING min(content) <> max(content) ORDER BY ALL LIMIT 1
        """
        if other := connection.execute(query).fetchone():
            raise StoreError(f"{kind} {' '.join(other[:-1])} is not the same in {other[-1]}.", REMEDY)

    refuse("Problem", ("problem_set", "problem_id"), ("question", "answer"), run.rows("problems"), "problems")
    columns = TABLES["calibrations"].names
    refuse("Calibration", ("calibration_id",), columns, run.rows("calibrations"), "calibrations")
    # What is there once cannot contradict itself.
    twice = "FROM given_samples WHERE known OR times > 1"
    if not samples or not _count(connection, f"SELECT count(*) {twice}"):
        return
    twice = f"SEMI JOIN ({twice}) USING (sample_id)"
    here = f"{twice} WHERE run_id = '{run.run_id}'"
    of_samples = [name for name in TABLES["stored_samples"].names if name not in COSTS]
    refuse("Sample", ("sample_id",), of_samples, f"{run.rows('stored_samples')} {twice}", f"samples {here}")
    stored = {t: f"(FROM {t} UNION ALL BY NAME FROM {relations.SEALED_VIEWS[t]})" for t in relations.TOKEN_TABLES}
    for table, rows in stored.items():
        refuse("Sample", ("sample_id",), TABLES[table].names, f"{run.rows(table)} {twice}", f"{rows} {here}")
    given = " UNION ALL BY NAME ".join(f"FROM {run.rows(table)} {twice}" for table in stored)
    there = " UNION ALL BY NAME ".join(f"FROM {rows} {here}" for rows in stored.values())
    refuse("Sample", ("sample_id",), IN_BOTH_LAYOUTS, f"({given})", f"({there})")


def _insert_samples(connection: duckdb.DuckDBPyConnection, run: _Given) -> int:
    """Insert the samples that the store does not have, each from one folder; returns the number of their tokens."""
    n_tokens = 0
    for table in relations.SEALED_VIEWS:
        new = f"""
            SELECT * EXCLUDE file_of_row FROM {run.rows(table)} AS rows
            SEMI JOIN given_samples AS new
            ON rows.sample_id = new.sample_id AND parse_dirpath(file_of_row) = new.folder AND NOT new.known
        """
        n = inserting.insert_selected(connection, table, new, older=run.is_older)
        n_tokens += n if table in relations.TOKEN_TABLES else 0
    return n_tokens


def _copy(folder: Path, manifest: Manifest, final: Path, copies: list[Path]) -> None:
    """Put the files of a sealed run in place, and the place on the list of what goes if the rest fails."""
    if folder == final:  # sealing was cut off: the files are there and not registered
        return
    partial = folders.partial_of(final)
    for name in (*manifest.files, relations.MANIFEST):
        shutil.copyfile(folder / Path(name).name, partial / Path(name).name)
        folders.sync(partial / Path(name).name)
    manifest.refuse_damage(partial)
    copies.append(final)
    folders.publish(partial, final)
