"""Given texts on real servers: what a diagnose run wrote and stored, scored again from its texts and from its ids."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.errors import RRTIError, UsageError
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.running.runner import Progress, run_program
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.scoring.score import run_score
from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
from rrti_sgl.records import RunRecord, SampleTrace
from rrti_sgl.science.gates import ThresholdRule, replay
from rrti_sgl.serving.server import ServedPair

pytestmark = pytest.mark.server
N = 24
SAME = ("token_id", "source", "fired", "planning_tag", "planted")
CLOSE = ("score", "base_logprob", "reasoning_logprob", "ce", "kl", "reverse_kl", "js", "tv", "entropy_base")
CLOSE = (*CLOSE, "entropy_reasoning", "base_tail_mass", "reasoning_tail_mass")


class Scoring:
    """A store with a greedy diagnose run, and what scores files into it."""

    def __init__(self, store: Store, served: ServedPair, folder: Path) -> None:
        self.store, self._served, self.folder = store, served, folder
        settings = RunSettings("diagnose", "world:heldout", N, k=0)
        self.diagnosed = self._with_pair(lambda session: run_program(session, store, settings))

    def _with_pair(self, work: Any, samples: int = 16) -> RunRecord:
        async def go() -> RunRecord:
            async with open_session(self._served.base.url, self._served.reasoning.url, Concurrency(samples)) as session:
                return await work(session)

        return asyncio.run(go())

    def score(self, source: TextInput, *, resume: str | None = None, on_progress: Any = None, **options: Any) -> RunRecord:
        settings = ScoreSettings.of(source, **({"k": 0} | options))

        async def work(session: PairSession) -> RunRecord:
            texts = source.read()
            return await run_score(session, self.store, settings, texts, resume=resume, on_progress=on_progress)

        return self._with_pair(work, 1 if on_progress else 16)

    def file(self, name: str, *columns: str) -> Path:
        """Samples of the diagnose run as JSONL, with the columns that are asked for."""
        asked = """
            SELECT problem_id, question, problems.answer AS answer, text, finish_reason, token_ids
            FROM samples JOIN problems USING (problem_id)
            JOIN (SELECT sample_id, list(token_id ORDER BY position) AS token_ids FROM tokens GROUP BY 1) USING (sample_id)
            WHERE run_id = $run AND problem_set = 'world:heldout' ORDER BY sample_id
        """
        rows = self.store.sql(asked, {"run": self.diagnosed.run_id}).to_pylist()
        path = self.folder / name
        path.write_text("".join(json.dumps({column: row[column] for column in columns}) + "\n" for row in rows))
        return path

    def traces(self, run_id: str) -> dict[str, SampleTrace]:
        ids = self.store.sql("SELECT sample_id FROM samples WHERE run_id = $run", {"run": run_id}).to_pylist()
        found = [self.store.load_sample(row["sample_id"]) for row in ids]
        return {trace.sample.problem_id: trace for trace in found}


@pytest.fixture(scope="module")
def scoring(served_pair: ServedPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scoring]:
    folder = tmp_path_factory.mktemp("score")
    with Store.open(folder / "traces.duckdb", precision="exact") as store:
        yield Scoring(store, served_pair, folder)


@pytest.mark.parametrize(
    "columns", [("question", "text", "finish_reason"), ("problem_id", "token_ids")], ids=["text", "ids"]
)
def test_scoring_what_diagnose_wrote_gives_what_diagnose_stored(scoring: Scoring, columns: tuple[str, ...]) -> None:
    path = scoring.file(f"{columns[0]}.jsonl", *columns)
    run = scoring.score(TextInput(str(path), problems="world:heldout"))
    assert (run.program, run.status, run.gate, run.problem_set) == ("score", "finished", "never", "world:heldout")
    expected, found = scoring.traces(scoring.diagnosed.run_id), scoring.traces(run.run_id)
    assert len(found) == N
    assert found.keys() == expected.keys()
    for problem, diagnosed in expected.items():
        scored = found[problem]
        for name in ("base_prompt", "reasoning_prompt", "text", "n_tokens", "finish_reason", "answer", "correct"):
            assert getattr(scored.sample, name) == getattr(diagnosed.sample, name), name
        assert (scored.sample.n_takeovers, scored.sample.tokens_drafted) == (0, 0)
        assert scored.sample.tokens_scored == scored.sample.n_tokens
        for name in SAME:
            np.testing.assert_array_equal(getattr(scored.tokens, name), getattr(diagnosed.tokens, name), err_msg=name)
        for name in CLOSE:
            values = getattr(scored.tokens, name)
            np.testing.assert_allclose(values, getattr(diagnosed.tokens, name), rtol=1e-4, atol=2e-5, err_msg=name)
        for model in ("base", "reasoning"):
            np.testing.assert_allclose(
                _by_id(scored, model, run.vocab_size), _by_id(diagnosed, model, run.vocab_size), rtol=1e-4, atol=2e-3
            )
        _, local_mean = replay(scored.tokens.score, ThresholdRule(np.inf, window=16))
        np.testing.assert_allclose(scored.tokens.local_mean, local_mean)
        assert not (scored.tokens.base_token_id >= 0).any()


def _by_id(trace: SampleTrace, model: str, size: int) -> Any:
    """A model's log-probabilities by token id: (T, vocabulary)."""
    found = np.full((trace.sample.n_tokens, size), np.nan)
    ids, logprobs = getattr(trace.tokens, f"{model}_topk_ids"), getattr(trace.tokens, f"{model}_topk_logprobs")
    np.put_along_axis(found, ids, logprobs, axis=1)
    return found


