"""What an async generator gives in a portal's event loop, for whoever reads it in another thread or another loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import Any, TypeVar

from rrti_sgl.programs.running.portal import Portal

Item = TypeVar("Item")


async def _pump(items: AsyncGenerator[Item, None], emit: Callable[[Item], object]) -> None:
    async with aclosing(items):
        async for item in items:
            emit(item)


def iterated(portal: Portal[Any], items: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
    """The items of an async generator that runs in the portal; leaving early cancels it."""
    waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    future = portal.submit(_pump, items, waiting.put)
    future.add_done_callback(lambda _: waiting.put(None))  # whatever ended it, and if it never began
    try:
        while (item := waiting.get()) is not None:
            yield item
        portal.wait(future)
    finally:
        future.cancel()


async def aiterated(portal: Portal[Any], items: AsyncGenerator[Item, None]) -> AsyncIterator[Item]:
    """The same for an event loop."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[Item | None]()

    def put(item: Item | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(waiting.put_nowait, item)

    future = portal.submit(_pump, items, put)
    future.add_done_callback(lambda _: put(None))
    try:
        while (item := await waiting.get()) is not None:
            yield item
        await asyncio.wrap_future(future)
    finally:
        future.cancel()
