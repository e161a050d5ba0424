"""SIGINT, SIGTERM and SIGHUP end a command in order: what is finished is stored, servers stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")
HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, HANGUP) if number is not None)


class Stopped(BaseException):
    """A signal arrived. Raised in the main thread, so that every context manager on the way out runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def heard() -> list[signal.Signals]:
    """Those that end a command; under `nohup` the end of the terminal is none of them."""
    return [each for each in SIGNALS if each != HANGUP or signal.getsignal(each) is not signal.SIG_IGN]


def install() -> None:
    """Turn them into `Stopped` wherever the main thread is."""
    for number in heard():
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

        ending = heard() if sys.platform != "win32" else []  # no event loop hears them there: they come as `Stopped`
        for number in ending:
            loop.add_signal_handler(number, cancel, number)
        try:
            return await work
        finally:
            for number in ending:
                loop.remove_signal_handler(number)
            install()

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not arrived:
            raise
    raise Stopped(arrived[0])
