"""Turns the single requests of many concurrent samples into few and full calls; that, not HTTP, decides the speed."""

from __future__ import annotations

import asyncio

from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError


class Batcher:
    """Collects what is asked for at the same time into batched calls to one engine.

    While calls are under way, new requests wait; when one returns, all that wait go out together, at most `max_batch` in
    a call and at most `max_calls` calls at a time. With `max_batch` at half the number of samples in flight, the samples
    fall into two groups, of which one is drafted while the other is scored.

    A call that nobody waits for any more is cancelled, which ends its work on the server.
    """

    def __init__(self, engine: Engine, *, max_batch: int, max_calls: int = 1) -> None:
        self.engine = engine
        self.max_batch = max_batch
        self._free_calls = asyncio.Semaphore(max_calls)
        self._waiting: list[tuple[GenerateRequest, asyncio.Future[Generation]]] = []
        self._ready = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *raised: object) -> None:
        tasks = [*self._calls, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, future in self._waiting:
            future.cancel()

    async def generate(self, request: GenerateRequest) -> Generation:
        """Submit one request and wait for its answer."""
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._ready.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._ready.wait()
            await self._free_calls.acquire()
            await asyncio.sleep(0)  # let every sample that became ready in this turn of the loop submit first
            batch = [item for item in self._waiting[: self.max_batch] if not item[1].done()]
            del self._waiting[: self.max_batch]
            if not self._waiting:
                self._ready.clear()
            if not batch:
                self._free_calls.release()
                continue
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._ended)
            self._let_go(call, [future for _, future in batch])

    @staticmethod
    def _let_go(call: asyncio.Task[None], waiting: list[asyncio.Future[Generation]]) -> None:
        """Cancel a call when the last of those that wait for it has gone."""

        def gone(future: asyncio.Future[Generation]) -> None:
            if future.cancelled() and all(other.cancelled() for other in waiting):
                call.cancel()

        for future in waiting:
            future.add_done_callback(gone)

    async def _call(self, batch: list[tuple[GenerateRequest, asyncio.Future[Generation]]]) -> None:
        try:
            answers = await self.engine.generate([request for request, _ in batch])
            if len(answers) != len(batch):
                raise EndpointError(f"{self.engine.info.name} gave {len(answers)} answers to {len(batch)} requests.")
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # handed to every sample that waits for this call
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _ended(self, call: asyncio.Task[None]) -> None:
        """Make room for the next call, also where this one was cancelled before its first step."""
        self._calls.discard(call)
        self._free_calls.release()
