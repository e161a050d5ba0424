"""SIGINT and SIGTERM end a command in order: what is under way is cancelled, what is finished is stored, servers stop."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal arrived. Raised in the main thread, so that every context manager on the way out runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def install() -> None:
    """Turn both signals into `Stopped` wherever the main thread is."""
    for number in SIGNALS:
        signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine; a signal cancels it, and is raised as `Stopped` when it has cleaned up.

    Inside an event loop an exception from a signal handler would end up in whichever task happens to run; so there the
    signals cancel the main task instead.
    """
    import asyncio

    arrived: list[int] = []

    async def main() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int) -> None:
            arrived.append(number)
            task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, cancel, number)
        try:
            return await work
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            install()

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not arrived:
            raise
    raise Stopped(arrived[0])
