"""The relations that SQL reads: views over the tables of the file and over the Parquet files of sealed runs.

A sealed run is a folder `STORE.runs/RUN` beside the store `STORE.duckdb`, with one Parquet file for each of `FILES`. The
views name those files by their absolute paths, so that plain DuckDB can open the store from anywhere; a store that was moved
gets its views made anew when it is next opened for writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from rrti_sgl import migrations
from rrti_sgl.db import run_ids
from rrti_sgl.db.connection import literal
from rrti_sgl.db.tables import TABLES
from rrti_sgl.errors import StoreError
from rrti_sgl.science.metrics import METRICS

TOKEN_TABLES = ("exact_tokens", "compact_tokens")
# Table of the store -> view of the files that sealed runs have in its place.
SEALED_VIEWS = {"stored_samples": "sealed_samples"} | {name: f"sealed_{name}" for name in TOKEN_TABLES}
FILES = ("runs", "problems", "calibrations", *SEALED_VIEWS)
LOCATION = "location"
MANIFEST = "manifest.json"

# What samples add up to, as `run_totals` has it and `sealed_runs` keeps it. DuckDB's own hash differs between its versions.
_WHOLE = "FILTER (parent_sample_id IS NULL)"
_TOTALS = {
    "n_samples": "count(*)",
    "n_tokens": "COALESCE(sum(n_tokens), 0)::BIGINT",
    "n_takeovers": "COALESCE(sum(n_takeovers), 0)::BIGINT",
    "n_graded": "count(correct)",
    "n_correct": "count(*) FILTER (correct)",
    "n_problems": f"count(DISTINCT problem_id) {_WHOLE}",
    "problems": f"md5(to_json(list_sort(list(DISTINCT problem_id) {_WHOLE}))::VARCHAR)",
}
_AS_TOTALS = ",\n    ".join(f"{expression} AS {name}" for name, expression in _TOTALS.items())

# Before schema 0003 the configuration of a run did not say its kind; the program tells it.
_WITH_KIND = """CASE WHEN json_exists(config, '$.kind') THEN config::JSON ELSE json_merge_patch(
    config, json_object('kind', CASE WHEN program IN ('score', 'frontend', 'counterfactual') THEN program ELSE 'run' END)
) END"""


def runs_folder(store: Path) -> Path:
    """The folder beside a store that holds its sealed runs."""
    return store.resolve().with_suffix(".runs")


def run_folder(store: Path, run_id: str) -> Path:
    """The folder of a sealed run of a store.

    Raises:
        UsageError: the id is no name of a folder.
        StoreError: a link lies there, which could lead anywhere.
    """
    folder = runs_folder(store) / run_ids.checked(run_id)
    if folder.is_symlink():
        raise StoreError(f"{folder} is a link and no folder of a sealed run.", "Put the folder itself there.")
    return folder


def file_of(folder: Path, table: str) -> Path:
    """The Parquet file of a sealed run that holds the rows of a table."""
    return folder / f"{table}.parquet"


def _create_views(
    connection: duckdb.DuckDBPyConnection, folders: Sequence[Path], kind: str = "VIEW", *, registered: bool = True
) -> None:
    """Create every view over the tables and the folders of sealed runs; there must be none of these names.

    Args:
        connection: to a store, or to a database in memory with its tables.
        folders: of the sealed runs; those that are away make statements fail that would read them, and no others.
        kind: "VIEW" or "TEMP VIEW".
        registered: the store has a table of its sealed runs; else their files say what it would.
    """
    for table, view in SEALED_VIEWS.items():
        there = [folder for folder in folders if file_of(folder, table).is_file()]
        query = f"SELECT * FROM {rows_of(there, table) if there else f'{table} WHERE false'}"
        if away := [folder.name for folder in folders if folder not in there]:
            query += f" UNION ALL BY NAME {_failing(table, away)}"
        connection.execute(f"CREATE {kind} {view} AS {query}")
    if not registered:
        totals = f"SELECT run_id, NULL::TIMESTAMP AS sealed_at, {_AS_TOTALS} FROM sealed_samples GROUP BY run_id"
        connection.execute(f"CREATE {kind} sealed_runs AS {totals}")
    connection.execute(views_sql().replace("CREATE VIEW", f"CREATE {kind}"))


def _failing(table: str, away: Sequence[str]) -> str:
    """A query with the columns of a table that fails with what to do, whatever is asked of it: nothing of it is constant."""
    why = f"the files of sealed runs are away ({', '.join(away[:3])}): put them back, then run `rrti db upgrade`"
    fails = f"error({literal(why)} || left('.', i + 1))"
    columns = ", ".join(f'{fails}::{column.type} AS "{column.name}"' for column in TABLES[table].columns)
    return f"SELECT {columns} FROM range(1) AS rows(i) WHERE {fails} IS NULL"


def narrow_views(cursor: duckdb.DuckDBPyConnection, folders: Sequence[Path], *, registered: bool) -> None:
    """For one cursor, put views over the tables and some folders alone before those of the store."""
    _create_views(cursor, folders, "TEMP VIEW", registered=registered)


def views_sql() -> str:
    """The statements of `views.sql`, with metrics of a compact row and totals of samples where the file leaves room."""
    metrics = (f"CASE WHEN score_is = '{name}' THEN score ELSE {name} END AS {name}," for name in METRICS)
    text = migrations.VIEWS_FILE.read_text(encoding="utf-8")
    return text.replace("/* metrics */", f"\n{' ' * 8}".join(metrics)).replace("/* totals */", _AS_TOTALS)


def drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop every view of a store."""
    for (name,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        connection.execute(f'DROP VIEW "{name}"')


def refresh_views(connection: duckdb.DuckDBPyConnection, store: Path) -> None:
    """Make the views of an open store anew for what it registers as sealed and where it lies now.

    Runs that were not added up yet are, where their files are there.
    """
    drop_views(connection)
    rows = connection.execute("SELECT run_id, n_takeovers IS NULL FROM sealed_runs ORDER BY run_id").fetchall()
    folders = {run_id: run_folder(store, run_id) for run_id, _ in rows}
    for run_id in (run_id for run_id, is_open in rows if is_open):
        if file_of(folders[run_id], "stored_samples").is_file():
            totals = f"SELECT {_AS_TOTALS} FROM {rows_of([folders[run_id]], 'stored_samples')}"
            noted = ", ".join(f"{name} = totals.{name}" for name in _TOTALS)
            connection.execute(f"UPDATE sealed_runs SET {noted} FROM ({totals}) AS totals WHERE run_id = {literal(run_id)}")
    _create_views(connection, list(folders.values()))
    connection.execute(f"INSERT OR REPLACE INTO store_settings VALUES ('{LOCATION}', {literal(store.resolve())})")


def write_comments(connection: duckdb.DuckDBPyConnection) -> None:
    """Note beside the tables and columns of a store what is declared of them."""
    for table in TABLES.values():
        connection.execute(f"COMMENT ON TABLE {table.name} IS {literal(table.comment)}")
        for column in table.columns:
            connection.execute(f'COMMENT ON COLUMN {table.name}."{column.name}" IS {literal(column.comment)}')


def is_moved(connection: duckdb.DuckDBPyConnection, store: Path) -> bool:
    """Whether the views of an open store name files of another place than where it lies now."""
    query = f"SELECT value FROM store_settings WHERE name = '{LOCATION}' AND EXISTS (FROM sealed_runs)"
    row = connection.execute(query).fetchone()
    return row is not None and row[0] != str(store.resolve())


def complete_folders(store: Path) -> list[Path]:
    """Folders of sealed runs that lie beside a store, complete, in order of their ids; the store is not opened."""
    return complete_in(runs_folder(store))


def complete_in(root: Path) -> list[Path]:
    """Folders in a folder that hold a run or a part of one, complete, in order of their names."""
    return sorted(path.parent for path in root.glob(f"[!.]*/{MANIFEST}"))


def create_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the relations of a store in an empty database, its tables without rows."""
    for name, table in TABLES.items():
        connection.execute(f"CREATE TABLE {name} ({table.definition})")
    _create_views(connection, [])


def create_over_files(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path]) -> None:
    """Create the relations of a store in an empty database, over the files of sealed runs and snapshots alone.

    Of a run, a problem or a calibration that several folders have, the last folder in the order of paths counts.
    """
    connection.execute("CREATE SCHEMA declared")  # what files of an older schema lack is NULL
    for name in FILES:
        schema = "main" if name in SEALED_VIEWS else "declared"
        connection.execute(f"CREATE TABLE {schema}.{name} ({TABLES[name].definition})")
    for name in ("runs", "problems", "calibrations"):
        key, rows = ", ".join(TABLES[name].key), rows_of(folders, name, with_file=True)
        newest = f"SELECT DISTINCT ON ({key}) * EXCLUDE file_of_row FROM {rows} ORDER BY {key}, file_of_row DESC"
        connection.execute(f"CREATE VIEW {name} AS FROM declared.{name} UNION ALL BY NAME FROM ({newest})")
    _create_views(connection, folders, registered=False)


def rows_of(folders: Sequence[Path], table: str, *, with_file: bool = False) -> str:
    """The rows of a table in the files of several folders as the newest schema has them, as SQL reads them: `FROM` this.

    Files may be of different schemas: a column that only some have is NULL in the others.

    Args:
        folders: at least one.
        table: of `FILES`.
        with_file: with a column `file_of_row`, the path of the file.
    """
    rows = files_of(folders, table, with_file=with_file)
    return f"(SELECT * REPLACE ({_WITH_KIND} AS config) FROM {rows})" if table == "runs" else rows


def files_of(folders: Sequence[Path], table: str, *, with_file: bool = False) -> str:
    """The same rows as they were written."""
    files = ", ".join(literal(file_of(folder, table)) for folder in folders)
    # A folder named `seed=7` anywhere in the path would otherwise stand in for the column `seed`.
    options = "union_by_name = true, hive_partitioning = false" + (", filename = 'file_of_row'" if with_file else "")
    return f"read_parquet([{files}], {options})"
