"""A server that is started, stalls, dies, is started again, and is ended; small programs stand for SGLang."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from rrti_sgl.cli import serve as serving
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.errors import EndpointError, ServerLaunchError, UsageError
from rrti_sgl.serving import family, keys
from rrti_sgl.serving.server import ServedPair, free_port
from rrti_sgl.serving.server_process import OwnedProcess

# Answers at once; its child has the name of a scheduler.
ANSWERS = """
import http.server, subprocess, sys
names_itself = "import time; open('/proc/self/comm', 'w').write('sglang::sched'); print(flush=True); time.sleep(1000)"
child = subprocess.Popen([sys.executable, "-c", names_itself], stdout=subprocess.PIPE)
child.stdout.readline()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): print("asked", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
SLEEPS = "import time; print('loading', flush=True); time.sleep(1000)"
WORKS = "while True: pass"
WRITES = "import time\nwhile True: print('layer', flush=True); time.sleep(0.05)"


class Small(OwnedProcess):
    """A server that is a small program."""

    def __init__(self, folder: Path, program: str = ANSWERS, name: str = "base") -> None:
        self.name, self.log_dir, self.program = name, folder, program
        self.port, self.key = free_port(), "k" * 20

    def start(self) -> None:
        self.launch([sys.executable, "-c", self.program, str(self.port)], os.environ)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[ServedPair]:
    with ServedPair(Small(tmp_path), Small(tmp_path, name="reasoning")) as served:
        yield served


def scheduler(server: object) -> psutil.Process:
    assert isinstance(server, Small)
    assert server.process is not None
    [found] = [child for child in psutil.Process(server.process.pid).children() if child.name() == "sglang::sched"]
    return found


def kill(process: psutil.Process) -> None:
    """Kill it; its parent, which is not us, may leave a zombie."""
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()


def test_no_proxy_of_the_environment_stands_before_a_server_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nothing is
    monkeypatch.setenv("no_proxy", "x.org")
    server = Small(tmp_path)
    server.start()
    try:
        while not server.is_ready():
            os.sched_yield()
        assert server.process is not None
        told = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
        assert b"no_proxy=x.org,127.0.0.1,localhost" in told
    finally:
        server.stop()


def test_who_listens_at_a_port_is_not_taken_for_a_server_of_ours_and_keeps_its_key(tmp_path: Path) -> None:
    server = Small(tmp_path)
    keys.keep(keys.key_path(server.port), "o" * 20)
    with socket.create_server(("127.0.0.1", server.port)):
        for start in (server.start, ServedPair(Small(tmp_path), server, in_turn=True).__enter__):
            with pytest.raises(ServerLaunchError, match=f"at port {server.port} .*in use"):
                start()
    server.stop()
    assert not list(tmp_path.glob("*.log"))  # nothing was started at the other port either
    assert keys.found_key(server.url) == "o" * 20


def test_what_cannot_be_started_leaves_nothing(tmp_path: Path) -> None:
    server = Small(tmp_path)
    server.log_path.mkdir()
    with pytest.raises(UsageError, match=r"base\.log cannot be written \(Is a directory\)"):
        server.start()
    server.log_path.rmdir()
    with pytest.raises(FileNotFoundError):
        server.launch([str(tmp_path / "no program")], os.environ)
    assert keys.found_key(server.url) == "k" * 20
    server.stop()
    assert keys.found_key(server.url) is None


@pytest.mark.parametrize(("program", "gives_up"), [(SLEEPS, True), (WORKS, False), (WRITES, False)])
def test_a_start_is_given_up_when_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, gives_up: bool
) -> None:
    clock = [0.0]
    monkeypatch.setattr(family.time, "monotonic", lambda: clock[0])
    used = iter(range(1000)) if program == WORKS else iter([0.0] * 1000)  # what the kernel counts, without waiting for it
    monkeypatch.setattr(family.Family, "_cpu_s", lambda self: float(next(used)))
    server = Small(tmp_path, program)
    server.start()
    try:
        size = 0
        for _ in range(5):
            while program != WORKS and server.log_path.stat().st_size <= size:  # something new, or the one line there is
                os.sched_yield()
            size = server.log_path.stat().st_size if program == WRITES else 0
            assert not server.is_ready()
            clock[0] += family.STALLED_S * 0.7
            if gives_up and clock[0] > family.STALLED_S:
                with pytest.raises(ServerLaunchError, match=r"(?s)no CPU time.*loading"):
                    server.is_ready()
                break
        else:
            assert not gives_up
    finally:
        server.stop()


