"""`rrti serve` on real servers: a scheduler that dies is named, or started again while a run goes on, and Ctrl-C ends it."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rrti_sgl.db import checking
from rrti_sgl.db.store import Store

pytestmark = [pytest.mark.server, pytest.mark.slow]
RRTI = [sys.executable, "-m", "rrti_sgl.cli.main"]
N = 150


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str], Path]]:
    """The command while it serves, the addresses that it printed, and the file with what it complains of."""
    errors = folder / "errors"
    with (
        errors.open("w") as complaints,
        subprocess.Popen(
            [*RRTI, "serve", "--device", "cpu", *options], cwd=folder, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as serving,
    ):
        assert serving.stdout is not None
        try:
            said = ""
            for line in serving.stdout:
                said += line
                if line.startswith("Ctrl-C"):
                    break
            urls = re.findall(r"^(base|reasoning|both models) +(http://\S+)", said, re.MULTILINE)
            assert urls, errors.read_text()
            options_of = {"base": "--base-url", "reasoning": "--reasoning-url", "both models": "--fused-url"}
            yield serving, [word for name, url in urls for word in (options_of[name], url)], errors
        finally:
            if serving.poll() is None:
                serving.send_signal(signal.SIGINT)


def kill_a_scheduler(serving: subprocess.Popen[str]) -> None:
    children = psutil.Process(serving.pid).children(recursive=True)
    [scheduler, _] = [child for child in children if child.name() == "sglang::scheduler"]
    scheduler.kill()


def test_a_dead_scheduler_ends_serve_with_its_name_and_its_log(tmp_path: Path) -> None:
    with serve(tmp_path) as (serving, _, errors):
        kill_a_scheduler(serving)
        assert serving.wait() == 4
        assert "lost its process sglang::scheduler" in (said := errors.read_text())
        assert "The server is fired up" in said
        assert "Traceback" not in said


@pytest.mark.skipif(importlib.util.find_spec("sglang_router") is None, reason="sglang-router is not installed")
def test_two_servers_for_both_models_behind_one_address(tmp_path: Path) -> None:
    db = tmp_path / "traces.duckdb"
    with serve(tmp_path, "--fused", "--replicas", "2", "--log-dir", str(tmp_path / "logs")) as (serving, url, _):
        command = [*RRTI, "run", "guided", "--tau", "1.0", "--limit", "24", "--json", "--db", str(db), *url]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        logs = [log.read_text().count("POST /generate") for log in (tmp_path / "logs").glob("*.log")]
        serving.send_signal(signal.SIGINT)
        assert serving.wait() == 0
    [summary] = json.loads(ran.stdout)
    assert (summary["n_samples"], summary["status"]) == (24, "finished")
    assert len([n for n in logs if n]) == 2, logs


def test_a_run_goes_on_when_its_server_is_started_again(tmp_path: Path) -> None:
    db = tmp_path / "traces.duckdb"
    with serve(tmp_path, "--restart") as (serving, urls, errors):
        command = [*RRTI, "run", "guided", "--tau", "1.0", "--limit", str(N), "--in-flight", "8", "--json", "--db", str(db)]
        with subprocess.Popen([*command, *urls], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            wal = db.with_name(db.name + ".wal")
            while not wal.exists() or wal.stat().st_size < 150_000:
                assert running.poll() is None, running.communicate()
                time.sleep(0.01)
            kill_a_scheduler(serving)
            output, complaints = running.communicate()
        assert running.returncode == 0, complaints
        said = errors.read_text()
        assert "lost its process sglang::scheduler" in said
        assert "Both servers answer again." in said
        serving.send_signal(signal.SIGINT)
        assert serving.stdout is not None
        assert serving.stdout.read() == "Both servers are stopped.\n"
        assert serving.wait() == 0
        assert "error" not in errors.read_text().replace(said, "")
    [summary] = json.loads(output)
    assert (summary["n_samples"], summary["status"]) == (N, "finished")
    assert checking.check(db) == []
    with Store.open_readonly(db) as store:
        [row] = store.sql("SELECT count(*) AS n, count(DISTINCT problem_id) AS problems FROM samples").to_pylist()
        assert row == {"n": N, "problems": N}
