"""The explorer over HTTP: its document, its data, and who is let in."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from rrti_sgl.cli.main import run
from rrti_sgl.db.store import Store
from rrti_sgl.programs import web as installed
from rrti_sgl.programs.explorer.app import create_app
from rrti_sgl.programs.explorer.explorer import Explorer
from tests.hostile import ALL, make_hostile_store

URL = "http://127.0.0.1:8123"
KEY = "0123456789abcdef"


def ask(
    explorer: Explorer,
    path: str,
    method: str = "GET",
    *,
    url: str = URL,
    key: str | None = None,
    local: bool = True,
    **more: Any,
) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(explorer, key, local=local), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=url) as http:
            return await http.request(method, path, **more)

    return asyncio.run(go())


def first_of(answer: httpx.Response) -> dict[str, Any]:
    """What a document has for its first view."""
    [told] = re.findall(r'<script type="application/json" id="first">(.*?)</script>', answer.text, re.DOTALL)
    found: dict[str, Any] = orjson.loads(told)
    return found


@pytest.fixture(scope="module")
def sample(explored: Explorer) -> str:
    row = explored.answer("samples", {"run": ["guided-1"]})["rows"][0]
    return f"{row['run']}/{row['sample']}"


@pytest.mark.parametrize("path", ["store", "samples?sort=tokens&limit=3", "sample/S", "candidates/S?from=1", "partners/S",
                                  "tree/S", "statistics/budget", "tokens?run=guided-1&fired=true"])  # fmt: skip
def test_data_is_what_the_explorer_answers(path: str, explored: Explorer, sample: str) -> None:
    path = path.replace("S", sample) if "S" in path else path
    answer = ask(explored, f"/data/{path}")
    name, _, query = path.partition("?")
    values = {key: [value] for key, _, value in (pair.partition("=") for pair in query.split("&") if pair)}
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == orjson.loads(orjson.dumps(explored.answer(name, values)))


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/", ["samples"]),
        ("/?run=guided-1&sort=tokens", ["samples?run=guided-1&sort=tokens"]),
        ("/sample/S?at=3&metric=ce&tau=0.5", ["sample/S"]),
        ("/compare/S/S", ["sample/S"]),
        ("/tree/S", ["tree/S"]),
        ("/statistics/planning?run=diagnose-1", ["statistics/planning?run=diagnose-1"]),
    ],
)
def test_a_page_has_what_its_first_view_shows(path: str, keys: list[str], explored: Explorer, sample: str) -> None:
    answer = ask(explored, path.replace("S", sample))
    assert answer.status_code == 200
    first = first_of(answer)
    assert sorted(first) == sorted(["store", *(key.replace("S", sample) for key in keys)])
    for key, payload in first.items():
        assert payload == ask(explored, f"/data/{key}").json()


@pytest.mark.parametrize(("path", "status"), [("/sample/a/b", 404), ("/?sort=size", 400), ("/nowhere", 404)])
def test_a_page_that_is_not_there_leaves_the_error_to_its_data(path: str, status: int, explored: Explorer) -> None:
    answer = ask(explored, path)
    assert answer.status_code == status
    assert list(first_of(answer)) == ["store"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/data/sample/a/b", 404, "no sample 'b'"),
        ("/data/samples?limit=0", 400, "limit: "),
        ("/data/samples?limit=1&limit=0", 400, "limit: "),
        ("/data/what", 404, "no address"),
        ("/data/sample/%27%3B%20DROP%20TABLE%20runs/%00", 404, "no sample"),
        ("/data/sample/..%2F..%2Fetc/passwd", 404, "no sample"),
        ("/data/samples?text=%ff%fe", 200, ""),
        ("/data/samples?" + "&".join(["run=a"] * 1001), 400, "run: "),
    ],
)
def test_bad_addresses_say_what_is_wrong(path: str, status: int, message: str, explored: Explorer) -> None:
    answer = ask(explored, path)
    assert answer.status_code == status
    if message:
        assert message in answer.json()["error"]["message"]
        assert answer.json()["error"]["remedy"]


@pytest.mark.parametrize("path", ["/", "/data/store", "/data/what", "/explorer.css"])
def test_every_answer_says_what_a_browser_may_do_with_it(path: str, explored: Explorer) -> None:
    headers = ask(explored, path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("path", "url", "headers", "status"),
    [
        ("/", "http://evil.example:8123", {}, 403),
        ("/", "http://localhost:8123", {}, 200),
        ("/", URL, {"host": "[::1"}, 403),
        ("/", URL, {"sec-fetch-site": "cross-site"}, 200),  # a link to it
        ("/data/store", URL, {"sec-fetch-site": "cross-site"}, 403),
        ("/data/store", URL, {"sec-fetch-site": "same-site"}, 403),
        ("/data/store", URL, {"sec-fetch-site": "same-origin"}, 200),
        ("/data/store", URL, {"origin": "http://evil.example"}, 403),
        ("/data/store", URL, {"origin": "null"}, 403),
        ("/data/store", URL, {"origin": URL}, 200),
    ],
)
def test_pages_of_others_read_nothing(path: str, url: str, headers: dict[str, str], status: int, explored: Explorer) -> None:
    assert ask(explored, path, url=url, headers=headers).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/data/store", "/data/branches"])
def test_nothing_is_written(method: str, path: str, explored: Explorer) -> None:
    answer = ask(explored, path, method, json={})
    assert answer.status_code == (400 if (method, path) == ("POST", "/data/branches") else 405)
    assert "message" in answer.json()["error"]


def test_a_key_is_shown_once_and_then_a_cookie(explored: Explorer) -> None:
    def asked(path: str, **headers: str) -> httpx.Response:
        return ask(explored, path, url="http://10.0.0.1:8123", key=KEY, local=False, headers=headers)

    assert asked("/").status_code == asked("/data/store").status_code == asked("/?key=0").status_code == 401
    assert "?key=KEY" in asked("/").json()["error"]["remedy"]
    welcome = asked(f"/?run=a%26b&key={KEY}")
    assert (welcome.status_code, welcome.headers["location"]) == (303, "/?run=a%26b")
    assert asked(f"/sample/a%2Fb/%E4%B8%AD?key={KEY}").headers["location"] == "/sample/a%2Fb/%E4%B8%AD"
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert asked("/data/store", cookie=cookie.partition(";")[0]).status_code == 200
    assert asked("/data/store", cookie="rrti-view=wrong").status_code == 401
    assert asked("/data/store", authorization=f"Bearer {KEY}").status_code == 200


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    path = tmp_path_factory.mktemp("hostile") / "<script>alert(1)<!--.duckdb"
    make_hostile_store(path)
    with Store.open_readonly(path) as store, Explorer(store) as explorer:
        yield explorer


def test_texts_of_a_foreign_store_stay_texts(hostile: Explorer) -> None:
    row = hostile.answer("samples", {})["rows"][0]
    sample = f"{row['run']}/{row['sample']}"
    for path, key in (("/", "samples"), (f"/sample/{sample}", f"sample/{sample}")):
        answer = ask(hostile, path)
        first = first_of(answer)
        assert first["store"]["runs"][0]["baseModel"] == ALL
        assert key in first
        assert answer.text.count("<script") == 2
        outside = re.sub(r'id="first">.*?</script>', "", answer.text, flags=re.DOTALL)
        assert re.findall(".*alert.*", outside) == ["<title>&lt;script&gt;alert(1)&lt;!--.duckdb</title>"]


def test_what_is_missing_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    assert run(["view", "--no-open"]) == 2
    told = capsys.readouterr().err
    assert "pip install fastapi uvicorn" in told
    assert "--export" in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.duckdb"], 8, "no store at missing.duckdb"),
        (["a.duckdb", "--db", "b.duckdb"], 2, "named twice"),
        (["--sealed", "--snapshot"], 2, "--sealed"),
        (["--host", "0.0.0.0"], 2, "--endpoint-key-file"),
        (["--port", "70000"], 2, "65535"),
    ],
)
def test_bad_options_are_told(
    arguments: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RRTI_ENDPOINT_KEY", raising=False)
    assert run(["view", "--no-open", *arguments]) == code
    assert message in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(random_path: Path, tmp_path: Path) -> None:
    shutil.copy(random_path, tmp_path / "traces.duckdb")
    before = (tmp_path / "traces.duckdb").read_bytes()
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "view", "--db", "traces.duckdb", "--no-open"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.fullmatch(r"explorer  (http://127\.0\.0\.1:\d+/)\n", process.stdout.readline())
        assert url is not None
        assert httpx.get(f"{url[1]}data/store").json()["name"] == "traces.duckdb"
        assert httpx.get(f"{url[1]}explorer.js").headers["content-type"].startswith("text/javascript")
        with Store.open_readonly(tmp_path / "traces.duckdb") as beside:  # others may read meanwhile
            assert beside.find_runs()
        process.send_signal(signal.SIGINT)
        assert "stopped" in process.stdout.read()
    assert process.returncode == 0
    assert (tmp_path / "traces.duckdb").read_bytes() == before
