"""Async work for callers without an event loop: one async context stays open in a thread of its own and works for others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from anyio.from_thread import start_blocking_portal

from rrti_sgl.errors import UsageError

Opened = TypeVar("Opened")
Result = TypeVar("Result")


class Portal(Generic[Opened]):
    """Enters an async context manager in a new thread and leaves it in `close`.

    Args:
        context: what to keep open; `opened` is what it gives. What it raises on entering is raised here.
        name: of the thread, and in messages.
    """

    def __init__(self, context: AbstractAsyncContextManager[Opened], name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._closing = False
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._running = 0
        with contextlib.ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal(name=name))
            self.opened = stack.enter_context(self._portal.wrap_async_context_manager(context))
            self._stack = stack.pop_all()

    def submit(self, work: Callable[..., Awaitable[Result]], *args: Any) -> concurrent.futures.Future[Result]:
        """Start a coroutine function there. Cancelling the future cancels it.

        Raises:
            UsageError: closed already.
        """
        with self._lock:
            if self._closing:
                raise UsageError(f"The {self.name} is closed.", "Open a new one.")
            self._running += 1
            future = self._portal.start_task_soon(self._counted, work, *args)
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    def call(self, work: Callable[..., Awaitable[Result]], *args: Any) -> Result:
        """Run a coroutine function there and wait for its result.

        Raises:
            UsageError: closed, already or meanwhile.
        """
        return self.wait(self.submit(work, *args))

    def wait(self, future: concurrent.futures.Future[Result]) -> Result:
        """The result of what was submitted; an interrupted wait cancels it.

        Raises:
            UsageError: closed meanwhile.
        """
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise UsageError(
                f"The {self.name} was closed while a call was under way.", "Close it after the last result is read."
            ) from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way, leave the context and end the thread. Raises what leaving raised; once."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        with self._stack:
            for future in list(self._calls):
                future.cancel()
            self._portal.call(self._until_idle)

    async def _counted(self, work: Callable[..., Awaitable[Result]], *args: Any) -> Result:
        try:
            return await work(*args)
        finally:
            self._running -= 1

    async def _until_idle(self) -> None:
        """What was cancelled has let go of everything."""
        while self._running:
            await asyncio.sleep(0.01)
