"""`rrti score` as a command: what is refused before any server is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rrti_sgl.db.store import Store
from tests.cli.test_bad_input import NO_SERVER
from tests.cli.test_named_kinds import refused
from tests.db.conftest import make_run

GOOD = {"question": "has", "text": "5"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, r"nothing to score.*\n.*rrti score --input FILE"),
        (["--input", "missing.jsonl"], 2, "no file missing.jsonl"),
        (
            ["--input", "bad.jsonl", *NO_SERVER],
            2,
            r"2 problems; nothing was scored.\n  bad.jsonl, line 2: .*\n  bad.jsonl, line 3: ",
        ),
        (["--input", "good.jsonl", "--format", "xml"], 2, "--format 'xml' is unknown"),
        (["--input", "good.jsonl", "--field", "text"], 2, "--field 'text' is no NAME=VALUE"),
        (["--input", "good.jsonl", "--field", "answer=gold"], 2, r"field 'gold' \(answer\) is missing"),
        (["--input", "good.jsonl", "--metric", "cosine"], 2, "--metric 'cosine' is unknown"),
        (["--input", "good.jsonl", *NO_SERVER], 4, r"GET http://127.0.0.1:9/\S+ failed"),
        (["--resume", "base-1", "--db", "store.duckdb"], 2, r"is of program 'base'.*\n.*rrti run --resume base-1"),
        (["--resume", "base-1", "--db", "store.duckdb", "--k", "3"], 2, "--k cannot be given"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "bad.jsonl").write_text(json.dumps(GOOD) + '\n{"question": "has"}\n{\n')
    with Store.open(tmp_path / "store.duckdb") as store:
        store.begin_run(make_run("base-1", program="base"))
    refused(capfd, code, message, "score", *arguments)
    if code == 2:
        assert not (tmp_path / "traces.duckdb").exists()
