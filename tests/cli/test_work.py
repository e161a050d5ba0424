"""Commands that work on a pair, from their options to what they print, on a pair without servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running import session
from rrti_sgl.programs.running.arms import samples_of
from rrti_sgl.programs.running.session import Concurrency, PairSession
from tests.toy_pair import toy_pair

Rrti = Callable[..., Any]
SHOWN = ("--base-template", "bare@1", "--reasoning-template", "bare@1", "--k", "4")
SHORT = (*SHOWN, "--max-new-tokens", "30")


@pytest.fixture
def connected() -> list[dict[str, Any]]:
    """What the commands asked to be connected to."""
    return []


@pytest.fixture
def rrti(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, connected: list[dict[str, Any]]) -> Rrti:
    rows = [{"question": f"w1 w{i} w3", "answer": "1", "text": "w2 w4 w5"} for i in range(2, 6)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    @asynccontextmanager
    async def toy_session(base: str, reasoning: str, concurrency: Concurrency, **more: Any) -> AsyncIterator[PairSession]:
        connected.append({"urls": (base, reasoning), "samples": concurrency.samples} | more)
        async with PairSession(toy_pair(), concurrency) as session:
            yield session

    monkeypatch.setattr(session, "open_session", toy_session)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        named = ("--base-url", "http://b", "--reasoning-url", "http://r", "--in-flight", "3", "--tokenizer", "t", "--json")
        named += ("--patience", "7")
        done = CliRunner().invoke(app, [*arguments, *named], env={"RRTI_API_KEY": "secret"})
        assert done.exception is None, done.exception
        return json.loads(done.stdout)

    return run


def test_a_run_and_the_denial_of_its_takeovers(rrti: Rrti, connected: list[dict[str, Any]]) -> None:
    rrti("run", "guided", "--problems", "problems.jsonl", "--tau", "2", "--special-tokens", "as-is", *SHORT)
    with Store.open_readonly("traces.duckdb") as store:
        [row] = store.sql("SELECT sample_id, n_changed FROM samples WHERE n_changed > 0 LIMIT 1").to_pylist()
    assert len(rrti("counterfactual", row["sample_id"])) == row["n_changed"]
    asked = {
        "urls": ("http://b", "http://r"),
        "samples": 3,
        "tokenizer": "t",
        "api_key": "secret",
        "limits": TransportLimits(patience_s=7),
        "special_tokens": "as-is",
    }
    assert connected == [asked, asked]
    drawn = ("--unit", "sentence", "--temperature", "1", "--continuations", "2")
    [whole] = rrti("counterfactual", row["sample_id"], *drawn)
    assert (whole["sample"], whole["first"], whole["continuations"]) == (row["sample_id"], 0, 2)
    assert whole["answers_low"] <= whole["answers_high"]
    several = rrti("counterfactual", "--run", "guided", "--limit", "3", *drawn)
    assert len({row["sample"] for row in several}) == 3
    with Store.open_readonly("traces.duckdb") as store:
        assert len(store.find_runs(program="counterfactual")) == 5
        for asked, message in (
            (([], None, None), "It is of samples, or of those of a run"),
            ((["a"], "guided", None), "It is of samples, or of those of a run"),
            ((["a"], None, 2), "It is of samples, or of those of a run"),
            (([], "counterfactual", None), "'counterfactual' is 5 runs"),
            (([], store.find_runs(program="counterfactual")[-1].run_id, None), "has no graded sample"),
        ):
            with pytest.raises(UsageError, match=message):
                samples_of(store, *asked, "sentence")


def test_seeds_are_runs_of_one_group(rrti: Rrti) -> None:
    rrti("run", "random", "--problems", "problems.jsonl", "--seeds", "2", *SHORT)
    with Store.open_readonly("traces.duckdb") as store:
        runs = store.find_runs(program="random")
    assert [(run.status, run.seed) for run in runs] == [("finished", 0), ("finished", 1)]


def test_calibrations_and_given_texts(rrti: Rrti) -> None:
    assert (
        len(rrti("calibrate", "--problems", "problems.jsonl", "--spike-ratio", "0.2", "--spike-ratio", "0.3", *SHORT)) == 2
    )
    rrti("score", "--input", "problems.jsonl", *SHOWN)
    with Store.open_readonly("traces.duckdb") as store:
        assert [store.get_run(run.run_id).kind for run in store.find_runs(program="score")] == ["score"]
