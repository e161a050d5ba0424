"""The end of an endpoint on a socket: what runs has its time, what does not finish is given up, on the servers too."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.serving import Place, serve
from rrti_sgl.sinks.memory import MemorySink
from tests.api.toy import held_pair, opened

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
