"""An endpoint over the toy pair, in the process: clients by httpx, or by ASGI's own messages where a client has to leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import orjson

from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.programs.api.app import create_app
from rrti_sgl.programs.api.samples import Endpoint
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.programs.running.settings import settings_from
from tests.toy_pair import ToyEngine, toy_pair

URL = "http://127.0.0.1"
SETTINGS: dict[str, Any] = {"tau": 3.0, "k": 3, "base_prompt": "{question}", "reasoning_prompt": "{question}"}


class HeldEngine(ToyEngine):
    """Answers when it may; knows which calls were cancelled."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.may = asyncio.Event()
        self.asked = asyncio.Event()
        self.cancelled = 0

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        self.asked.set()
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().generate(requests)


def held_pair() -> tuple[Pair, HeldEngine]:
    engine = HeldEngine(1)
    return replace(toy_pair(), base=engine), engine


@contextlib.asynccontextmanager
async def opened(
    pair: Pair | None = None, in_flight: int = 8, settings: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Endpoint]:
    async with (
        PairSession(pair or toy_pair(), Concurrency(in_flight)) as session,
        Endpoint(session, settings_from("base", **SETTINGS | (settings or {})), **options) as endpoint,
    ):
        yield endpoint


def client(endpoint: Endpoint, url: str = URL, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(endpoint, **options)), base_url=url)


def asked(path: str, *bodies: Any, **options: Any) -> list[httpx.Response]:
    """What an endpoint of its own answers to bodies, one after the other."""

    async def go() -> list[httpx.Response]:
        async with opened(**options) as endpoint, client(endpoint) as http:
            return [await http.post(path, json=body) for body in bodies]

    return asyncio.run(go())


def events(text: str) -> list[Any]:
    """The chunks of a stream; its end is checked."""
    *chunks, end, rest = text.split("\n\n")
    assert (end, rest) == ("data: [DONE]", "")
    return [orjson.loads(chunk.removeprefix("data: ")) for chunk in chunks]


class Leaver:
    """A client of ASGI's own messages that leaves when it is told to, and takes what is sent when it may.

    Args:
        path, body: of its request.
        reads: whether it takes what is sent.
    """

    def __init__(self, path: str, body: Any, *, reads: bool = True, host: bytes = b"127.0.0.1") -> None:
        self.leave = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        self.first = asyncio.Event()
        self._body, self._told, self._reads = orjson.dumps(body), False, reads
        headers = [(b"content-type", b"application/json"), (b"host", host)]
        self._scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers,
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip

    async def call(self, app: Any) -> None:
        await app(self._scope, self._receive, self._send)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    async def _receive(self) -> dict[str, Any]:
        if not self._told:
            self._told = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.first.set()
            if not self._reads:
                await asyncio.Event().wait()
