"""What sinks with files share: samples queue up in a bounded buffer and are written in batches, in a thread.

A batch is written when it has enough rows or when its first sample has waited long enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rrti_sgl.errors import StoreError
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.sinks.refusals import check_trace, closed, not_begun
from rrti_sgl.sinks.sink import Sink

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class BufferedSink(Sink):
    """The queue and the thread of a sink; a subclass says how runs and batches are written.

    Args:
        flush_rows: token rows that make a batch.
        flush_seconds: how long a sample may wait for its batch to fill.
        max_rows: token rows that are held at most, those being written included. A longer sample still gets in when
            the buffer is empty.
    """

    def __init__(self, *, flush_rows: int, flush_seconds: float, max_rows: int) -> None:
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._max_rows = max_rows
        self._waiting: list[SampleTrace] = []
        self._in_flight: list[SampleTrace] = []
        self._rows_waiting = 0
        self._rows_in_flight = 0
        self._changed = asyncio.Condition()
        self._flushes = 0
        self._put = 0
        self._settled = 0
        self._closing = False
        self._error: Exception | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sink")
        self._task: asyncio.Task[None] | None = None
        self._runs: set[str] = set()

    @abstractmethod
    def begin_run(self, run: RunRecord, resume: bool) -> frozenset[str]:
        """`Sink.begin`. Like the methods below it is called in the sink's thread, one call at a time."""

    @abstractmethod
    def write_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """`Sink.add_problems`."""

    @abstractmethod
    def write_calibration(self, calibration: CalibrationRecord) -> None:
        """`Sink.add_calibration`."""

    @abstractmethod
    def write(self, traces: Sequence[SampleTrace]) -> None:
        """Make a batch durable, leaving out samples that are there."""

    @abstractmethod
    def end_run(self, run_id: str, status: RunStatus, error: str | None) -> RunRecord:
        """`Sink.end`, with every batch written."""

    def sync(self) -> None:
        """Make durable what else was added; called by every flush."""

    @property
    def unwritten(self) -> list[SampleTrace]:
        """Samples that were put and are not known to be durable, oldest first."""
        return self._in_flight + self._waiting

    async def begin(self, run: RunRecord, *, resume: bool = False) -> frozenset[str]:
        """See `Sink.begin`."""
        self._check_usable()
        found = await self._in_thread(self.begin_run, run, resume)
        self._runs.add(run.run_id)
        return found

    async def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """See `Sink.add_problems`."""
        self._check_usable()
        await self._in_thread(self.write_problems, problems)

    async def add_calibration(self, calibration: CalibrationRecord) -> None:
        """See `Sink.add_calibration`."""
        self._check_usable()
        await self._in_thread(self.write_calibration, calibration)

    async def put(self, trace: SampleTrace) -> None:
        """See `Sink.put`; waits while the buffer is full."""
        async with self._changed:
            self._check_usable()
            self._check_begun(trace.sample.run_id)
            check_trace(trace)
            self._start()
            await self._changed.wait_for(lambda: self._error or self._closing or self._has_room(trace))
            self._check_usable()
            self._waiting.append(trace)
            self._rows_waiting += trace.sample.n_tokens
            self._put += 1
            self._changed.notify_all()

    async def flush(self) -> None:
        """See `Sink.flush`."""
        async with self._changed:
            if self._task is not None:
                target = self._put
                self._flushes += 1
                self._changed.notify_all()
                try:
                    await self._changed.wait_for(lambda: self._error or self._settled >= target)
                finally:
                    self._flushes -= 1
            self._raise_error()
        if not self._closing:
            await self._in_thread(self.sync)

    async def end(self, run_id: str, status: RunStatus, error: str | None = None) -> RunRecord:
        """See `Sink.end`."""
        if self._closing:
            raise closed()
        self._check_begun(run_id)
        # Cancelling the caller must not leave the run without its end: the task runs on.
        return await asyncio.shield(asyncio.create_task(self._end(run_id, status, error)))

    async def _end(self, run_id: str, status: RunStatus, error: str | None) -> RunRecord:
        try:
            await self.flush()
        except StoreError:
            if status == "finished":
                raise
        run = await self._in_thread(self.end_run, run_id, status, error)
        self._runs.discard(run_id)
        return run

    async def close(self) -> None:
        """See `Sink.close`."""
        async with self._changed:
            self._closing, first = True, not self._closing
            self._changed.notify_all()
        if self._task is not None:
            await asyncio.shield(self._task)  # cancelling the caller must not lose the buffer either
        try:
            self._raise_error()
            if first:
                await self._in_thread(self.sync)
        finally:
            self._thread.shutdown(wait=False)

    async def _in_thread(self, function: Callable[..., Result], *args: Any) -> Result:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
        except RuntimeError:  # at the end of the interpreter no thread can be started any more
            return function(*args)
        return await future

    def _has_room(self, trace: SampleTrace) -> bool:
        held = self._rows_in_flight + self._rows_waiting
        return held == 0 or held + trace.sample.n_tokens <= self._max_rows

    def _check_begun(self, run_id: str) -> None:
        if run_id not in self._runs:
            raise not_begun(run_id)

    def _check_usable(self) -> None:
        self._raise_error()
        if self._closing:
            raise closed()

    def _raise_error(self) -> None:
        if self._error is not None:
            message = f"{len(self.unwritten)} samples could not be stored: {self._error}"
            raise StoreError(message, "They are kept in memory until the process ends.") from self._error

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="sink")

    async def _run(self) -> None:
        while await self._batch():
            try:
                await self._in_thread(self.write, self._in_flight)
            except Exception as error:
                logger.error("writing %d samples failed: %s", len(self._in_flight), error)
                self._error = error
            async with self._changed:
                if self._error is None:
                    self._settled += len(self._in_flight)
                    self._in_flight, self._rows_in_flight = [], 0
                self._changed.notify_all()
            if self._error is not None:
                return

    async def _batch(self) -> bool:
        """Wait for a batch that is due and take it; False when the sink is closing and nothing is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._closing)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_seconds):
                    await self._changed.wait_for(self._is_due)
            self._in_flight, self._waiting = self._waiting, []
            self._rows_in_flight, self._rows_waiting = self._rows_waiting, 0
            return bool(self._in_flight)

    def _is_due(self) -> bool:
        return self._closing or self._flushes > 0 or self._rows_waiting >= self._flush_rows
