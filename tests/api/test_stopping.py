"""The end of an endpoint on a socket: what runs has its time, what does not finish is given up, on the servers too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.serving import serve
from rrti_sgl.programs.web.serving import Place
from rrti_sgl.sinks.memory import MemorySink
from tests.api.toy import held_pair, opened
from tests.toy_pair import ToyEngine, toy_pair

BODY: dict[str, Any] = {"model": "base", "prompt": "w1 w2", "temperature": 0, "max_tokens": 20}


@pytest.mark.parametrize("finishes", [True, False])
def test_running_requests_have_their_time(finishes: bool) -> None:
    async def go() -> None:
        pair, engine = held_pair()
        sink, place = MemorySink(), Place(port=0)
        async with opened(pair, sink=sink, limits=Limits(grace_s=1.0 if not finishes else 60.0)) as endpoint:
            with place.listen() as listening:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                serving = asyncio.create_task(serve(endpoint, place, listening))
                async with httpx.AsyncClient(base_url=url) as http:
                    assert (await http.get("/health")).json()["status"] == "ok"
                    running = asyncio.create_task(http.post("/v1/completions", json=BODY))
                    await engine.asked.wait()
                    serving.cancel()
                    while not endpoint.admission.stopping:
                        await asyncio.sleep(0)
                    late = await asyncio.gather(http.post("/v1/completions", json=BODY), return_exceptions=True)
                    assert isinstance(late[0], httpx.TransportError) or late[0].status_code == 503  # type: ignore[union-attr]
                    if finishes:
                        engine.may.set()
                        told = (await running).json()["rrti"]["trace_id"]
                    else:
                        answer = await running
                        assert answer.status_code == 503
                        assert answer.json()["error"]["code"] == "stopping"
                    with pytest.raises(asyncio.CancelledError):
                        await serving
                    assert engine.cancelled == (not finishes)
            assert endpoint.admission.admitted == 0
        kept = [sample for run in sink.traces.values() for sample in run]
        assert kept == ([told] if finishes else [])

    asyncio.run(go())


class FirstPieceEngine(ToyEngine):
    """Answers its first call, fails or waits at the second."""

    fails = False

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        if not self.requests:
            return await super().generate(requests)
        if self.fails:
            raise EndpointError("The server at http://secret:1 died.")
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("end", ["stops", "server dies", "client leaves"])
def test_a_stream_that_is_cut_ends_in_order(end: str, caplog: pytest.LogCaptureFixture) -> None:
    """After its first piece, over a socket: an error event, without the mark of a whole answer; no traceback in the log."""

    async def go() -> list[str]:
        engine = FirstPieceEngine(2)  # seed 2: no end token in the first draft
        engine.fails = end == "server dies"
        place = Place(port=0)
        async with opened(replace(toy_pair(), base=engine), limits=Limits(grace_s=1.0)) as endpoint:
            with place.listen() as listening:
                url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                serving = asyncio.create_task(serve(endpoint, place, listening))
                async with httpx.AsyncClient(base_url=url) as http:
                    body = {**BODY, "max_tokens": 100, "stream": True}
                    async with http.stream("POST", "/v1/completions", json=body) as answer:
                        lines = answer.aiter_lines()
                        seen = [await anext(lines)]
                        if end == "stops":
                            serving.cancel()
                        if end != "client leaves":
                            seen += [line async for line in lines]
                    while endpoint.admission.admitted:
                        await asyncio.sleep(0)
                    if end != "stops":
                        serving.cancel()
                    await asyncio.gather(serving, return_exceptions=True)
            assert endpoint.admission.admitted == 0
        return [line for line in seen if line]

    first, *rest = asyncio.run(go())
    assert orjson.loads(first.removeprefix("data: "))["choices"][0]["finish_reason"] is None
    assert not [record for record in caplog.records if record.exc_info]
    if end == "client leaves":
        return
    [last] = rest
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == {"stops": "stopping", "server dies": "model_server_failed"}[end]
    assert "secret" not in error["message"]
