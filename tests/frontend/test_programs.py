"""SGLang's documented frontend programs on real servers: the same text as SGLang's own backend and as `rrti run guided`.

The programs are those of SGLang's frontend tutorial with the words of the bundled pair's world.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import connect
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.programs.pass_at_k import pass_at_k
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.science.gates import AlwaysGate, NeverGate
from rrti_sgl.serving.keys import own_key
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tinypair.bundle import bundled_pair
from tests.frontend.conftest import TAU, OpenBackend, rows

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU

pytestmark = pytest.mark.server
LENGTH = 110


@sgl.function
def solve(s: Any, question: str) -> None:
    s += question
    s += sgl.gen("solution", max_tokens=LENGTH, temperature=0)


@sgl.function
def multi_turn_question(s: Any, question_1: str, question_2: str) -> None:
    s += sgl.system("textbook")
    s += sgl.user(question_1)
    s += sgl.assistant(sgl.gen("answer_1", max_tokens=24, temperature=0))
    s += sgl.user(question_2)
    s += sgl.assistant(sgl.gen("answer_2", max_tokens=24, temperature=0, stop=" ="))


@sgl.function
def two_steps(s: Any, question: str, stop: Any = None) -> None:
    s += question
    s += sgl.gen("first", max_tokens=20, temperature=0, stop=stop)
    s += " . then"
    s += sgl.gen("second", max_tokens=20, temperature=0)


@sgl.function
def tip_suggestion(s: Any, question: str) -> None:
    s += question
    forks = s.fork(2)
    for i, f in enumerate(forks):
        f += " first" if i == 0 else " first double"
        f += sgl.gen("detail", max_tokens=32, temperature=0, stop=".")
    s += forks[0]["detail"] + " ." + forks[1]["detail"] + " . so answer"
    s += sgl.gen("summary", max_tokens=4, temperature=0)


@sgl.function
def joined(s: Any, question: str, mode: str) -> None:
    s += question
    forks = s.fork(2)
    forks += lambda i: [" first add", " first double"][i] + sgl.gen("step", max_tokens=6, temperature=0)
    forks.join(mode)
    s += sgl.gen("rest", max_tokens=6, temperature=0)


@sgl.function
def tool_use(s: Any, question: str, choices: list[str], method: Any = None) -> None:
    s += question
    s += sgl.gen("plan", choices=choices, choices_method=method)
    s += sgl.gen("rest", max_tokens=8, temperature=0)


PROGRAMS = [
    pytest.param(solve, {}, id="gen"),
    pytest.param(two_steps, {}, id="two generations"),
    pytest.param(two_steps, {"stop": "."}, id="stop string"),
    pytest.param(two_steps, {"stop": ["2 6", "wait"]}, id="stop over several tokens"),
    pytest.param(tip_suggestion, {}, id="fork"),
    pytest.param(joined, {"mode": "gather_variable"}, id="join variables"),
]


@pytest.mark.parametrize(("program", "arguments"), PROGRAMS)
def test_without_intervention_the_text_is_sglangs(
    program: Any, arguments: dict[str, Any], served_pair: ServedPair, open_backend: OpenBackend, questions: list[str]
) -> None:
    ours, theirs = open_backend(NeverGate()), sgl.RuntimeEndpoint(served_pair.base.url, api_key=own_key())
    for question in questions[:2]:
        state = program.run(question=question, backend=ours, **arguments)
        expected = program.run(question=question, backend=theirs, **arguments)
        assert state.text() == expected.text()
        assert state.stream_executor.variables == expected.stream_executor.variables


def test_joining_text_appends_every_branch(open_backend: OpenBackend, questions: list[str]) -> None:
    """SGLang's own backend asks its server for a route that 0.5.23 does not have, and waits for ever."""
    state = joined.run(questions[0], "concate_and_append", backend=open_backend())
    text = state.text()
    assert text.startswith(questions[0] + " first add")
    assert " first double" in text
    assert text.endswith(state["rest"])


def test_chat_roles_are_sglangs(served_pair: ServedPair, open_backend: OpenBackend, questions: list[str]) -> None:
    ours, theirs = open_backend(NeverGate()), sgl.RuntimeEndpoint(served_pair.base.url, api_key=own_key())
    state, expected = (multi_turn_question.run(*questions[:2], backend=backend) for backend in (ours, theirs))
    assert state.messages() == expected.messages()
    assert [message["role"] for message in state.messages()] == ["system", "user", "assistant", "user", "assistant"]
    with pytest.raises(UsageError, match="no-such"):
        open_backend(chat_template="no-such")


