"""Listing ten thousand runs, and statistics of one among a thousand sealed ones.

A run of the synthetic store is copied under other names: in the file by SQL, sealed ones by their Parquet files. Listed is
what `rrti runs` shows. Statistics of one run are made twice: with all folders there, and with none but its own left.

    python benchmarks/many_runs.py
    python benchmarks/many_runs.py --listed 10000 --listed-sealed 10000 --sealed 1000
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import synthetic_store as synthetic

from rrti_sgl.db import relations, sealing
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.programs.reporting.listing import list_runs
from rrti_sgl.records import ProblemRecord

FIRST = "r00000"
PROBLEMS, LENGTH = 12, 100
STATISTICS = ("sparsity", "position", "uncertainty", "accuracy", "cost")


def build(path: Path, n_runs: int, *, sealed: bool) -> None:
    """A store of so many runs of a few samples."""
    rng = np.random.default_rng(0)
    plan = replace(synthetic.PLANS[0], run_id=FIRST)
    with Store.open(path) as store:
        names = [f"p{i}" for i in range(PROBLEMS)]
        store.add_problems([ProblemRecord(name, "synthetic", "Question?", "1") for name in names])
        store.begin_run(synthetic.run_record(plan, 1.0, 1, PROBLEMS))
        store.write_samples([synthetic.trace(plan, name, 0, LENGTH, 1.0, 1.0, rng) for name in names])
        store.finish_run(FIRST, "finished")
    if sealed:
        sealing.seal(path, FIRST)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET preserve_insertion_order = false")
        others = f"(SELECT format('r{{:05d}}', i) AS other FROM range(1, {n_runs}) AS numbers(i))"
        for table in ("runs", "sealed_runs") if sealed else ("runs", "stored_samples", *relations.TOKEN_TABLES):
            rows = f"SELECT * EXCLUDE other REPLACE (other AS run_id) FROM {table}, {others}"
            connection.execute(f"INSERT INTO {table} {rows}")
        if sealed:
            for number in range(1, n_runs):
                copy_folder(connection, relations.run_folder(path, FIRST), f"r{number:05d}")
            relations.refresh_views(connection, path)


def copy_folder(connection: duckdb.DuckDBPyConnection, source: Path, name: str) -> None:
    """The folder of a sealed run under another name; its manifest keeps the sums of the first."""
    folder = source.with_name(name)
    folder.mkdir()
    for file in source.iterdir():
        if file.stem in relations.SEALED_VIEWS:
            rows = f"SELECT * REPLACE ('{name}' AS run_id) FROM read_parquet('{file}')"
            connection.execute(f"COPY ({rows}) TO '{folder / file.name}'")
        else:
            shutil.copy(file, folder)


def measure_listing(folder: Path, n_runs: int, *, sealed: bool) -> None:
    """Seconds until every run is listed."""
    path = folder / "listed.duckdb"
    build(path, n_runs, sealed=sealed)
    start, cpu = time.perf_counter(), time.process_time()
    with Store.open_readonly(path) as store:
        n = sum(len(table.data) for table in list_runs(store))
    spent = f"{time.perf_counter() - start:.2f} s, {time.process_time() - cpu:.2f} CPU s"
    print(f"| listing of {n} {'sealed runs' if sealed else 'runs in the file'} | {spent} |")
    path.unlink()
    shutil.rmtree(relations.runs_folder(path), ignore_errors=True)


def measure_statistics(folder: Path, n_runs: int) -> None:
    """Seconds of statistics of one sealed run, all files there, then none but its own."""
    path, run = folder / "sealed.duckdb", f"r{n_runs // 2:05d}"
    build(path, n_runs, sealed=True)
    for alone in (False, True):
        if alone:
            for other in relations.complete_folders(path):
                if other.name != run:
                    shutil.rmtree(other)
        for name in STATISTICS:
            with Store.open_readonly(path) as store:
                start, cpu = time.perf_counter(), time.process_time()
                run_query(store, name, run=run)
                spent = f"{time.perf_counter() - start:.2f} s, {time.process_time() - cpu:.2f} CPU s"
            print(f"| {name} of one run, {1 if alone else n_runs} folders there | {spent} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listed", type=int, default=10_000)
    parser.add_argument("--sealed", type=int, default=1000)
    parser.add_argument("--listed-sealed", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_listing(Path(folder), arguments.listed, sealed=False)
        measure_listing(Path(folder), arguments.listed_sealed, sealed=True)
        measure_statistics(Path(folder), arguments.sealed)


if __name__ == "__main__":
    main()
