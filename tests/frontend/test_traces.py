"""What programs leave in the store, and what forks save, on real servers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rrti_sgl.programs.frontend
from rrti_sgl.science.gates import AlwaysGate, Gate, NeverGate, RandomGate, ThresholdRule, replay
from rrti_sgl.serving.server import ServedPair
from tests.frontend.conftest import TAU, OpenBackend, guided, rows

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU

pytestmark = pytest.mark.server


@sgl.function
def conversation(s: Any, question: str) -> None:
    s += question
    s += sgl.gen("steps", max_tokens=30, temperature=0, stop=[". then subtract", "wait"])
    s += " . so answer"
    s += sgl.gen("answer", max_tokens=4, temperature=0)


@sgl.function
def pass_at_8(s: Any, question: str) -> None:
    s += question
    forks = s.fork(8)
    forks += sgl.gen("solution", max_tokens=110, temperature=1.0)
    s["infos"] = [fork.get_meta_info("solution") for fork in forks]
    forks.join()


ROWS = """
SELECT run_id, sample_id, n_tokens, n_takeovers, tokens_drafted, tokens_discarded, text, finish_reason,
       count(*) AS n_rows, max(position) AS last, count(*) FILTER (source = 'reasoning') AS taken,
       count(*) FILTER (base_token_id IS NOT NULL) AS n_drawn, string_agg(token_text, '' ORDER BY position) AS pieces,
       count(*) FILTER (base_token_id IS NOT NULL AND base_logprob IS NULL) AS unsettled,
       list(score ORDER BY position) AS scores, list(fired ORDER BY position) AS fired
FROM samples JOIN tokens USING (run_id, sample_id) GROUP BY ALL
"""


@pytest.mark.parametrize(
    ("gate", "k"),
    [(guided(), 0), (NeverGate(), 0), (AlwaysGate(), 0), (RandomGate(0.3), 0), (guided(), 3), (RandomGate(0.3), 3)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_row_for_every_token_of_every_gen(
    gate: Gate, k: int, open_backend: OpenBackend, questions: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "traces.duckdb"
    backend, questions = open_backend(gate, store=path, k=k), questions[:12]
    states = conversation.run_batch([(question,) for question in questions], backend=backend)
    infos = {
        (info["run_id"], info["sample_id"]): (info, state.text()[len(question) :], name)
        for question, state in zip(questions, states, strict=True)
        for name in ("steps", "answer")
        for info in [state.get_meta_info(name)]
    }
    backend.close()
    found = rows(path, ROWS)
    assert len(infos) == len(found) == 2 * len(questions)
    for row in found:
        info, _, _ = infos[row["run_id"], row["sample_id"]]
        assert row["n_rows"] == row["n_tokens"] == row["last"] + 1 == info["completion_tokens"]
        assert row["taken"] == row["n_takeovers"] == info["takeovers"]
        assert row["tokens_drafted"] == row["n_drawn"] + row["tokens_discarded"]
        assert row["unsettled"] == 0
        assert row["finish_reason"] == info["finish_reason"]["type"]
        if gate.rule is not None and gate.metric is not None and k == 0:
            np.testing.assert_array_equal(row["fired"], replay(np.asarray(row["scores"]), gate.rule)[0])
    runs = rows(path, "SELECT * FROM runs ORDER BY max_new_tokens")
    assert [run["max_new_tokens"] for run in runs] == [4, 30]
    assert {run["run_id"] for run in runs} == set(backend.run_ids)
    assert {(run["program"], run["problem_set"], run["status"], run["gate"]) for run in runs} == {
        ("frontend", "frontend", "finished", gate.name)
    }


def test_a_stop_string_ends_the_trace_with_the_token_that_completes_it(
    open_backend: OpenBackend, questions: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "traces.duckdb"
    backend = open_backend(store=path)
    ends: dict[str, str] = {}
    for state in conversation.run_batch([(question,) for question in questions], backend=backend):
        info, text = state.get_meta_info("steps"), state["steps"]
        if info["finish_reason"]["type"] == "stop" and isinstance(info["finish_reason"]["matched"], str):
            ends[info["sample_id"]] = text + info["finish_reason"]["matched"]
    assert len(ends) > 2
    backend.close()
    for row in rows(path, "SELECT sample_id, text, n_tokens FROM samples"):
        if row["sample_id"] in ends:
            assert " " + row["text"] == ends.pop(row["sample_id"])
            assert len(row["text"].split()) == row["n_tokens"]
    assert not ends


def test_prompts_are_problems_and_repetitions_are_samples(
    open_backend: OpenBackend, questions: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "traces.duckdb"
    backend = open_backend(store=path, reasoning_prefix="textbook ")
    for question in (questions[0], questions[0], questions[1]):
        conversation.run(question, backend=backend).sync()
    backend.close()
    found = rows(
        path,
        "SELECT question, count(*) AS n, max(sample_index) AS last, any_value(base_prompt) AS base, "
        "any_value(reasoning_prompt) AS reasoning, count(samples.answer) + count(correct) AS graded "
        "FROM samples JOIN problems USING (problem_id) GROUP BY question",
    )
    by_question = {row["question"]: row for row in found}
    assert len(found) == 4
    assert (by_question[questions[0]]["n"], by_question[questions[0]]["last"]) == (2, 1)
    for question, row in by_question.items():
        assert (row["base"], row["reasoning"], row["graded"]) == (question, "textbook " + question, 0)


def test_pass_at_8_through_fork_prefills_the_prompt_once(
    open_backend: OpenBackend, questions: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "traces.duckdb"
    backend = open_backend(store=path)
    backend.flush_cache()
    state = pass_at_8.run(questions[0], backend=backend)
    state.sync()
    assert len(state["infos"]) == 8
    assert len(set(state["solution"])) > 1  # the branches draw their own
    prompt_tokens = len(questions[0].split())
    for info in state["infos"]:
        assert info["prompt_tokens"] == prompt_tokens
        assert info["cached_tokens"] == info["reasoning_cached_tokens"] == prompt_tokens - 1
    backend.close()
    [row] = rows(
        path,
        "SELECT sum(base_prompt_tokens - base_cached_tokens) AS base, sum(n_tokens) AS n, sum(base_calls) AS calls, "
        "sum(reasoning_prompt_tokens - reasoning_cached_tokens) AS reasoning, sum(tokens_scored) AS scored, "
        "sum(reasoning_calls) AS reasoning_calls FROM samples",
    )
    # All that is computed beyond the shared prompt: what was generated, and the last token before it again at each call.
    assert row["base"] <= row["n"] + row["calls"]
    assert row["reasoning"] <= row["scored"] + row["n"] + row["reasoning_calls"]


def test_a_process_that_never_closes_loses_nothing(served_pair: ServedPair, questions: list[str], tmp_path: Path) -> None:
    script = f"""
