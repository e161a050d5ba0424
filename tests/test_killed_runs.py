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
from rrti_sgl.serving.server import ServedPair

pytestmark = [pytest.mark.server, pytest.mark.slow]
KILLS, N = 6, 150


def start(served: ServedPair, path: Path) -> subprocess.Popen[str]:
    """Greedy, so that every attempt writes the same tokens."""
    options = ["--tau", "1.0", "--limit", str(N), "--in-flight", "8", "--json", "--db", str(path)]
    urls = ["--base-url", served.base.url, "--reasoning-url", served.reasoning.url]
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "run", "guided", *options, *urls]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    [summary] = json.loads(output)
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
    assert finish(start(served_pair, undisturbed))["n_samples"] == N
    moments = random.Random(20260502)
    kept: set[str] = set()
    kills = 0
    while kills < KILLS:
        process = start(served_pair, killed)
        wal = killed.with_name(killed.name + ".wal")
        size = wal.stat().st_size if wal.exists() else 0
        while process.poll() is None and (not wal.exists() or wal.stat().st_size <= size):
            time.sleep(0.01)  # until it writes
        time.sleep(moments.uniform(0.0, 1.5))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()  # waits, and closes its pipes
        kills += 1
        with Store.open_readonly(killed) as store:
            runs = store.find_runs()
            assert len(runs) <= 1
            stored = store.finished_samples(runs[0].run_id) if runs else set()
        assert kept <= stored
        kept = stored
    assert kills >= 3
    summary = finish(start(served_pair, killed)) if kills == KILLS else finish(process)
    assert (summary["n_samples"], summary["status"]) == (N, "finished")
    assert samples(killed) == samples(undisturbed)
    assert checking.check(killed) == []
