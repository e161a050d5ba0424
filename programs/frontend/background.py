"""An event loop in a thread of its own, in which one async context stays open and works for other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from rrti_sgl.errors import UsageError

Opened = TypeVar("Opened")
Result = TypeVar("Result")


class Background(Generic[Opened]):
    """Enters an async context manager in a new thread and leaves it in `close`.

    Args:
        context: what to keep open; `opened` is what it gives. What it raises on entering is raised here.
        name: name of the thread.
    """

    def __init__(self, context: AbstractAsyncContextManager[Opened], name: str) -> None:
        self._context = context
        self._entered: concurrent.futures.Future[Opened] = concurrent.futures.Future()
        self._left: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._lock = threading.Lock()
        self._closing = False
        self._running = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        try:
            self.opened = self._entered.result()
        except BaseException:
            self._thread.join()
            raise

    def submit(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Start a coroutine there. Cancelling the future cancels it.

        Raises:
            UsageError: closed already.
        """
        with self._lock:
            if self._closing:
                work.close()
                raise UsageError("The backend is closed.", "Make a new InterventionBackend.")
            future = asyncio.run_coroutine_threadsafe(self._counted(work), self._loop)
            self._calls.add(future)
        future.add_done_callback(self._calls.discard)
        return future

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there and wait for its result.

        Raises:
            UsageError: closed, already or meanwhile.
        """
        return self.wait(self.submit(work))

    @staticmethod
    def wait(future: concurrent.futures.Future[Result]) -> Result:
        """The result of a submitted coroutine; an interrupted wait cancels it."""
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise UsageError(
                "The backend was closed while a program was running.", "Close it after the last result is read."
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
        self._loop.call_soon_threadsafe(self._stop.set)
        try:
            self._left.result()
        finally:
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(BaseException):  # both futures have it
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._context as opened:
                self._entered.set_result(opened)
                await self._stop.wait()
                await self._cancel_calls()
        except BaseException as error:
            (self._left if self._entered.done() else self._entered).set_exception(error)
            raise
        self._left.set_result(None)

    async def _cancel_calls(self) -> None:
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        while self._running:
            await asyncio.sleep(0.01)

    async def _counted(self, work: Coroutine[Any, Any, Result]) -> Result:
        self._running += 1
        try:
            return await work
        finally:
            self._running -= 1
