"""What the endpoint refuses, by name and with OpenAI's error body: fields, values, models, lengths, keys, hosts, bodies."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.engines.wire import Generation
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.app import create_app
from rrti_sgl.programs.api.fields import ChatRequest, CompletionRequest, read
from rrti_sgl.programs.api.refusals import RefusedError
from rrti_sgl.programs.web.serving import Place
from tests.api.toy import Leaver, asked, client, held_pair, opened
from tests.toy_pair import ToyEngine, toy_pair

COMPLETIONS, CHATS = "/v1/completions", "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "guided", "prompt": "w1 w2"}
TURN = {"role": "user", "content": "w1"}
UNSUPPORTED: dict[str, Any] = {
    "tools": [{"type": "function"}], "tool_choice": "required", "response_format": {"type": "json_object"},
    "logit_bias": {"5": 1}, "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1, "top_k": 5,
    "min_p": 0.1, "best_of": 2, "echo": True, "suffix": "x", "regex": "a*", "min_tokens": 3, "functions": [{}],
    "stop_token_ids": [5], "ignore_eos": True, "use_beam_search": True, "skip_special_tokens": False,
}  # fmt: skip
HARMLESS: dict[str, Any] = {
    "tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "presence_penalty": 0, "top_k": -1, "best_of": 1,
    "echo": False, "suffix": None, "user": "me", "stop": None, "max_tokens": None, "repetition_penalty": 1.0,
    "skip_special_tokens": True, "include_stop_str_in_output": False, "use_beam_search": False, "length_penalty": 1.0,
    "stream_options": {"include_usage": True, "continuous_usage_stats": False, "include_obfuscation": False},
}  # fmt: skip
BAD: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "0"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": True}, "n"),
    ({"n": 10**6}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"seed": 2**70}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": 4}, "logprobs"),
    ({"logprobs": 3, "n": 16, "max_tokens": 9000}, "logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"x": 1}}, "stream_options.x"),
    ({"stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [7]}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": "w1 " * 10_000}, "prompt"),
    ({"max_tokens": 10_000}, "prompt"),
    ({"unknown": 1}, "unknown"),
    ({"rrti": {"tau": "1"}}, "rrti.tau"),
    ({"rrti": {"lambda": -1}}, "rrti.lambda"),
    ({"rrti": {"lambda": "on"}}, "rrti.lambda"),
    ({"rrti": {"gate": "x"}}, "rrti.gate"),
    ({"rrti": {"trace": True}}, "rrti.trace"),
    ({"rrti": []}, "rrti"),
    ({"model": "base", "rrti": {"tau": 1}}, "rrti.tau"),
    ({"model": "gpt"}, "model"),
    ({"model": "guided@"}, "model"),
    ({"model": "guided@2"}, "model"),
    ({"model": "guided@nan"}, "model"),
    ({"model": "base@0.1"}, "model"),
    ({"model": "oracle"}, "model"),
    ({"model": None}, "model"),
]


def refused(answer: httpx.Response, param: str | None, status: int = 400) -> dict[str, Any]:
    """The error of a refusal, whose form and field are checked."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert "Traceback" not in answer.text
    assert len(answer.text) < 1000
    return error


def test_what_does_not_go_with_intervention_is_refused_by_name() -> None:
    answers = asked(COMPLETIONS, *({**BODY, name: value} for name, value in UNSUPPORTED.items()))
    for name, answer in zip(UNSUPPORTED, answers, strict=True):
        error = refused(answer, name)
        assert error["code"] == "unsupported_parameter"
        assert name in error["message"]


def test_what_asks_for_nothing_is_taken() -> None:
    assert all(answer.status_code == 200 for answer in asked(COMPLETIONS, *({**BODY, n: v} for n, v in HARMLESS.items())))


def test_a_value_that_does_not_fit_is_refused_by_name() -> None:
    answers = asked(COMPLETIONS, *({**BODY, "temperature": 0, **bad} for bad, _ in BAD))
    for (bad, param), answer in zip(BAD, answers, strict=True):
        status = 404 if param == "model" and bad["model"] else 400
        assert param in refused(answer, param, status)["message"] or param in ("model", "prompt")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "assistant", "content": "w1"}], "messages"),
        ([{"role": "tool", "content": "w1"}, TURN], "messages.0.role"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages.0.content"),
        ([{"role": "user", "content": 5}], "messages.0.content"),
        ([{"role": "user"}], "messages.0.content"),
        ([TURN] * 2000, "messages"),
        ("w1", "messages"),
    ],
)
def test_messages_that_cannot_be_are_refused(messages: Any, param: str) -> None:
    refused(asked(CHATS, {"model": "guided", "messages": messages, "temperature": 0})[0], param)


