"""Upkeep that is killed at any moment: everything is there as it was or as it should become, and a second try ends it."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rrti_sgl.db import attaching, checking, maintenance, sealing
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.db.upgrading import BACKUP, upgrade_file
from rrti_sgl.errors import StoreError
from tests.db import merged_run
from tests.db.conftest import make_run
from tests.db.earlier import unpacked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = 20
TABLES = ("runs", "problems", "samples", "tokens")
# Imports first, so that the moments fall into the work itself.
WORK = """
import sys
from pathlib import Path
from rrti_sgl.db import attaching, checking, maintenance, sealing, upgrading
from tests.db.test_upkeep_killed import WORKS
sys.stdin.readline()
print("begun", flush=True)
WORKS[sys.argv[1]](Path(sys.argv[2]))
"""


def merge(store: Path) -> None:
    attaching.attach(store, [store.with_name("parts")])


WORKS: dict[str, Callable[[Path], object]] = {
    "upgrade": upgrade_file,
    "seal": lambda store: sealing.seal(store, "r1"),
    "vacuum": maintenance.vacuum,
    "merge": merge,
}


def filled(store: Path, run_id: str = "r1") -> None:
    with Store.open(store) as opened:
        opened.add_problems(merged_run.problems())
        opened.begin_run(make_run(run_id, n_problems=7, samples_per_problem=9, vocab_size=500, k=5))
        opened.write_samples([merged_run.trace(index) for index in range(63)])
        opened.finish_run(run_id, "finished")


def make_upgrade(store: Path) -> None:
    unpacked("0002", store)


def make_vacuum(store: Path) -> None:
    filled(store)
    sealing.seal(store, "r1")
    sealing.unseal(store, "r1")  # leaves free space


def make_merge(store: Path) -> None:
    """Parts of two writers, and a store that has another run."""

    async def write(share: int) -> None:
        async with ParquetSink(store.with_name("parts"), flush_rows=500) as sink:
            await sink.begin(merged_run.record(), resume=share > 0)
            await sink.add_problems(merged_run.problems())
            for index in range(share, 63, 2):
                await sink.put(merged_run.trace(index))
            await sink.end("r1", "finished")

    asyncio.run(write(0))
    asyncio.run(write(1))
    with Store.open(store) as opened:
        opened.begin_run(make_run("r2"))
        opened.finish_run("r2", "finished")


MAKERS = {"upgrade": make_upgrade, "seal": filled, "vacuum": make_vacuum, "merge": make_merge}


def content(store: Path) -> dict[str, tuple[int, int]]:
    """Of every table the number of rows and a sum over their hashes, which a lost, changed or doubled row changes."""
    with Store.open_readonly(store) as opened:
        query = "SELECT count(*) AS n, sum(hash(row)::HUGEINT) AS hashes FROM {} AS row"
        rows = {table: opened.sql(query.format(table)).to_pylist()[0] for table in TABLES}
    return {table: (int(row["n"]), int(row["hashes"] or 0)) for table, row in rows.items()}


def run(kind: str, store: Path, after_s: float | None = None) -> tuple[int, float]:
    """Do the work in a process, killed after so many seconds; how it ended, and how long the work took."""
    command = [sys.executable, "-c", WORK, kind, str(store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "begun\n"
        start = time.perf_counter()
        if after_s is not None:
            time.sleep(after_s)  # the moment is the point
            process.kill()
        process.stdout.read()
        process.wait()
        return process.returncode, time.perf_counter() - start


def again(kind: str, store: Path, *, back: bool) -> None:
    """A second try, as its owner makes it: what a message asks for is done, in one of the two ways that it names."""
    try:
        WORKS[kind](store)
    except StoreError as error:
        copy = store.with_name(store.name + BACKUP)
        if kind == "upgrade":
            if back:
                for command in error.remedy.removeprefix("To go back: ").split(". To keep")[0].split("; "):
                    subprocess.run(["bash", "-c", command], check=True)
            else:
                copy.unlink()
            upgrade_file(store)
        elif "sealed already" not in error.message:  # else it was done, and not said any more
            raise


@pytest.mark.parametrize("kind", WORKS)
def test_twenty_kills_inside_lose_nothing_and_double_nothing(tmp_path: Path, kind: str) -> None:
    origin, undisturbed = tmp_path / "origin", tmp_path / "undisturbed"
    origin.mkdir()
    MAKERS[kind](origin / "traces.duckdb")
    shutil.copytree(origin, undisturbed)
    code, whole_s = run(kind, undisturbed / "traces.duckdb")
    assert code == 0
    expected = content(undisturbed / "traces.duckdb")
    before = content(origin / "traces.duckdb") if kind != "upgrade" else None
    assert expected["tokens"][0] > 300
    moments = random.Random(20261126)
    kills = number = found_done = 0
    while kills < KILLS:
        number += 1
        assert number < 10 * KILLS, f"{kills} kills of {number} fell into the work of {whole_s:.2f} s"
        folder = tmp_path / str(number)
        shutil.copytree(origin, folder)
        store = folder / "traces.duckdb"
        code, _ = run(kind, store, moments.uniform(0.0, whole_s))
        if code == 0:
            continue
        kills += 1
        if before is not None:
            assert content(store) in (before, expected)
            found_done += content(store) == expected
        again(kind, store, back=bool(kills % 2))
        assert content(store) == expected
        assert checking.check(store) == checking.check(undisturbed / "traces.duckdb")
        left = {path.name for path in folder.rglob("*") if path.is_file()}
        kept = {path.name for path in undisturbed.rglob("*") if path.is_file()}
        assert left - kept == set(), left - kept
    print(f"{kind}: {kills} kills in {number} tries of {whole_s:.2f} s, {found_done} found it done")
