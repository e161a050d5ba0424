"""Servers come up, name the cause when they do not, and never stay behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rrti_sgl.errors import ServerLaunchError
from rrti_sgl.serving.server import ServedPair, Server
from rrti_sgl.tinypair.bundle import bundled_pair

pytestmark = pytest.mark.server

HOLD_A_SERVER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
from pathlib import Path
from rrti_sgl.serving.server import Server
server = Server(sys.argv[1], "held", Path(sys.argv[2]), device="cpu")
server.start()
print(server.process.pid, flush=True)
signal.pause()
"""


def in_its_imports(server: int, log: Path) -> None:
    """Until the server's process has written something: SGLang's imports warn, long before it handles signals by itself."""
    while not (log.exists() and log.stat().st_size):
        assert psutil.Process(server).status() != psutil.STATUS_ZOMBIE
        time.sleep(0.05)


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


# SIGTERM ends a process as SIGKILL does: nobody here handles it.
@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT], ids=lambda s: s.name
)
def test_a_server_dies_with_whoever_started_it(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLD_A_SERVER, str(bundled_pair().base), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        in_its_imports(server, tmp_path / "held.log")
        processes = family(server)
        parent.send_signal(how)
    gone, alive = psutil.wait_procs(processes)
    assert not alive
    assert len(gone) == len(processes)


def test_a_server_that_dies_shows_the_tail_of_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    sound = str(bundled_pair().base)
    pair = ServedPair(
        Server(str(broken), "base", tmp_path, device="cpu"), Server(sound, "reasoning", tmp_path, device="cpu")
    )
    with pytest.raises(ServerLaunchError, match=r"(?s)base server for .* died with exit code.*base\.log.*\|"):
        pair.__enter__()
    assert pair.base.process is None
    assert pair.reasoning.process is None


def test_leaving_the_context_by_an_error_stops_both(served_pair: ServedPair, tmp_path: Path) -> None:
    """The session's pair stands for any; a server of its own shows that an error in the body stops what it started."""
    assert served_pair.base.is_ready()
    server = Server(str(bundled_pair().base), "one", tmp_path, device="cpu")
    server.start()
    assert server.process is not None
    processes = family(server.process.pid)
    server.stop()
    server.stop()
    _, alive = psutil.wait_procs(processes)
    assert not alive


def test_flags_of_the_user_replace_ours(tmp_path: Path) -> None:
    command = Server("m", "base", tmp_path, flags=["--dtype=bfloat16", "--max-running-requests", "8"]).command(on_cpu=True)
    assert "float32" not in command
    assert command.count("--max-running-requests") == 1
    assert command[-3:] == ["--dtype=bfloat16", "--max-running-requests", "8"]
    assert "127.0.0.1" in command
    assert os.path.basename(command[0]).startswith("python")
