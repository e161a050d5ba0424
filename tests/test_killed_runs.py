"""`rrti run` killed at random moments, on real servers: the same command continues it, and nothing is lost or doubled."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db import checking
from rrti_sgl.db.store import Store
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.counterfactual import seen
from rrti_sgl.serving.server import ServedPair

pytestmark = [pytest.mark.server, pytest.mark.slow]
KILLS, N = 6, 150


def start(served: ServedPair, path: Path, *typed: str) -> subprocess.Popen[str]:
    urls = ["--base-url", served.base.url, "--reasoning-url", served.reasoning.url]
    command = [sys.executable, "-m", "rrti_sgl.cli.main", *typed, "--in-flight", "8", "--json", "--db", str(path), *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_greedy(served: ServedPair, path: Path) -> subprocess.Popen[str]:
    """Every attempt writes the same tokens."""
    return start(served, path, "run", "guided", "--tau", "1.0", "--limit", str(N))


def kill_once_it_writes(process: subprocess.Popen[str], path: Path, moments: random.Random) -> bool:
    """At some moment after its first writing; False: it was over before."""
    wal = path.with_name(path.name + ".wal")
    size = wal.stat().st_size if wal.exists() else 0
    while process.poll() is None and (not wal.exists() or wal.stat().st_size <= size):
        time.sleep(0.01)
    time.sleep(moments.uniform(0.0, 1.5))
    if process.poll() is not None:
        return False
    process.kill()
    process.communicate()  # waits, and closes its pipes
    return True


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    [*_, summary] = json.loads(output)
    return dict(summary)


def samples(path: Path) -> dict[str, tuple[Any, ...]]:
    """Of each problem its text and its tokens: everything that does not depend on the run's id, times and batches."""
    query = """
        SELECT problem_id, text, answer, correct, n_tokens, n_takeovers, n_changed, finish_reason,
               list(token_id ORDER BY position) AS ids, list(token_text ORDER BY position) AS texts,
               list(base_token_id ORDER BY position) AS drawn, list(fired ORDER BY position) AS fired
        FROM samples JOIN tokens USING (run_id, sample_id) GROUP BY ALL
    """
    with Store.open_readonly(path) as store:
        assert store.sql("SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 1}]
        rows = store.sql(query).to_pylist()
    return {row.pop("problem_id"): tuple(row.values()) for row in rows}


@pytest.mark.timeout(1200)
def test_the_same_command_continues_a_run_that_was_killed(served_pair: ServedPair, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed.duckdb", tmp_path / "killed.duckdb"
    assert finish(start_greedy(served_pair, undisturbed))["n_samples"] == N
    moments = random.Random(20260502)
    kept: set[str] = set()
    kills = 0
    while kills < KILLS:
        process = start_greedy(served_pair, killed)
        if not kill_once_it_writes(process, killed, moments):
            break
        kills += 1
        with Store.open_readonly(killed) as store:
            runs = store.find_runs()
            assert len(runs) <= 1
            stored = store.finished_samples(runs[0].run_id) if runs else set()
        assert kept <= stored
        kept = stored
    assert kills >= 3
    summary = finish(start_greedy(served_pair, killed)) if kills == KILLS else finish(process)
    assert (summary["n_samples"], summary["status"]) == (N, "finished")
    assert samples(killed) == samples(undisturbed)
    assert checking.check(killed) == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("asked", [["--unit", "sentence", "--until", "0.08"], ["--unit", "pivotal"]])
def test_a_counterfactual_that_was_killed_goes_on(served_pair: ServedPair, tmp_path: Path, asked: list[str]) -> None:
    """Every beginning that was continued has its first continuations, each once, and nothing that was stored is lost."""
    path = tmp_path / "traces.duckdb"
    finish(start(served_pair, path, "run", "guided", "--tau", "0.5", "--limit", "8", "--temperature", "0.8"))
    with Store.open_readonly(path) as store:
        [row] = store.sql("SELECT sample_id FROM samples ORDER BY n_changed DESC, n_tokens DESC LIMIT 1").to_pylist()
    moments, kept, typed = random.Random(20261128), set[str](), [row["sample_id"], *asked]
    for _ in range(3):
        process = start(served_pair, path, "counterfactual", *typed)
        if not kill_once_it_writes(process, path, moments):
            break
        with Store.open_readonly(path) as store:
            [run] = store.find_runs(program="counterfactual")
            assert run.status == "running"
            assert kept <= (kept := store.finished_samples(run.run_id))
        typed = ["--resume", run.run_id]
    assert typed[0] == "--resume", "killed at least once"
    process = start(served_pair, path, "counterfactual", *typed) if process.returncode else process
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    with Store.open_readonly(path) as store:
        arms, [run] = plan_arms(store, resume=typed[1]), store.find_runs(program="counterfactual")
        assert run.status == "finished"
        assert kept <= store.finished_samples(run.run_id)
        continued = seen(store, run.run_id, arms, store.load_sample(arms.sample).sample)
        assert arms.plan.planned(continued).wanted == {branch: len(each) for branch, each in continued.items()}
        assert all(sorted(each) == list(range(len(each))) for each in continued.values())
    if arms.gap is None:
        assert [row["first"] for row in json.loads(output)] == [first for first, _ in arms.spans]
    assert checking.check(path) == []
