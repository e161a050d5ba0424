"""Servers that are none: whatever is answered is an error that names the server, and memory and key stay here."""

from __future__ import annotations

import asyncio
import base64
import copy
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.decoding.fused import FusedDecoding
from rrti_sgl.decoding.job import DecodeOptions
from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.fused_server import FusedServer
from rrti_sgl.engines.identity import identify
from rrti_sgl.engines.sglang import SGLangEngine
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import Generation, Sampling, parse
from rrti_sgl.errors import EndpointError, RRTIError
from rrti_sgl.fused.protocol import KEY, encode, record_type
from rrti_sgl.science.gates import DivergenceGate, ThresholdRule
from tests.cli.fuzz.damaged import DEEP, LITERALS, mutated
from tests.decoding.test_conformance import make_job
from tests.wire.test_wire import REQUEST, VOCAB_SIZE, answer, flat, nested

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
ONCE = TransportLimits(retries=0)
SERVER = {"version": "0.5.23", "max_total_num_tokens": 1000, "max_running_requests": 8, "device": "cpu", "tp_size": 1}
MODEL = {"model_path": "/models/x", "tokenizer_path": "/models/x", "served_model_name": "x"}
INFO = EngineInfo("http://x", "x", "x", "0.5.23", VOCAB_SIZE, 1000, 8)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """The address of a server that answers everything so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def told(answer: Answer) -> str:
    """What a call says of a server that answers so."""

    async def go() -> str:
        async with serving(answer) as url:
            client = Transport(url, limits=ONCE)
            try:
                with pytest.raises(EndpointError) as raised:
                    await client.post("/generate", {})
                return raised.value.message.replace(url, "URL")
            finally:
                await client.close()

    return asyncio.run(go())


ASKED = {"pieces": 20}


async def silent(request: web.Request) -> web.StreamResponse:
    """A piece, and then nothing."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b'data: {"piece": 0}\n\n')
    await asyncio.Event().wait()
    return response


async def steady(request: web.Request) -> web.StreamResponse:
    """As many pieces as are asked for, a while apart."""
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in range((await request.json())["pieces"]):
        await asyncio.sleep(0.1)
        await response.write(b'data: {"piece": %d}\n\n' % piece)
    return response


def test_a_stream_is_given_up_in_silence_and_a_call_by_what_it_asks_for() -> None:
    limits = TransportLimits(timeout_s=1.5, retries=0)

    async def pieces(client: Transport) -> int:
        return len([piece async for piece in client.events("/generate", ASKED)])

    async def go() -> None:
        async with serving(steady) as url, serving(silent) as other:
            client, waiting = Transport(url, limits=limits), Transport(other, limits=limits)
            try:
                n, answer = await asyncio.gather(pieces(client), client.post("/generate", ASKED, new_tokens=10**4))
                assert n == ASKED["pieces"]  # in all longer than the limit
                assert answer
                ends = await asyncio.gather(client.post("/generate", ASKED), pieces(waiting), return_exceptions=True)
                assert [type(end) for end in ends] == [EndpointError, EndpointError], ends
                assert all("timeout" in str(end).lower() for end in ends)
            finally:
                await client.close()
                await waiting.close()

    asyncio.run(go())


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:  # until the client has gone
        await response.write(b"[1," * 2**18)


async def packed(request: web.Request) -> web.StreamResponse:
    """A gigabyte of blanks, and a list."""
    body = gzip.compress(b" " * 2**20, 9) * 1024 + gzip.compress(b"[]")
    return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})


def body(content: bytes) -> Answer:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=content)

    return reply


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (endless, "URL/generate answers with more than 16777216 bytes"),
        (packed, "failed after 1 try:"),
        (body(b"[" * DEEP), "JSONDecodeError"),
        (body(b'{"a":' * DEEP), "JSONDecodeError"),
        (body(b"[" + b"9" * 6000 + b"]"), "JSONDecodeError"),
        (body(b"\xff\xfe"), "UnicodeDecodeError"),
        (body(b"{"), "JSONDecodeError"),
    ],
)
def test_answers_that_grow_or_cannot_be_read_end_the_call(reply: Answer, match: str) -> None:
    assert match in told(reply)