from rrti_sgl.programs.frontend import InterventionBackend
import sglang as sgl

@sgl.function
def solve(s, question):
    s += question + sgl.gen("solution", max_tokens=20, temperature=0)

sgl.set_default_backend(InterventionBackend(
    {served_pair.base.url!r}, {served_pair.reasoning.url!r}, tau={TAU}, store="traces.duckdb"))
print(solve.run({questions[0]!r})["solution"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    [row] = rows(tmp_path / "traces.duckdb", "SELECT text, status FROM samples JOIN runs USING (run_id)")
    assert (" " + row["text"], row["status"]) == (done.stdout.rstrip("\n"), "finished")


DOCSTRING = "\n".join(
    line[4:]
    for line in (rrti_sgl.programs.frontend.__doc__ or "").partition("::\n\n")[2].partition("\n`gen`")[0].splitlines()
)
README = Path(__file__).resolve().parents[2] / "README.md"
IN_README = re.findall(r"```python\n(from rrti_sgl\.frontend.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("source", [DOCSTRING, *IN_README], ids=["docstring", "README"])
def test_the_shown_snippet_runs(
    source: str, served_pair: ServedPair, questions: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    names = {"BASE_URL": served_pair.base.url, "REASONING_URL": served_pair.reasoning.url, "QUESTION": questions[0]}
    script = tmp_path / "snippet.py"  # SGLang reads the source of functions
    script.write_text(source)
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(script), "exec"), names)
    assert capsys.readouterr().out.startswith(" first")
    [row] = rows(
        tmp_path / "traces.duckdb", "SELECT count(*) AS n, any_value(gate) AS gate FROM tokens JOIN runs USING (run_id)"
    )
    assert row["n"] > 10
    assert row["gate"] == "divergence"


def test_a_gate_of_ones_own_by_name(open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend("rrti_sgl.science.gates:RandomGate", gate_params={"rho": 1.0})
    state = conversation.run(questions[0], backend=backend)
    state.sync()
    info = state.get_meta_info("steps")
    assert backend.gate.rule == ThresholdRule(0.0)
    assert info["takeovers"] == info["completion_tokens"]