def test_work_is_seen_in_the_cpu_time_of_all_processes(tmp_path: Path) -> None:
    busy = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORKS!r}])"]
    )
    try:
        watched = family.Family(busy.pid, tmp_path / "log")
        while not psutil.Process(busy.pid).children():
            os.sched_yield()
        [child] = psutil.Process(busy.pid).children()
        while sum(child.cpu_times()[:2]) < 1.0:
            os.sched_yield()
        assert watched._cpu_s() >= 1.0
    finally:
        for process in psutil.Process(busy.pid).children():
            process.kill()
        busy.wait()


def test_a_dead_scheduler_is_named_with_the_end_of_the_log(pair: ServedPair) -> None:
    assert pair.lost() == {}
    kill(scheduler(pair.reasoning))
    [(name, what)] = pair.lost().items()
    assert name == "reasoning"
    assert "lost its process sglang::sched" in what
    assert "| asked" in what
    with pytest.raises(EndpointError, match="sglang::sched") as ended:
        serving._watch(pair, restart=False)
    assert (ended.value.exit_code, "--restart" in ended.value.remedy) == (4, True)


def test_a_dead_server_is_named_with_its_exit_code(pair: ServedPair) -> None:
    assert isinstance(pair.base, Small)
    assert pair.base.process is not None
    pair.base.process.kill()
    pair.base.process.wait()
    assert "died with exit code -9" in pair.lost()["base"]


def test_what_died_is_started_again_at_its_address_with_its_key(pair: ServedPair, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):  # noqa: N818
        pass

    def stop(seconds: float) -> None:
        if pair.lost() == {} and scheduler(pair.base).pid != first.pid:
            raise Enough

    first, other, url = scheduler(pair.base), scheduler(pair.reasoning), pair.base.url
    kill(first)
    watching = threading.Event()  # nothing waits for a clock: the pause between two looks is the test's
    monkeypatch.setattr("time.sleep", lambda seconds: stop(seconds) if seconds == 1 else watching.wait(0.01))
    with pytest.raises(Enough):
        serving._watch(pair, restart=True)
    assert pair.base.url == url
    assert scheduler(pair.reasoning) == other
    assert keys.found_key(url) == "k" * 20
    assert isinstance(pair.base, Small)
    assert pair.base.log_path.read_text().count("asked") >= 2  # the log goes on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_normal_end_of_serve(tmp_path: Path, number: signal.Signals) -> None:
    script = """
import contextlib, sys
from pathlib import Path
from rrti_sgl.cli import main, serve
from rrti_sgl.serving.opening import PairAddress
from rrti_sgl.serving.server import ServedPair
from tests.serving.test_watching import Small
@contextlib.contextmanager
def small(*names, **options):
    with ServedPair(Small(folder), Small(folder, name="reasoning")) as pair:
        yield PairAddress(pair.base.url, pair.reasoning.url, pair)
folder = Path(sys.argv[1])
serve.open_pair = small
sys.argv = ["rrti", "serve"]
main.main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("Ctrl-C"):
                break
        running.send_signal(number)
        rest, errors = running.communicate()
    assert (running.returncode, rest, errors) == (0, "Both servers are stopped.\n", "")
    assert not list((tmp_path / "cache").rglob("*-[0-9]*"))  # no key stays behind


async def _serve_at(port: int, answered: list[str]) -> web.AppRunner:
    async def answer(request: web.Request) -> web.Response:
        answered.append(request.path)
        return web.json_response({"back": True})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


@pytest.mark.parametrize(("patience_s", "comes_back"), [(3600.0, True), (0.0, False)])
def test_a_call_waits_for_a_server_that_comes_back(
    monkeypatch: pytest.MonkeyPatch, patience_s: float, comes_back: bool
) -> None:
    port, waits, answered = free_port(), [], list[str]()
    runners: list[web.AppRunner] = []

    async def sleep(seconds: float, real: object = asyncio.sleep) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            runners.append(await _serve_at(port, answered))

    async def go() -> object:
        client = Transport(f"http://127.0.0.1:{port}", limits=TransportLimits(retries=4, patience_s=patience_s))
        monkeypatch.setattr("rrti_sgl.engines.transport.asyncio.sleep", sleep)
        try:
            return await client.post("/generate", {})
        finally:
            monkeypatch.undo()
            await client.close()
            for runner in runners:
                await runner.cleanup()

    if comes_back:
        assert asyncio.run(go()) == {"back": True}
        assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]
    else:
        with pytest.raises(EndpointError, match="failed after 5 tries"):
            asyncio.run(go())
        assert waits == [0.5, 1.0, 2.0, 4.0]