def test_a_length_is_refused_by_the_name_that_the_client_gave_it() -> None:
    chat: dict[str, Any] = {"model": "guided", "messages": [TURN], "temperature": 0}
    [completion] = asked(COMPLETIONS, {**BODY, "max_tokens": 10_000})
    chats = asked(CHATS, *(chat | {name: 10_000} for name in ("max_tokens", "max_completion_tokens")))
    for answer, param, field in (
        (completion, "prompt", "max_tokens"),
        (chats[0], "messages", "max_tokens"),
        (chats[1], "messages", "max_completion_tokens"),
    ):
        error = refused(answer, param)
        assert error["code"] == "context_length_exceeded"
        assert f"with {field} 10000 that is more than" in error["message"]
        assert f"Use {field} " in error["message"]
        assert "max_new_tokens" not in error["message"]


def test_a_chat_without_a_template_is_refused() -> None:
    [answer] = asked(CHATS, {"model": "guided", "messages": [TURN]}, settings={"reasoning_prompt": "chat"})
    assert "no chat template" in refused(answer, None)["message"]


def test_a_gate_without_a_threshold_is_refused_and_a_request_may_give_one() -> None:
    without, given_one, negative = asked(
        COMPLETIONS,
        BODY | {"temperature": 0},
        BODY | {"temperature": 0, "rrti": {"tau": 0.5}},
        BODY | {"temperature": 0, "rrti": {"tau": 0.5, "lambda": True}},
        settings={"tau": None},
    )
    assert "rrti.tau" in refused(without, None)["message"]
    assert given_one.status_code == 200
    assert "rrti.lambda" in refused(negative, None)["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"", 400),
        (b'{"model": "\\ud800", "prompt": "w1"}', 400),
        (b'{"model": "guided", "prompt": "w1", "rrti": {"tau": 1e999}}', 400),
        (b'{"model": "guided", "prompt": "w1", "rrti": {"tau": NaN}}', 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 400),
        (b'{"prompt": "' + b"w1 " * 2**19 + b'"}', 413),
    ],
    ids=range(9),
)
def test_a_body_that_is_none_is_refused(content: bytes, status: int) -> None:
    async def go() -> httpx.Response:
        async with opened() as endpoint, client(endpoint) as http:
            return await http.post(COMPLETIONS, content=content, headers={"Content-Type": "application/json"})

    refused(asyncio.run(go()), None, status)


def test_a_body_without_a_length_is_bounded_as_it_comes() -> None:
    async def parts() -> Any:
        for _ in range(100):
            yield b" " * 1000

    async def go() -> httpx.Response:
        async with opened(limits=Limits(body_bytes=5000)) as endpoint, client(endpoint) as http:
            return await http.post(COMPLETIONS, content=parts(), headers={"Content-Type": "application/json"})

    refused(asyncio.run(go()), None, 413)


def test_a_body_that_does_not_come_is_given_up() -> None:
    async def never() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async def go() -> httpx.Response:
        async with opened(limits=Limits(body_s=0.01)) as endpoint, client(endpoint) as http:
            return await http.post(COMPLETIONS, content=never(), headers={"Content-Type": "application/json"})

    refused(asyncio.run(go()), None, 408)


def test_keys_hosts_and_kinds_of_content() -> None:
    key = "0123456789abcdef"

    async def go() -> None:
        async with opened() as endpoint:
            async with client(endpoint, key=key) as http:
                for path in ("/v1/models", "/metrics", "/v1/models/base"):
                    refused(await http.get(path), None, 401)
                    assert (await http.get(path, headers={"Authorization": f"Bearer {key}"})).status_code == 200
                for wrong in (f"Bearer {key}x", key, "Bearer ", "Bearer \xe9"):
                    header = {"Authorization": wrong.encode("latin-1")}
                    answer = await http.post(COMPLETIONS, json=BODY, headers=header)  # type: ignore[arg-type]
                    refused(answer, None, 401)
                    assert answer.headers["www-authenticate"] == "Bearer"
                assert (await http.get("/health")).status_code == 200
            async with client(endpoint, "http://evil.example") as http:
                refused(await http.get("/v1/models"), None, 403)
            async with client(endpoint, "http://evil.example", key=key, local=False) as http:
                assert (await http.get("/v1/models", headers={"Authorization": f"Bearer {key}"})).status_code == 200
            async with client(endpoint) as http:
                refused(await http.post(COMPLETIONS, content=b"{}", headers={"Content-Type": "text/plain"}), None, 415)
                for method, path, may in (
                    ("GET", COMPLETIONS, "POST"),
                    ("OPTIONS", CHATS, "POST"),
                    ("POST", "/metrics", "GET"),
                ):
                    answer = await http.request(method, path)
                    assert refused(answer, None, 405)["code"] == "method_not_allowed"
                    assert answer.headers["allow"] == may
                health = await http.head("/health")
                assert (health.status_code, health.content) == (200, b"")
                refused(await http.get("/v1/nothing"), None, 404)
                refused(await http.get("/docs"), None, 404)

    asyncio.run(go())