def test_an_answer_has_the_size_of_what_was_asked() -> None:
    huge = json.dumps([{"output_ids": [1] * 10**6, "meta_info": {}}]).encode()

    async def go() -> None:
        async with serving(body(huge)) as url:
            engine = SGLangEngine(Transport(url, limits=ONCE), INFO)
            with pytest.raises(EndpointError, match="more than 1054976 bytes"):
                await engine.generate([REQUEST])
            await engine.close()

    asyncio.run(go())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_call_follows_to_another_address(status: int) -> None:
    asked: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response({})

    async def go() -> None:
        async with serving(elsewhere) as other:

            async def sends_on(request: web.Request) -> web.StreamResponse:
                return web.Response(status=status, headers={"Location": f"{other}/taken"})

            async with serving(sends_on) as url:
                client = Transport(url, api_key="secret", limits=ONCE)
                with pytest.raises(EndpointError, match=f"HTTP {status}"):
                    await client.get("/server_info")
                with pytest.raises(EndpointError, match=f"HTTP {status}"):
                    await client.post("/generate", {})
                await client.abort(["x"])
                await client.close()

    asyncio.run(go())
    assert asked == []


def identified(server: Any, model: Any, workers: Any = None) -> EngineInfo:
    """What is made of a server that tells this of itself; `URL` in it is its own address."""

    async def reply(request: web.Request) -> web.StreamResponse:
        found = {"/server_info": server, "/model_info": model, "/workers": workers}.get(request.path, {})
        own = f"http://{request.host}"
        return web.Response(text=json.dumps(found).replace("URL", own), content_type="application/json")

    async def go() -> EngineInfo:
        async with serving(reply) as url:
            client = Transport(url, limits=ONCE)
            try:
                return (await identify(client))[0]
            finally:
                await client.close()

    return asyncio.run(go())


def test_a_sound_server_is_known() -> None:
    assert identified(SERVER, MODEL).model == "x"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_a_server_tells_of_itself_may_be_anything(data: st.DataObject) -> None:
    server, model = (mutated(data.draw, copy.deepcopy(each)) for each in (SERVER, MODEL))
    try:
        found = identified(server, model)
    except RRTIError:
        return
    assert isinstance(found.model, str)
    assert isinstance(found.max_running_requests, int)


@pytest.mark.parametrize(
    "workers",
    [
        *({"workers": value} for value in LITERALS),
        {"workers": [{"url": value} for value in LITERALS]},
        {"workers": [{"url": "URL"}]},  # a router behind itself
        {"workers": [{"url": "URL"}] * 100_000},
        [],
    ],
)
def test_a_router_may_tell_anything_of_its_servers(workers: Any) -> None:
    with pytest.raises(RRTIError):
        identified({"router_manager": True}, {}, workers)


SOUND = [
    answer(**flat("output", slice(0, 1)), **flat("input", slice(1, 3))),
    answer(**nested("output", slice(0, 1)), **nested("input", slice(1, 3), null_prefix=True)),
]


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(SOUND), st.data())
def test_what_a_server_answers_may_be_anything(sound: dict[str, Any], data: st.DataObject) -> None:
    changed = mutated(data.draw, copy.deepcopy(sound))
    try:
        found = parse(REQUEST, changed, VOCAB_SIZE)
    except EndpointError:
        return
    assert isinstance(found, Generation)
    assert found.output.ids.shape == (1, REQUEST.k)
    assert found.input.logprobs.shape == (2, REQUEST.k)
    assert set(found.output_ids.tolist()) <= set(range(VOCAB_SIZE))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, 1.0])
