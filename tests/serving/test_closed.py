"""Who may use a server that we start: whoever has its key, on this machine, and no web page."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.serving.keys import key_path, own_key
from rrti_sgl.serving.server import ServedPair

pytestmark = pytest.mark.server
FOREIGN = {"Origin": "http://elsewhere.example"}
OURS = {"Authorization": f"Bearer {own_key()}"}


def ask(url: str, method: str = "GET", body: object = None, **headers: str) -> tuple[int, Message]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def processes(served: ServedPair) -> list[psutil.Process]:
    parents = [psutil.Process(server.process.pid) for server in (served.base, served.reasoning) if server.process]
    assert len(parents) == 2
    found = [process for parent in parents for process in (parent, *parent.children(recursive=True))]
    assert sum("scheduler" in process.name() or "sglang" in process.name() for process in found) >= 2
    return found


def test_everything_listens_on_loopback(served_pair: ServedPair) -> None:
    listening = [
        connection.laddr
        for process in processes(served_pair)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {served_pair.base.port, served_pair.reasoning.port} < {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("key", [None, "guessed"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/server_info", "/model_info", "/v1/models", "/openapi.json")),
        *(("POST", path) for path in ("/generate", "/flush_cache", "/freeze_gc", "/configure_logging", "/abort_request")),
    ],
)
def test_nobody_is_answered_without_the_key(served_pair: ServedPair, method: str, path: str, key: str | None) -> None:
    given = {} if key is None else {"Authorization": f"Bearer {key}"}
    body = {"input_ids": [1]} if method == "POST" else None
    assert ask(served_pair.base.url + path, method, body, **given)[0] == 401


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/health", {}, 200),
        ("GET", "/server_info", OURS, 200),
        ("POST", "/flush_cache", OURS, 200),
        ("GET", "/server_info", {}, 401),
        ("OPTIONS", "/generate", {"Access-Control-Request-Method": "POST"}, 405),
        ("GET", "/v1/realtime", {"Upgrade": "websocket", "Connection": "Upgrade", **OURS}, 404),
    ],
)
def test_no_page_of_another_origin_may_read_an_answer(
    served_pair: ServedPair, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    found, answered = ask(served_pair.base.url + path, method, **FOREIGN, **headers)
    assert found == status
    assert not [name for name in answered if name.lower().startswith("access-control-")]


@pytest.mark.usefixtures("drawn_once")
def test_the_key_is_nowhere_but_in_files_of_their_owner(served_pair: ServedPair, tmp_path: Path) -> None:
    key = own_key()
    for server in (served_pair.base, served_pair.reasoning):
        path = key_path(server.port)
        assert path.read_text().strip() == key
        assert path.stat().st_mode & 0o777 == 0o600
        assert key not in server.log_path.read_text(errors="replace")
        assert "api_key': '***'" in server.log_path.read_text(errors="replace")  # SGLang logs its arguments
        assert key not in repr(server)
    for process in processes(served_pair):
        assert key not in " ".join(process.cmdline())
        assert key not in " ".join(process.environ().values())
    db = tmp_path / "traces.duckdb"
    pair = ["--base-url", served_pair.base.url, "--reasoning-url", served_pair.reasoning.url]
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "--debug", "run", "guided", "--tau", "1.0", "--limit", "2", *pair]
    done = subprocess.run([*command, "--db", str(db)], capture_output=True, text=True)  # another process of the same user
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr
    with Store.open_readonly(db) as store:
        assert [run.status for run in store.find_runs()] == ["finished"]
    for words in (
        ["run", "base", *pair, "--api-key", "x" * 20, "--limit", "1"],  # the key that lies here is tried as well
        ["report", "--out", str(tmp_path / "report")],
    ):
        assert CliRunner().invoke(app, [*words, "--db", str(db)]).exit_code == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 3
    assert not [path for path in written if key.encode() in path.read_bytes()]
