"""A server that dies in the middle of a run: what is finished is kept, the run says how to go on, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.serving.server import ServedPair, bundled_servers

pytestmark = pytest.mark.server
N = 400
ENOUGH_BYTES = 500_000  # the run and its problems take less than half of that


def servers(logs: Path, ports: tuple[int, int] = (0, 0)) -> ServedPair:
    pair = ServedPair(*bundled_servers(logs, device="cpu"))
    pair.base.port, pair.reasoning.port = ports
    return pair


def rrti(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rrti_sgl.cli.main", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # `communicate` closes


def wait_for_samples(running: subprocess.Popen[str], folder: Path) -> None:
    """Until samples are in the store. No other process can open it meanwhile, but its log outgrows what else is new."""
    log = folder / "traces.duckdb.wal"
    while not log.exists() or log.stat().st_size < ENOUGH_BYTES:
        assert running.poll() is None, running.communicate()
        time.sleep(0.2)


def addresses(pair: ServedPair) -> list[str]:
    return ["--base-url", pair.base.url, "--reasoning-url", pair.reasoning.url]


@pytest.mark.slow  # a call waits two minutes for a server that is dead for good
def test_a_dying_server_and_a_signal_lose_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    arguments = ["run", "guided", "--tau", "1.0", "--limit", str(N), "--in-flight", "16", "--json"]
    with servers(tmp_path) as pair:
        ports = (pair.base.port, pair.reasoning.port)
        running = rrti(*arguments, *addresses(pair), cwd=tmp_path)
        wait_for_samples(running, tmp_path)
        assert pair.base.process is not None
        os.killpg(pair.base.process.pid, signal.SIGKILL)
        _, errors = running.communicate()
        assert running.returncode == 4, errors
        assert "Continue with: rrti run --resume guided-" in errors
        assert "Traceback" not in errors
        with Store.open_readonly(tmp_path / "traces.duckdb") as store:
            [run] = store.find_runs()
            kept = store.finished_samples(run.run_id)
            assert run.status == "failed"
            assert 0 < len(kept) < N
    with servers(tmp_path, ports) as pair:
        resume = ["run", "--resume", run.run_id, "--json", "--in-flight", "16", *addresses(pair)]
        interrupted = rrti(*resume, cwd=tmp_path)
        wait_for_samples(interrupted, tmp_path)
        interrupted.send_signal(signal.SIGTERM)
        _, errors = interrupted.communicate()
        assert interrupted.returncode == 128 + signal.SIGTERM, errors
        with Store.open_readonly(tmp_path / "traces.duckdb") as store:
            assert store.get_run(run.run_id).status == "interrupted"
            assert store.finished_samples(run.run_id) >= kept
        finishing = rrti(*resume, cwd=tmp_path)
        output, errors = finishing.communicate()
        assert finishing.returncode == 0, errors
    [summary] = json.loads(output)
    assert (summary["n_samples"], summary["status"]) == (N, "finished")
    with Store.open_readonly(tmp_path / "traces.duckdb") as store:
        [row] = store.sql(
            "SELECT count(*) AS rows, count(DISTINCT (sample_id, position)) AS places, "
            "(SELECT sum(n_tokens) FROM samples) AS expected FROM tokens"
        ).to_pylist()
        assert row["rows"] == row["places"] == row["expected"]
        assert kept <= store.finished_samples(run.run_id)