@pytest.mark.parametrize("host", [b"[::1", b"", b"127.0.0.1.evil.example", b"127.0.0.1@evil.example", b"evil\xff", b"0:0:0"])
def test_a_host_that_is_none_of_this_machine_is_refused(host: bytes) -> None:
    async def go() -> int:
        async with opened() as endpoint:
            asking = Leaver(COMPLETIONS, BODY, host=host)
            await asking.call(create_app(endpoint))
            return asking.status

    assert asyncio.run(go()) == 403


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost:8000", b"[::1]:8000", b"LOCALHOST"])
def test_this_machine_has_several_names(host: bytes) -> None:
    async def go() -> int:
        async with opened() as endpoint:
            asking = Leaver(COMPLETIONS, {**BODY, "temperature": 0}, host=host)
            await asking.call(create_app(endpoint))
            return asking.status

    assert asyncio.run(go()) == 200


def test_others_than_this_machine_need_a_key() -> None:
    assert Place().local
    with pytest.raises(UsageError, match="endpoint_key"):
        Place("0.0.0.0")
    assert "0123456789abcdef" not in repr(Place("0.0.0.0", endpoint_key="0123456789abcdef"))


def test_a_full_endpoint_says_when_to_come_again() -> None:
    async def go() -> None:
        pair, engine = held_pair()
        async with opened(pair, in_flight=1, limits=Limits(waiting=1)) as endpoint, client(endpoint) as http:
            body = {**BODY, "model": "base", "temperature": 0}
            first = asyncio.create_task(http.post(COMPLETIONS, json=body))
            await engine.asked.wait()
            second = asyncio.create_task(http.post(COMPLETIONS, json=body))
            while endpoint.admission.admitted < 2:
                await asyncio.sleep(0)
            assert (endpoint.admission.running, endpoint.admission.waiting) == (1, 1)
            for streamed in (False, True):
                answer = await http.post(COMPLETIONS, json={**body, "stream": streamed})
                refused(answer, None, 429)
                assert int(answer.headers["retry-after"]) >= 1
            engine.may.set()
            assert [(await each).status_code for each in (first, second)] == [200, 200]
            assert (await http.post(COMPLETIONS, json=body)).status_code == 200
            refused(await http.post(COMPLETIONS, json={**body, "n": 3}), "n")

    asyncio.run(go())


def test_bodies_that_wait_for_their_end_have_a_limit() -> None:
    async def never() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async def go() -> None:
        async with opened(in_flight=1, limits=Limits(waiting=2)) as endpoint, client(endpoint) as http:
            headers = {"Content-Type": "application/json"}
            reading = [asyncio.create_task(http.post(COMPLETIONS, content=never(), headers=headers)) for _ in range(3)]
            while endpoint.admission._read < 3:
                await asyncio.sleep(0)
            refused(await http.post(COMPLETIONS, json=BODY), None, 429)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            assert (await http.post(COMPLETIONS, json={**BODY, "temperature": 0})).status_code == 200

    asyncio.run(go())


class Broken(ToyEngine):
    """A server that fails after some calls."""

    def __init__(self, after: int, error: Exception) -> None:
        super().__init__(1)
        self.after, self.error = after, error

    async def generate(self, requests: Any) -> list[Generation]:
        self.after -= len(requests)
        if self.after < 0:
            raise self.error
        return await super().generate(requests)


@pytest.mark.parametrize(
    ("error", "status"), [(EndpointError("http://10.0.0.1:5 died, see /srv/log"), 502), (RuntimeError("secret"), 500)]
)
def test_a_failure_tells_clients_nothing_of_the_machine(error: Exception, status: int) -> None:
    async def go() -> None:
        for after in (0, 1):
            pair = toy_pair()
            broken = Broken(after, error)
            async with opened(type(pair)(broken, pair.reasoning, pair.vocabulary, pair.vocabulary)) as endpoint:
                async with client(endpoint) as http:
                    body = {**BODY, "model": "base", "temperature": 0, "max_tokens": 40, "prompt": "w3 w2"}
                    answer = await http.post(COMPLETIONS, json={**body, "stream": True})
                    if after:
                        assert answer.status_code == 200
                        assert "[DONE]" not in answer.text
                        assert '"error"' in answer.text.split("\n\n")[-2]
                    else:
                        refused(answer, None, status)
                    refused(await http.post(COMPLETIONS, json=body), None, status)
                    for secret in ("10.0.0.1", "srv", "secret"):
                        assert secret not in answer.text
                assert endpoint.admission.admitted == 0

    asyncio.run(go())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted({*CompletionRequest.model_fields, *ChatRequest.model_fields, *UNSUPPORTED, "x"})


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5), st.booleans())
def test_any_json_is_read_or_refused(values: dict[str, Any], whole: bool) -> None:
    body = {**BODY, "messages": [TURN], **values} if whole else values
    for kind, other in ((CompletionRequest, "messages"), (ChatRequest, "prompt")):
        content = json.dumps({name: value for name, value in body.items() if name != other}).encode()
        with contextlib.suppress(RefusedError):
            assert read(content, kind).model