def test_the_reasoning_model_alone(served_pair: ServedPair, open_backend: OpenBackend, questions: list[str]) -> None:
    ours, theirs = open_backend(AlwaysGate()), sgl.RuntimeEndpoint(served_pair.reasoning.url, api_key=own_key())
    for arguments in ({}, {"stop": "."}):
        state, expected = (two_steps.run(questions[0], backend=backend, **arguments) for backend in (ours, theirs))
        assert state.text() == expected.text()
    assert "prompt_tokens" not in state.get_meta_info("first")


def test_guided_programs_decode_what_rrti_run_decodes(
    served_pair: ServedPair, open_backend: OpenBackend, questions: list[str], tmp_path: Path
) -> None:
    questions = questions[:12]
    settings = RunSettings("guided", limit=len(questions), k=0, max_new_tokens=LENGTH, gate=GateOptions(tau=TAU))

    async def run(store: Store) -> str:
        async with connect(served_pair.base.url, served_pair.reasoning.url) as pair, PairSession(pair) as session:
            return (await run_program(session, store, settings)).run_id

    with Store.open(tmp_path / "traces.duckdb") as store:
        expected_run = asyncio.run(run(store))
        backend = open_backend("guided", tau=TAU, store=store)
        states = solve.run_batch([{"question": question} for question in questions], backend=backend)
        backend.close()
        by_run = {
            run_id: rows(
                store,
                "SELECT problem_id, text, list(token_id ORDER BY position) AS ids, list(fired ORDER BY position) AS fired, "
                "list(round(score, 4) ORDER BY position) AS scores FROM tokens JOIN samples USING (run_id, sample_id) "
                "WHERE run_id = $run GROUP BY ALL ORDER BY problem_id",
                run=run_id,
            )
            for run_id in (expected_run, *backend.run_ids)
        }
    expected, ours = by_run.values()
    assert len(expected) == len(questions)
    for name in ("problem_id", "text", "ids", "fired"):
        assert [row[name] for row in ours] == [row[name] for row in expected], name
    assert sorted(row["text"] for row in expected) == sorted(state["solution"].strip() for state in states)
    assert sum(sum(row["fired"]) for row in ours) > len(questions)


def test_batch_results_come_in_order_and_equal_single_runs(open_backend: OpenBackend, questions: list[str]) -> None:
    backend, questions = open_backend(), questions[:8]
    states = solve.run_batch([(question,) for question in questions], backend=backend, num_threads=8)
    assert [state.text()[: len(question)] for state, question in zip(states, questions, strict=True)] == questions
    for question, state in list(zip(questions, states, strict=True))[:2]:
        assert solve.run(question, backend=backend)["solution"] == state["solution"]
    lazily = solve.run_batch([(question,) for question in questions[:4]], backend=backend, generator_style=True)
    assert [state["solution"] for state in lazily] == [state["solution"] for state in states[:4]]


