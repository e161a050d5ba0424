"""Answers of the endpoint on the toy pair: completions, chats and models, whole and streamed, equal to the session's own."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.gates import AlwaysGate, DivergenceGate, Gate, NeverGate, ThresholdRule
from tests.api.toy import asked, client, events, opened
from tests.decoded import decode
from tests.toy_pair import STOP, toy_pair, toy_vocabulary

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
GREEDY: dict[str, Any] = {"model": "guided", "prompt": "w1 w2", "max_tokens": 25, "temperature": 0}
GATES: dict[str, Gate] = {
    "guided": DivergenceGate("ce", ThresholdRule(tau=3.0)),
    "base": NeverGate(),
    "reasoning": AlwaysGate(),
}


def own(gate: Gate, prompt: list[int], limit: int = 25) -> TraceBuilder:
    """What the session decodes after a prompt, greedily."""
    job = SampleJob("run", ProblemRecord("p", "s", "q", None), 0, 0, "", prompt, "", prompt)
    [trace] = asyncio.run(decode(toy_pair(), [job], gate, DecodeOptions(3, limit, Sampling(), frozenset({STOP}))))
    return trace


@pytest.mark.parametrize("model", GATES)
@pytest.mark.parametrize("prompt", ["w1 w2", [1, 2], ["w1 w2", "w3"], [[1, 2], [3]]], ids=str)
def test_a_completion_is_what_the_session_decodes(model: str, prompt: Any) -> None:
    [answer] = asked(COMPLETIONS, {**GREEDY, "model": model, "prompt": prompt, "logprobs": 0})
    body, several = answer.json(), isinstance(prompt, list) and not isinstance(prompt[0], int)
    traces = [own(GATES[model], ids) for ids in ([[1, 2], [3]] if several else [[1, 2]])]
    for index, (choice, trace) in enumerate(zip(body["choices"], traces, strict=True)):
        assert choice["index"] == index
        assert choice["text"].split() == toy_vocabulary().decode(trace.token_ids).split()
        assert choice["finish_reason"] == trace.finish_reason
        assert choice["rrti"]["takeovers"] == trace.sources.count("reasoning")
        decoded = zip(trace.sources, trace.base_logprobs, trace.reasoning_logprobs, strict=True)
        written = [by_reasoning if source == "reasoning" else by_base for source, by_base, by_reasoning in decoded]
        np.testing.assert_allclose(choice["logprobs"]["token_logprobs"], written)
    tokens = sum(map(len, traces))
    assert body["usage"]["completion_tokens"] == tokens
    assert body["usage"]["prompt_tokens"] + tokens == body["usage"]["total_tokens"]
    assert body["usage"]["takeovers"] == sum(trace.sources.count("reasoning") for trace in traces)


def test_the_most_probable_tokens_are_those_of_the_model_that_wrote() -> None:
    [answer] = asked(COMPLETIONS, {**GREEDY, "logprobs": 3})
    logprobs, trace = answer.json()["choices"][0]["logprobs"], own(GATES["guided"], [1, 2])
    assert {"base", "reasoning"} == set(trace.sources)
    for place, (token, best) in enumerate(zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True)):
        assert list(best.values()) == sorted(best.values(), reverse=True)
        assert best[token] == pytest.approx(logprobs["token_logprobs"][place])
        assert next(iter(best)) == token, "greedy"


@pytest.mark.parametrize("more", [{}, {"n": 3}, {"stop": "w4"}, {"prompt": ["w1 w2", "w5"], "n": 2}], ids=str)
@pytest.mark.parametrize("model", GATES)
def test_a_stream_is_the_whole_answer_in_pieces(model: str, more: dict[str, Any]) -> None:
    body = {**GREEDY, "model": model, "logprobs": 2, **more}
    whole, streamed, without = asked(
        COMPLETIONS,
        body,
        {**body, "stream": True, "stream_options": {"include_usage": True}},
        {**body, "stream": True},
    )
    *chunks, usage = events(streamed.text)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert usage["usage"] == whole.json()["usage"]
    assert usage["choices"] == []
    for choice in whole.json()["choices"]:
        parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [choice["finish_reason"]]
        for name, values in choice["logprobs"].items():
            assert [value for part in parts for value in part["logprobs"][name]] == values
    assert all("usage" not in chunk for chunk in events(without.text))
    assert len(events(without.text)) == len(chunks)


def test_offsets_are_where_tokens_begin_one_after_the_other() -> None:
    [answer] = asked(COMPLETIONS, {**GREEDY, "n": 2, "logprobs": 0})
    for choice in answer.json()["choices"]:
        tokens, offsets = choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
        assert len(offsets) > 10
        assert [offset + len(token) for offset, token in zip(offsets, tokens, strict=True)][:-1] == offsets[1:]
        assert offsets[0] == 0


def test_a_stop_string_ends_the_text_before_it() -> None:
    words = asked(COMPLETIONS, GREEDY)[0].json()["choices"][0]["text"].split()
    [answer] = asked(COMPLETIONS, {**GREEDY, "stop": [words[1], "never"]})
    choice = answer.json()["choices"][0]
    assert choice["text"].split() == words[: words.index(words[1])]
    assert choice["finish_reason"] == "stop"


def test_a_chat_is_shown_to_each_model_by_its_own_template() -> None:
    template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{% if add_generation_prompt %}w6{% endif %}"
    turns = [{"role": "system", "content": "w1"}, {"role": "user", "content": [{"type": "text", "text": "w2 w3"}]}]
    shown: dict[str, list[int]] = {}

    async def go() -> None:
        pair = toy_pair()
        tokenizer = pair.reasoning_vocabulary.tokenizer
        settings = {"base_prompt": "w5 {question} w4", "reasoning_prompt": "chat"}
        async with opened(pair, settings=settings) as endpoint, client(endpoint) as http:
            tokenizer.chat_template = template
            try:
                answer = await http.post(CHATS, json={"model": "guided", "messages": turns, "temperature": 0})
            finally:
                tokenizer.chat_template = None
            message = answer.json()["choices"][0]["message"]
            assert message["role"] == "assistant"
            assert message["content"]
        for side, engine in (("base", pair.base), ("reasoning", pair.reasoning)):
            shown[side] = list(engine.requests[0].input_ids)  # type: ignore[attr-defined]

    asyncio.run(go())
    assert shown["base"] == [5, 1, 2, 3, 4]
    assert shown["reasoning"][:6] == [1, 1, 1, 2, 3, 6], "an unknown word, as roles are here, is w1"


def test_a_streamed_chat_begins_with_its_role() -> None:
    body = {"model": "guided", "messages": [{"role": "user", "content": "w1 w2"}], "temperature": 0, "max_tokens": 25}
    named = {"logprobs": True, "top_logprobs": 2}
    whole, streamed = asked(CHATS, {**body, **named}, {**body, **named, "stream": True})
    first, *chunks = events(streamed.text)
    choice = whole.json()["choices"][0]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == choice["message"]["content"]
    content = [token for chunk in chunks for token in chunk["choices"][0]["logprobs"]["content"]]
    assert content == choice["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in content] == [2] * len(content)


def test_an_answer_goes_back_as_the_turn_that_it_is() -> None:
    asking = {"model": "guided", "messages": [{"role": "user", "content": "w1 w2"}], "temperature": 0, "max_tokens": 5}
    answer = asked(CHATS, asking)[0].json()["choices"][0]["message"]
    assert answer["refusal"] is None
    empty = {"annotations": [], "audio": None, "function_call": None, "tool_calls": None}  # as the openai package has them
    more = [*asking["messages"], answer | empty, {"role": "user", "content": "w3"}]
    assert asked(CHATS, {**asking, "messages": more})[0].status_code == 200


def test_every_answer_has_the_id_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        async with opened() as endpoint, client(endpoint) as http:
            for body in (GREEDY, {**GREEDY, "stream": True}, {**GREEDY, "model": "none"}):
                own, made, again = [
                    (await http.post(COMPLETIONS, json=body, headers=headers)).headers["x-request-id"]
                    for headers in ({"X-Request-Id": "proxy-1:a_b.c"}, {}, {"X-Request-Id": "two\tlines" + "x" * 100})
                ]
                assert own == "proxy-1:a_b.c"
                assert made.startswith("req_")
                assert again.startswith("req_")
                assert made != again
            assert "x-request-id" in (await http.get("/v1/nothing")).headers
            endpoint.models.find = None  # type: ignore[assignment,method-assign]
            assert (await http.post(COMPLETIONS, json=GREEDY, headers={"X-Request-Id": "mine"})).status_code == 500

    asyncio.run(go())
    assert "request mine failed" in caplog.text


def test_a_seed_repeats_what_is_drawn_on_our_side() -> None:
    body = {**GREEDY, "model": "random@0.5", "prompt": "w1"}
    first, again, other, *unseeded = asked(
        COMPLETIONS, *({**body, "seed": seed} for seed in (1, 1, 2)), *[body] * 4, settings={"seed": 3}
    )
    assert first.json()["choices"] == again.json()["choices"]
    assert first.json()["choices"] != other.json()["choices"]
    assert len({answer.json()["choices"][0]["text"] for answer in unseeded}) == 1, "nothing is stored, so nothing is counted"


def test_a_request_steers_its_gate() -> None:
    never, always, off = asked(
        COMPLETIONS,
        {**GREEDY, "rrti": {"tau": 1e9}},
        {**GREEDY, "rrti": {"tau": -1.0, "lambda": False}},
        {**GREEDY, "rrti": {"tau": -1.0, "lambda": 1e9}},
    )
    assert never.json()["usage"]["takeovers"] == 0
    assert always.json()["usage"]["takeovers"] == always.json()["usage"]["completion_tokens"]
    assert 0 < off.json()["usage"]["takeovers"] <= 16, "the local mean is not there yet: warm-up goes by tau"


def test_models_are_the_programs_that_have_their_gate() -> None:
    async def go(**settings: Any) -> list[str]:
        async with opened(settings=settings) as endpoint, client(endpoint) as http:
            names = [model["id"] for model in (await http.get("/v1/models")).json()["data"]]
            for name in names:
                told = (await http.get(f"/v1/models/{name}")).json()
                assert (told["id"], told["max_model_len"]) == (name, endpoint.pair.base.info.max_input_tokens)
            return names

    without = ["base", "reasoning", "random", "diagnose"]
    assert asyncio.run(go(tau=None)) == without
    assert sorted(asyncio.run(go(mean_length=20.0))) == sorted([*without, "guided", "entropy", "early", "relay"])


def test_metrics_count_what_was_answered() -> None:
    async def go() -> tuple[list[Any], str]:
        async with opened() as endpoint, client(endpoint) as http:
            usages = [(await http.post(COMPLETIONS, json={**GREEDY, "n": n})).json()["usage"] for n in (1, 2)]
            await http.post(COMPLETIONS, json={**GREEDY, "stream": True, "model": "base"})
            await http.post(COMPLETIONS, json={**GREEDY, "model": "none"})
            return usages, (await http.get("/metrics")).text

    usages, told = asyncio.run(go())
    values = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    for name, field in (("rrti_tokens_total", "completion_tokens"), ("rrti_takeovers_total", "takeovers")):
        assert float(values[f'{name}{{program="guided"}}']) == sum(usage[field] for usage in usages) > 0
    assert float(values['rrti_rho_count{program="guided"}']) == 3
    assert float(values['rrti_prompt_tokens_total{program="guided"}']) == 2 * 3, "of each sample"
    rho = sum(usage["takeovers"] / usage["completion_tokens"] * n for usage, n in zip(usages, (1, 2), strict=True))
    assert float(values['rrti_rho_sum{program="guided"}']) == pytest.approx(rho)
    for name in ("first_token", "token", "sample"):
        assert float(values[f'rrti_{name}_seconds_count{{program="base"}}']) == 1
    assert float(values['rrti_requests_total{route="/v1/completions",status="200"}']) == 3
    assert float(values['rrti_requests_total{route="/v1/completions",status="404"}']) == 1
    assert [values[f"rrti_{name}"] for name in ("samples_running", "samples_waiting", "traces_waiting")] == ["0.0"] * 3
