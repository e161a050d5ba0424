"""The client before servers of either version and before a router; stand-ins answer as the real ones were seen to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from rrti_sgl.engines.batching import Batcher
from rrti_sgl.engines.sglang import RoutedEngine, connect_engine
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import EndpointError, UsageError

KEY = "secret"
QUICK = TransportLimits(timeout_s=10.0, retries=0)


@dataclass
class StandIn:
    """One HTTP server that plays SGLang 0.5.17 or 0.5.23, or a router before others."""

    version: str = "0.5.17"
    model: str = "bundled/base"
    max_input: int = 100
    workers: list[StandIn] | None = None
    reachable: bool = True
    url: str = ""
    calls: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    cancelled: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        text = await request.text()
        body = json.loads(text) if text else {}
        self.calls.append((request.path, body, request.headers.get("X-SMG-Routing-Key")))
        return await (
            self._as_router(request.path, body) if self.workers is not None else self._as_server(request.path, body)
        )

    async def _as_server(self, path: str, body: dict[str, Any]) -> web.Response:
        named = {"served_model_name": self.model}
        if path == "/model_info":
            return web.json_response({"model_path": "/m"} | (named if self.version >= "0.5.23" else {}))
        if path == "/server_info":
            numbers = {"max_req_input_len": self.max_input, "max_running_requests": 8, "max_total_num_tokens": 1000}
            return web.json_response({"version": self.version, **named, **numbers})
        if path == "/generate":
            return web.json_response([self._generation(rid) for rid in body["rid"]])
        return web.Response(status=404)

    async def _as_router(self, path: str, body: dict[str, Any]) -> web.Response:
        if path == "/get_server_info":
            return web.json_response({"router_manager": True, "routers_count": 1, "workers_count": 2})
        if path == "/workers":
            return web.json_response({"workers": [{"url": worker.url} for worker in self.workers or []], "total": 2})
        if path == "/flush_cache":
            return web.json_response({"status": "success", "workers_flushed": 2})
        if path == "/generate":
            if isinstance(body["rid"], list) or isinstance(body["sampling_params"], list):
                return web.Response(status=422, text="rid: invalid type: sequence, expected a string")
            if body["input_ids"] == [666]:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            return web.json_response(self._generation(body["rid"]) | {"output_ids": [body["input_ids"][0]]})
        return web.Response(status=404)

    def _generation(self, rid: str) -> dict[str, Any]:
        finish = {"type": "length"}
        return {"output_ids": [1], "meta_info": {"id": rid, "finish_reason": finish, "prompt_tokens": 1}}


@contextlib.asynccontextmanager
async def serving(*stand_ins: StandIn) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for stand_in in stand_ins:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", stand_in.answer)
            runner = web.AppRunner(app, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            stand_in.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield


def request(token: int, **changes: Any) -> GenerateRequest:
    return GenerateRequest((token,), max_new_tokens=1, k=0, **changes)


async def refused(url: str, key: str | None) -> None:
    async with connect_engine(url, api_key=key, limits=QUICK):
        pass


@pytest.mark.parametrize("version", ["0.5.17", "0.5.23"])
def test_either_version_says_its_model(version: str) -> None:
    async def go() -> None:
        server = StandIn(version)
        async with serving(server), connect_engine(server.url, api_key=KEY, limits=QUICK) as engine:
            info = engine.info
            assert (info.model, info.version, info.max_input_tokens) == ("bundled/base", version, 99)
            assert not isinstance(engine, RoutedEngine)
            await engine.generate([request(1), request(2)])
            assert len([call for call in server.calls if call[0] == "/generate"]) == 1

    asyncio.run(go())


def test_an_old_version_is_refused_by_name() -> None:
    async def go() -> None:
        server = StandIn("0.5.9")
        async with serving(server):
            with pytest.raises(EndpointError, match=r"SGLang 0\.5\.9 is not supported"):
                await refused(server.url, KEY)

    asyncio.run(go())


def test_a_missing_key_is_told_as_such() -> None:
    async def go() -> None:
        server = StandIn()
        async with serving(server):
            with pytest.raises(EndpointError, match="refuses access") as caught:
                await refused(server.url, None)
            assert "RRTI_API_KEY" in caught.value.remedy

    asyncio.run(go())


def test_a_router_speaks_for_its_servers() -> None:
    async def go() -> None:
        workers = [StandIn(max_input=100), StandIn(max_input=90)]
        router = StandIn(workers=workers)
        async with serving(*workers, router), connect_engine(router.url, api_key=KEY, limits=QUICK) as engine:
            info = engine.info
            assert (info.name, info.model, info.version) == (router.url, "bundled/base", "0.5.17")
            assert (info.max_input_tokens, info.max_running_requests, info.details["replicas"]) == (89, 16, 2)
            assert isinstance(engine, RoutedEngine)
            await engine.flush()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ([], "has no servers"),
        ([StandIn(model="a"), StandIn(model="b")], "are not alike"),
        ([StandIn("0.5.17"), StandIn("0.5.23")], "are not alike"),
        ([StandIn("0.5.16")], r"0\.5\.16 is not supported"),
    ],
)
def test_servers_that_do_not_belong_behind_one_router(workers: list[StandIn], message: str) -> None:
    async def go() -> None:
        router = StandIn(workers=workers)
        async with serving(*workers, router):
            with pytest.raises(EndpointError, match=message):
                await refused(router.url, KEY)

    asyncio.run(go())


def test_behind_a_router_each_sequence_goes_alone_under_its_samples_key() -> None:
    async def go() -> None:
        workers = [StandIn()]
        router = StandIn(workers=workers)
        async with serving(*workers, router), connect_engine(router.url, api_key=KEY, limits=QUICK) as engine:
            async with Batcher(engine, max_batch=8) as batcher:

                async def decode(sample: int) -> list[int]:
                    key = f"sample-{sample}"
                    asked = [request(10 * sample + at, sequence_key=key) for at in range(3)]
                    return [int((await batcher.generate(one)).output_ids[0]) for one in asked]

                answers = await asyncio.gather(*(asyncio.create_task(decode(sample)) for sample in range(4)))
            assert answers == [[10 * sample + at for at in range(3)] for sample in range(4)]
        calls = [(body["input_ids"][0] // 10, key) for path, body, key in router.calls if path == "/generate"]
        assert sorted(calls) == sorted((sample, f"sample-{sample}") for sample in range(4) for _ in range(3))

    asyncio.run(go())


def test_behind_a_router_exact_numbers_are_refused_and_cancelling_ends_the_work() -> None:
    async def go() -> None:
        workers = [StandIn()]
        router = StandIn(workers=workers)
        async with serving(*workers, router), connect_engine(router.url, api_key=KEY, limits=QUICK) as engine:
            with pytest.raises(UsageError, match="is a router"):
                await engine.generate([request(1, exact=True)])
            call = asyncio.create_task(engine.generate([request(666), request(1)]))
            while not any(body.get("input_ids") == [666] for _, body, _ in router.calls):
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while not router.cancelled:
                await asyncio.sleep(0.05)
            assert router.cancelled == 1

    asyncio.run(go())
