"""The page about own questions, played on real servers of the bundled pair; and what is said when something is missing."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.preparing import prepare
from rrti_sgl.programs.running.settings import settings_from
from rrti_sgl.serving.server import ServedPair
from tests.toy_pair import toy_pair

PAGE = (Path(__file__).resolve().parents[1] / "docs/own-questions.md").read_text(encoding="utf-8")
ASKS_MODELS = ("calibrate", "run")


@pytest.mark.server
@pytest.mark.usefixtures("drawn_once")
def test_the_page_works_as_it_stands(served_pair: ServedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [questions] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    Path("problems.jsonl").write_text(questions)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 7
    urls = ["--base-url", served_pair.base.url, "--reasoning-url", served_pair.reasoning.url]
    for command in commands[:-1]:  # the last one is for models that are not here
        words = shlex.split(command)[1:]
        done = CliRunner().invoke(app, [*words, *(urls if words[0] in ASKS_MODELS else [])])
        assert done.exception is None, (command, done.exception)
    with Store.open_readonly(tmp_path / "own.duckdb") as store:
        run = store.find_runs("guided")[-1]
        rows = store.sql("SELECT gold, answer, correct, finish_reason FROM sample_view WHERE program = 'guided'").to_pylist()
    assert run.grader == "world-v1"
    assert {row["finish_reason"] for row in rows} == {"stop"}
    assert all(row["correct"] == (row["gold"] == row["answer"]) for row in rows)
    assert any(row["correct"] for row in rows)


def test_a_threshold_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"question": "how many ?", "answer": "1"}))
    store = tmp_path / "own.duckdb"
    for program, made in (("guided", "calibrate --db"), ("entropy", "calibrate --metric entropy_base --db")):
        done = CliRunner().invoke(app, ["run", program, "--problems", str(problems), "--db", str(store)])
        assert isinstance(done.exception, UsageError)
        assert f"rrti {made} {store}" in done.exception.remedy


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"question": "w1 w2", "answer": "1"}))
    settings = settings_from("guided", problems=str(problems), k=7)
    with Store.open(tmp_path / "own.duckdb") as store, pytest.raises(UsageError) as raised:
        prepare(toy_pair(), settings, store)
    assert "2 things are wrong" in raised.value.message
    assert "1. The store has no calibration for these models with metric ce, k = 7" in raised.value.message
    assert "2. " in raised.value.message
    assert "chat" in raised.value.message