@pytest.mark.parametrize("gate", [None, NeverGate(), AlwaysGate()])
def test_streams_give_the_same_text_in_pieces(gate: Any, open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend(gate)
    for program, name in ((solve, "solution"), (two_steps, "first")):
        options = {} if program is solve else {"stop": ["= 4 0 .", "= 2 8 ."]}
        expected = program.run(questions[0], backend=backend, **options)
        streamed = program.run(questions[0], backend=backend, stream=True, **options)
        pieces = list(streamed.text_iter(name))
        streamed.sync()
        assert "".join(pieces) == expected[name]
        whole = program.run(questions[0], backend=backend, stream=True, **options)
        assert "".join(whole.text_iter()) == expected.text()
        assert whole.get_meta_info(name)["completion_tokens"] == expected.get_meta_info(name)["completion_tokens"]


@pytest.mark.parametrize("gate", [None, NeverGate(), AlwaysGate()])
def test_streams_move_on_with_every_draft(gate: Any, open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend(gate, draft_tokens=8)
    state = solve.run(questions[0], backend=backend)
    state.sync()
    executor = state.stream_executor
    executor.text_ = questions[0]
    params = sgl.lang.ir.SglSamplingParams(max_new_tokens=LENGTH, temperature=0.0)
    pieces = list(backend.generate_stream(executor, params))
    assert "".join(piece for piece, _ in pieces) == state["solution"]
    assert all(len(piece.split()) <= 8 for piece, _ in pieces)
    assert [bool(info) for _, info in pieces] == [False] * (len(pieces) - 1) + [True]


def test_streams_can_be_read_asynchronously(open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend()

    async def read() -> list[str]:
        state = solve.run(questions[0], backend=backend, stream=True)
        return [piece async for piece in state.text_async_iter("solution")]

    assert "".join(asyncio.run(read())) == solve.run(questions[0], backend=backend)["solution"]


def test_default_backend_needs_no_change_of_the_program(open_backend: OpenBackend, questions: list[str]) -> None:
    backend: InterventionBackend = open_backend()
    previous = sgl.global_config.default_backend
    sgl.set_default_backend(backend)
    try:
        assert solve.run(questions[0])["solution"] == solve.run(questions[0], backend=backend)["solution"]
        sgl.flush_cache()
        assert sgl.get_server_info()["base"]["version"]
    finally:
        sgl.set_default_backend(previous)


CHOICES = [" first add", " first double", " so answer 1", " then"]


@pytest.mark.parametrize(
    "method", [sgl.token_length_normalized, sgl.greedy_token_selection, sgl.unconditional_likelihood_normalized]
)
@pytest.mark.parametrize("short", [False, True])
def test_select_scores_choices_as_transformers_does(
    method: Any, short: bool, open_backend: OpenBackend, questions: list[str]
) -> None:
    """Short: a prompt of one token, after which SGLang's own backend fails."""
    backend = open_backend()
    for question in ["bea"] if short else questions[:2]:
        state = tool_use.run(question, CHOICES, method, backend=backend)
        info = state.get_meta_info("plan")
        expected = [_choice_logprobs(question, choice) for choice in CHOICES]
        assert [[entry[0] for entry in entries] for entries in info["input_token_logprobs"]] == [
            pytest.approx(values, abs=1e-3) for values in expected
        ]
        if method is sgl.token_length_normalized:
            means = [sum(values) / len(values) for values in expected]
            assert state["plan"] == CHOICES[means.index(max(means))]
        assert state["plan"] in CHOICES
        assert state.text().startswith(question + state["plan"] + state["rest"][:1])


@functools.cache
def _transformers_model() -> Any:
    from pair_training.model import load_model

    return load_model(bundled_pair().base)


def _choice_logprobs(prompt: str, choice: str) -> list[float]:
    """With transformers' model, which knows nothing of servers."""
    import torch

    from rrti_sgl.tinypair.tokenizer import encode

    model = _transformers_model()
    before, ids = len(encode(prompt)), encode(prompt + choice)
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(logprobs[i - 1, ids[i]]) for i in range(before, len(ids))]


def test_select_refuses_what_has_no_score(open_backend: OpenBackend, caplog: pytest.LogCaptureFixture) -> None:
    backend = open_backend()

    @sgl.function
    def nothing_before(s: Any) -> None:
        s += sgl.gen("word", choices=["ann", "bea"])

    error = nothing_before.run(backend=backend).error()
    assert isinstance(error, UsageError)
    assert "no token to score" in str(error)
    assert "no token to score" in caplog.text  # for whoever asks for no result


def test_pass_at_k_as_a_program(open_backend: OpenBackend, tmp_path: Path) -> None:
    problems = load_problems("world:heldout", limit=6)
    backend = open_backend(store=tmp_path / "traces.duckdb")
    found = pass_at_k(backend, problems, samples=4, k=2)
    backend.flush()
    assert found.estimate.estimate == pytest.approx(np.mean([1 - (4 - c) * (3 - c) / 12 for c in found.correct]))
    assert 0 < sum(found.correct) <= 24
    backend.close()
    stored = rows(tmp_path / "traces.duckdb", "SELECT sum(base_cached_tokens) AS cached, count(*) AS n FROM samples")[0]
    assert stored["n"] == 24
    assert stored["cached"] > 24 * 20  # every fork finds the prompt


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_of_more_samples_than_drawn_is_refused(k: int, open_backend: OpenBackend) -> None:
    with pytest.raises(UsageError, match=f"k = {k}"):
        pass_at_k(open_backend(), load_problems("world:heldout", limit=1), samples=4, k=k)
