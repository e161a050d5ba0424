"""Events of a sample from the event loop that decodes it to whoever reads them, in another thread or another loop."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import TypeVar

from rrti_sgl.programs.running.portal import Portal
from rrti_sgl.programs.running.session import PairSession

Item = TypeVar("Item")


async def _pump(items: AsyncGenerator[Item, None], emit: Callable[[Item | None], object]) -> None:
    """Hand on every item and at the end None, whatever ended it."""
    try:
        async with aclosing(items):
            async for item in items:
                emit(item)
    finally:
        emit(None)


def iterated(portal: Portal[PairSession], items: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
    """The items of an async generator that runs in the portal; leaving early cancels it."""
    waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    future = portal.submit(_pump, items, waiting.put)
    try:
        while (item := waiting.get()) is not None:
            yield item
        portal.wait(future)
    finally:
        future.cancel()


async def aiterated(portal: Portal[PairSession], items: AsyncGenerator[Item, None]) -> AsyncIterator[Item]:
    """The same for an event loop."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[Item | None]()
    future = portal.submit(_pump, items, lambda item: loop.call_soon_threadsafe(waiting.put_nowait, item))
    try:
        while (item := await waiting.get()) is not None:
            yield item
        await asyncio.wrap_future(future)
    finally:
        future.cancel()
