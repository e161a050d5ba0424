"""Killing a writing process loses no acknowledged sample, leaves no part of one, and a second start doubles nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrti_sgl.db import checking
from rrti_sgl.db.store import Store

BUILDERS = Path(__file__).parent / "conftest.py"
PREAMBLE = """
import importlib.util, itertools, sys
spec = importlib.util.spec_from_file_location("builders", sys.argv[2])
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)
from rrti_sgl.db.store import Store
def sample(index):
    fired = [number > 0 and number % 40 == 0 for number in range(200)]
    ce = [1.0 + number if flag else 0.25 for number, flag in enumerate(fired)]
    return builders.make_trace(index=index, ce=ce, tokens={"fired": fired, "kl": [value / 3 for value in ce]})
"""
WRITE_FOREVER = (
    PREAMBLE
    + """
with Store.open(sys.argv[1]) as store:
    for batch in itertools.count():
        traces = [sample(3 * batch + i) for i in range(3)]
        store.write_samples(traces)
        print(*(trace.sample.sample_id for trace in traces), flush=True)
"""
)
# A run of 120 samples as the runner makes one: what is stored is skipped, the rest goes through the sink.
RUN = (
    PREAMBLE
    + """
import asyncio
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
async def main(store):
    async with DuckDBSink(store, flush_rows=1000, flush_seconds=0.01) as sink:
        run = builders.make_run(n_problems=1, samples_per_problem=120)
        done = await sink.begin(run, resume=bool(store.find_runs()))
        await sink.add_problems([builders.make_problem()])
        print("writing", flush=True)
        for index in range(120):
            trace = sample(index)
            if trace.sample.sample_id not in done:
                await sink.put(trace)
                await asyncio.sleep(0.002)
        await sink.end("r1", "finished")
with Store.open(sys.argv[1]) as store:
    asyncio.run(main(store))
"""
)


def start(script: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path), str(BUILDERS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rows(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row but the times of writing."""
    with Store.open(path) as store:
        return {
            "runs": store.sql("SELECT * EXCLUDE (finished_at) FROM runs").to_pylist(),
            "samples": store.sql("FROM samples ORDER BY sample_index").to_pylist(),
            "tokens": store.sql("FROM tokens ORDER BY sample_id, position").to_pylist(),
        }


@pytest.mark.parametrize("batches", [1, 7])
def test_kill_while_writing(path, batches):
    with start(WRITE_FOREVER, path) as writer:
        assert writer.stdout is not None
        acknowledged = {sample for _ in range(batches) for sample in writer.stdout.readline().split()}
        os.kill(writer.pid, signal.SIGKILL)
        # Lines that were on their way when the signal came were acknowledged as well.
        acknowledged |= {sample for line in writer.stdout if line.endswith("\n") for sample in line.split()}
    assert writer.returncode == -signal.SIGKILL
    assert len(acknowledged) >= 3 * batches
    with Store.open(path) as store:
        stored = store.finished_samples("r1")
        assert acknowledged <= stored
        # A commit may succeed without being acknowledged; the batch is there as a whole then.
        assert len(stored - acknowledged) in (0, 3)
        query = "SELECT sample_id, count(*) AS n, max(position) AS last FROM tokens GROUP BY sample_id"
        counts = {row["sample_id"]: (row["n"], row["last"]) for row in store.sql(query).to_pylist()}
        assert counts == dict.fromkeys(stored, (200, 199))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_at_random_moments_and_a_resume_after_each(tmp_path, empty_store):
    """Runs are killed until they are through: 50 kills at least, each run compared with one that nobody disturbed."""
    undisturbed = tmp_path / "undisturbed.duckdb"
    undisturbed.write_bytes(empty_store.read_bytes())
    with start(RUN, undisturbed) as run:
        assert run.stdout is not None
        run.stdout.read()
    expected = rows(undisturbed)
    assert [len(expected[name]) for name in ("samples", "tokens")] == [120, 120 * 200]
    moments = random.Random(20260501)
    kills, number = 0, 0
    while kills < 50:
        number += 1
        path = tmp_path / f"{number}.duckdb"
        path.write_bytes(empty_store.read_bytes())
        for patience in range(7):  # six kills a run at most, then it may end
            with start(RUN, path) as run:
                assert run.stdout is not None
                if patience < 6 and run.stdout.readline():
                    time.sleep(moments.uniform(0.0, 0.15))
                    run.kill()
                    kills += 1
                run.stdout.read()
            if run.returncode == 0:
                break
            assert run.returncode == -signal.SIGKILL
        assert run.returncode == 0
        assert rows(path) == expected
        assert checking.check(path) == []
    assert kills >= 50