def test_a_run_that_ended_early_goes_on_without_doubling(scoring: Scoring) -> None:
    path = scoring.file("resumed.jsonl", "question", "answer", "text")
    source, run_ids = TextInput(str(path)), []

    def stop_soon(progress: Progress) -> None:
        run_ids.append(progress.run_id)
        if progress.done == 5:
            raise RRTIError("stopped")

    with pytest.raises(RRTIError, match=r"score\(\.\.\., resume='score-\S+'\)"):
        scoring.score(source, on_progress=stop_soon, **_bare())
    [run_id] = set(run_ids)
    before = scoring.traces(run_id)
    assert 5 <= len(before) < N
    moved = path.rename(path.with_name("moved.jsonl"))
    stored = ScoreSettings.from_dict(scoring.store.get_run(run_id).config).relocated(moved)
    scored: list[int] = []

    async def go_on(session: PairSession) -> RunRecord:
        return await run_score(
            session,
            scoring.store,
            stored,
            stored.input.read(),
            resume=run_id,
            on_progress=lambda progress: scored.append(progress.done),
        )

    assert scoring._with_pair(go_on).status == "finished"
    assert len(scored) == N - len(before)
    after = scoring.traces(run_id)
    assert len(after) == N
    assert all(after[problem].sample.started_at == trace.sample.started_at for problem, trace in before.items())
    assert {trace.sample.correct for trace in after.values()} <= {True, False}

    lines = moved.read_text().splitlines(keepends=True)
    moved.write_text("".join(lines[:-1]))
    with pytest.raises(RRTIError, match="n_problems was 24 and is 23"):
        scoring._with_pair(go_on)


def _bare() -> dict[str, Any]:
    from rrti_sgl.prompts import load_template

    return {"base_prompt": load_template("bare@1"), "reasoning_prompt": load_template("bare@1")}


def test_the_longest_text_fits_and_one_token_more_is_refused_by_name(scoring: Scoring) -> None:
    async def limits(session: PairSession) -> Any:
        return min(session.pair.base.info.max_input_tokens, session.pair.reasoning.info.max_input_tokens)

    limit = scoring._with_pair(limits)
    path = scoring.folder / "long.jsonl"
    path.write_text(json.dumps({"question": "has", "token_ids": [[4] * (limit - 1), [4] * limit]}) + "\n")
    runs = scoring.store.sql("SELECT count(*) AS n FROM runs").to_pylist()
    with pytest.raises(UsageError, match=rf"long.jsonl, line 1: 1 tokens .* {limit} of the continuation .* {limit} that"):
        scoring.score(TextInput(str(path)), **_bare())
    assert scoring.store.sql("SELECT count(*) AS n FROM runs").to_pylist() == runs
    path.write_text(json.dumps({"question": "has", "token_ids": [4] * (limit - 1)}) + "\n")
    run = scoring.score(TextInput(str(path)), k=3, score_kind="plugin", **_bare())
    [trace] = scoring.traces(run.run_id).values()
    assert (trace.sample.n_tokens, trace.sample.finish_reason, run.score_kind) == (limit - 1, "unknown", "plugin")
    assert np.isfinite(trace.tokens.score).all()


def test_exact_numbers_of_the_plugin_equal_those_of_the_whole_vocabulary(scoring: Scoring) -> None:
    path = scoring.file("exact.jsonl", "question", "text", "finish_reason")
    source = TextInput(str(path), problems="world:heldout")
    exact = scoring.traces(scoring.score(source, k=4, score_kind="plugin").run_id)
    for problem, full in scoring.traces(scoring.diagnosed.run_id).items():
        np.testing.assert_allclose(exact[problem].tokens.entropy_base, full.tokens.entropy_base, atol=1e-4)
        np.testing.assert_allclose(exact[problem].tokens.entropy_reasoning, full.tokens.entropy_reasoning, atol=1e-4)
        assert (exact[problem].tokens.ce <= full.tokens.ce + 1e-3).all()


def test_score_is_no_program_of_rrti_run(scoring: Scoring) -> None:
    """A stored run of it is taken for none: no decoding can be repeated."""
    assert "score" not in PROGRAMS
    path = scoring.file("named.jsonl", "question", "text")
    run = scoring.score(TextInput(str(path), problems="world:heldout"))
    with pytest.raises(UsageError, match=r"texts that were given.*\n?.*score\(\.\.\., resume='RUN'\)"):
        RunSettings.from_dict(run.config)
