"""`rrti api` and `rrti serve --api`: refused before anything is started, and stopped in order while answers run."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app, run
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import load_problems
from rrti_sgl.programs import web
from rrti_sgl.programs.web.serving import Place
from rrti_sgl.serving.server import ServedPair

QUESTION = load_problems("world:heldout", limit=1).problems[0].question
NOBODY = ["--base-url", "http://127.0.0.1:9", "--reasoning-url", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "endpoint-key-file"),
        (["--temperature", "11"], "--temperature"),
        (["--tau", "nan"], "--tau"),
        (["--endpoint-key-file", ""], "no path"),
    ],
)
def test_what_cannot_be_served_is_refused_before_a_server_is_asked(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["api", *NOBODY, *arguments]) == 2
    assert told in capsys.readouterr().err


ENDPOINT = ["--endpoint-url", "http://127.0.0.1:9"]
BOTH = ["--base-url", "http://127.0.0.1:9/v1", "--reasoning-url", "http://127.0.0.1:9/v1/"]


@pytest.mark.parametrize("addresses", [ENDPOINT, BOTH], ids=["endpoint-url", "both"])
@pytest.mark.parametrize(
    ("command", "asks"),
    [
        (["api"], "rrti api"),
        (["score", "--input", "no-file"], "rrti score"),
        (["counterfactual", "sample"], "rrti counterfactual"),
        (["view", "no-store"], "a branch"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_asks_each_model_names_the_endpoint_and_opens_nothing(
    command: list[str],
    asks: str,
    addresses: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, *addresses]) == 2
    told = capsys.readouterr().err
    assert f"{addresses[0]} {addresses[1]} is an endpoint: it gives whole samples, and {asks} asks each model" in told
    assert "Name the servers behind it: --base-url and --reasoning-url" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        (NOBODY, "--endpoint-url http://127.0.0.1:9 was given beside --fused or other addresses"),
        (["--fused-url", "http://127.0.0.1:9"], "--endpoint-url http://127.0.0.1:9 was given beside"),
        (["--fused"], "--endpoint-url http://127.0.0.1:9 was given beside"),
        (["--base", "one", "--reasoning", "other"], "Both addresses and what to start were given"),
        (["--endpoint-url", ""], "Endpoint address '' is no URL"),
        (["--endpoint-url", "localhost:8000"], "Endpoint address 'localhost:8000' is no URL"),
        ([], "GET http://127.0.0.1:9/v1/pair failed"),
    ],
    ids=str,
)
def test_an_endpoint_is_named_alone_and_by_its_address(
    beside: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", "base", "--limit", "1", "--db", str(tmp_path / "traces.duckdb"), *ENDPOINT, *beside]) != 0
    assert told in capsys.readouterr().err


def test_a_key_of_the_environment_has_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRTI_ENDPOINT_KEY", "short")
    done = CliRunner().invoke(app, ["api", *NOBODY])
    assert isinstance(done.exception, UsageError)
    assert "short" not in str(done.exception)


@pytest.mark.parametrize("arguments", [["api"], ["serve", "--api"]])
def test_without_what_it_needs_a_line_says_what_to_install(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web.importlib.util, "find_spec", lambda name: None)
    assert run(arguments) == 2
    assert "pip install fastapi prometheus-client uvicorn" in capsys.readouterr().err


def test_a_place_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="cannot listen"):
        Place(port=taken.getsockname()[1]).listen()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("how", ["api", "serve"])
def test_a_signal_lets_what_runs_finish_and_stores_it(served_pair: ServedPair, tmp_path: Path, how: str) -> None:
    db = tmp_path / "traces.duckdb"
    addresses = ["--base-url", served_pair.base.url, "--reasoning-url", served_pair.reasoning.url, "--port", "0"]
    own = ["--api", "--api-port", "0", "--device", "cpu"]
    options = ["--tau", "0.5", "--db", str(db), *(addresses if how == "api" else own)]
    with subprocess.Popen(
        [sys.executable, "-m", "rrti_sgl.cli.main", how, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as serving:
        assert serving.stdout is not None
        said = ""
        for line in serving.stdout:
            said += line
            if line.startswith("Ctrl-C"):
                break
        [url] = re.findall(r"^endpoint +(http://\S+/v1)$", said, re.MULTILINE)
        client = openai.OpenAI(base_url=url, api_key="any", max_retries=0)
        asked: dict[str, Any] = {"model": "guided", "max_tokens": 110, "temperature": 0}
        whole = client.completions.create(prompt=QUESTION, **asked)
        stream = client.completions.create(prompt=QUESTION, n=8, stream=True, **asked)
        first = next(iter(stream))
        serving.send_signal(signal.SIGTERM)
        texts = [""] * 8
        texts[first.choices[0].index] += first.choices[0].text
        for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].text
        assert texts == [whole.choices[0].text] * 8
        assert serving.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/models")
    with Store.open_readonly(db) as store:
        [row] = store.sql("SELECT count(*) AS n, count(DISTINCT text) AS texts FROM samples").to_pylist()
        assert (row["n"], row["texts"]) == (9, 1)
        assert {run["status"] for run in store.sql("SELECT status FROM runs").to_pylist()} == {"finished"}