def test_log_probabilities_that_are_none_are_refused(bad: float) -> None:
    meta = flat("output", slice(0, 1)) | flat("input", slice(1, 3))
    meta["output_top_logprobs_val_flat_b64"] = base64.b64encode(np.asarray([[-0.1, bad]], np.float32).tobytes()).decode()
    with pytest.raises(EndpointError, match="are NaN, or above 0"):
        parse(REQUEST, answer(**meta), VOCAB_SIZE)


def test_a_server_that_draws_nothing_is_no_reason_to_ask_for_ever() -> None:
    meta = flat("output", slice(0, 0)) | flat("input", slice(1, 3))
    with pytest.raises(EndpointError, match="0 for 0 generated tokens"):
        parse(REQUEST, {**answer(**meta), "output_ids": []}, VOCAB_SIZE)


def guided_answer() -> dict[str, Any]:
    """Two tokens of a server that holds both models, the second a takeover."""
    records = np.zeros(2, record_type(3))
    records["fired"], records["kept"], records["drafted"], records["score"] = [0, 1], 1, [2, 0], [0.25, 3.0]
    records["base_ids"] = records["reasoning_ids"] = [[0, 1, 2], [3, 4, 5]]
    records["base_token"], records["reasoning_token"] = [0, 3], [-1, 4]
    meta = {"finish_reason": {"type": "stop"}, "prompt_tokens": 4, "cached_tokens": 0, KEY: encode(records)}
    return {"output_ids": [0, 4], "meta_info": meta}


def decoded(reply: Any) -> int:
    """Tokens of a sample of a server that answers so."""

    class Same:
        async def post(self, *given: Any, **more: Any) -> Any:
            return reply

        async def abort(self, rids: Any) -> None:
            pass

    async def go() -> int:
        server: Any = FusedServer(Same(), INFO, "base", 8)  # type: ignore[arg-type]
        gate, options = DivergenceGate("ce", ThresholdRule(1.0)), DecodeOptions(3, 20, Sampling(), frozenset({7}))
        decoding = FusedDecoding([server], VOCAB_SIZE)
        [trace] = [found async for found in decoding.decode(make_job(0), gate, options, streamed=False)]
        return len(trace.token_ids)

    return asyncio.run(go())


def test_a_sound_answer_of_both_models_is_read() -> None:
    assert decoded(guided_answer()) == 2


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_what_a_server_with_both_models_answers_may_be_anything(data: st.DataObject) -> None:
    try:
        assert decoded(mutated(data.draw, guided_answer())) > 0
    except EndpointError:
        return


@pytest.mark.parametrize(
    ("field", "value"),
    [("base_token", 99), ("base_token", -1), ("reasoning_token", 2**31 - 1), ("base_ids", -1), ("score", np.nan)],
)
def test_records_that_cannot_be_are_refused(field: str, value: float) -> None:
    reply = guided_answer()
    records = np.frombuffer(b"".join(map(base64.b64decode, reply["meta_info"][KEY])), record_type(3)).copy()
    records[field] = value
    reply["meta_info"][KEY] = encode(records)
    with pytest.raises(EndpointError, match="cannot be read of its tokens"):
        decoded(reply)


def streamed(reply: Answer) -> str:
    """What is said of a server that holds both models and streams a sample of two tokens so."""

    async def go() -> str:
        async with serving(reply) as url:
            server = FusedServer(Transport(url, limits=ONCE), INFO, "base", 8, incremental=True)
            gate, options = DivergenceGate("ce", ThresholdRule(1.0)), DecodeOptions(3, 2, Sampling(), frozenset({7}))
            with pytest.raises(EndpointError) as raised:
                async for _ in FusedDecoding([server], VOCAB_SIZE).decode(make_job(0), gate, options, streamed=True):
                    pass
            await server.close()
            return raised.value.message

    return asyncio.run(go())


def test_a_stream_that_does_not_end_is_left() -> None:
    piece = guided_answer()
    piece["meta_info"]["finish_reason"] = None

    async def more(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"data: " + json.dumps(piece).encode() + b"\n\n")

    assert "more than the 2 tokens" in streamed(more)
    assert "answers with more than" in streamed(endless)
