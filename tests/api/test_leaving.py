"""Clients that leave or stand still: their work ends, on the servers too, and nothing of them is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rrti_sgl.engines.batching import Batcher
from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.app import create_app
from tests.api.toy import HeldEngine, Leaver, client, held_pair, opened

BODY: dict[str, Any] = {"model": "base", "prompt": "w1 w2", "temperature": 0, "max_tokens": 100}


def tasks() -> int:
    return len(asyncio.all_tasks())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_takes_its_work_along(streamed: bool, n: int) -> None:
    async def go() -> None:
        pair, engine = held_pair()
        async with opened(pair) as endpoint:
            app, before = create_app(endpoint), tasks()
            leaver = Leaver("/v1/completions", {**BODY, "stream": streamed, "n": n})
            call = asyncio.create_task(leaver.call(app))
            await engine.asked.wait()
            assert endpoint.admission.admitted == n
            leaver.leave.set()
            await call
            await settle(engine)
            # A stream's drafts go out together, whole solutions one by one.
            assert engine.cancelled == (1 if streamed else n)
            assert endpoint.admission.admitted == 0
            assert tasks() == before
            assert b"rrti_clients_left_total 1.0" in endpoint.metrics.exposition()
            engine.may.set()
            async with client(endpoint) as http:
                assert (await http.post("/v1/completions", json=BODY)).status_code == 200

    asyncio.run(go())


async def settle(engine: HeldEngine) -> None:
    """What was cancelled has heard of it."""
    while not engine.cancelled:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


def test_who_leaves_while_waiting_is_never_asked_for() -> None:
    async def go() -> None:
        pair, engine = held_pair()
        async with opened(pair, in_flight=1) as endpoint:
            app = create_app(endpoint)
            first, second = Leaver("/v1/completions", BODY), Leaver("/v1/completions", {**BODY, "prompt": "w5"})
            calls = [asyncio.create_task(first.call(app))]
            await engine.asked.wait()
            calls.append(asyncio.create_task(second.call(app)))
            while not endpoint.admission.waiting:
                await asyncio.sleep(0)
            second.leave.set()
            await calls[1]
            assert (endpoint.admission.running, endpoint.admission.waiting) == (1, 0)
            engine.may.set()
            await calls[0]
            assert first.status == 200
            assert {tuple(request.input_ids) for request in engine.requests} == {(1, 2)}

    asyncio.run(go())


def test_a_reader_that_stands_still_is_given_up() -> None:
    async def go() -> None:
        async with opened(limits=Limits(idle_s=0.02)) as endpoint:
            app, before = create_app(endpoint), tasks()
            slow = Leaver("/v1/completions", {**BODY, "stream": True}, reads=False)
            await slow.call(app)
            assert slow.status == 200
            assert len(slow.sent) == 2, "its head and one piece"
            assert endpoint.admission.admitted == 0
            assert tasks() == before

    asyncio.run(go())


def test_a_call_goes_on_for_as_long_as_one_waits_for_it() -> None:
    async def go() -> None:
        _, engine = held_pair()
        request = GenerateRequest((1, 2), 3, 2)
        async with Batcher(engine, max_batch=8) as batcher:
            one, other = (asyncio.create_task(batcher.generate(request)) for _ in range(2))
            await engine.asked.wait()
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)
            engine.may.set()
            assert len((await other).output_ids) == 3
            assert len(engine.requests) == 2, "they went out together"
            engine.may.clear()
            engine.asked.clear()
            both = [asyncio.create_task(batcher.generate(request)) for _ in range(2)]
            await engine.asked.wait()
            for task in both:
                task.cancel()
            await settle(engine)
            assert engine.cancelled == 1
            engine.may.set()
            assert len((await batcher.generate(request)).output_ids) == 3, "there is room for the next call"

    asyncio.run(go())
