"""One writer between the decoding loop and the store: samples queue up here and are written in batches, in a thread.

`put` takes a sample into a bounded buffer and waits while it is full. A batch is written when it has enough rows or when
its first sample has waited long enough. What has been put is durable after the next `flush` or `close`; until then at
most the buffer is lost with the process. After an error nothing more is written: the error is raised by every later
`put`, `flush` and `close`, and `unwritten` has the samples that are not known to be stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from rrti_sgl.records import SampleTrace

logger = logging.getLogger(__name__)


class TraceWriter:
    """Writes samples to a store without stalling the event loop; an async context manager that closes itself.

    Args:
        store: open for writing; it stays open.
        flush_rows: token rows that make a batch.
        flush_seconds: how long a sample may wait for its batch to fill.
        max_rows: token rows that are held at most, those being written included. A longer sample still gets in when
            the buffer is empty.
    """

    def __init__(self, store: Store, *, flush_rows: int = 8192, flush_seconds: float = 1.0, max_rows: int = 131072) -> None:
        self._store = store
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._max_rows = max_rows
        self._waiting: list[SampleTrace] = []
        self._in_flight: list[SampleTrace] = []
        self._changed = asyncio.Condition()
        self._flushes = 0
        self._put = 0
        self._settled = 0
        self._closing = False
        self._error: Exception | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trace-writer")
        self._task: asyncio.Task[None] | None = None
        self.rows_written = 0
        self.samples_written = 0

    @property
    def unwritten(self) -> list[SampleTrace]:
        """Samples that were put and are not known to be stored, oldest first."""
        return self._in_flight + self._waiting

    async def put(self, trace: SampleTrace) -> None:
        """Queue a finished sample; waits while the buffer is full.

        Raises:
            StoreError: an earlier write failed, or the writer is closed. The sample is not taken then.
        """
        async with self._changed:
            self._start()
            await self._changed.wait_for(lambda: self._error or self._closing or self._has_room(trace))
            self._raise_error()
            if self._closing:
                raise StoreError("The trace writer is closed; the sample was not stored.")
            self._waiting.append(trace)
            self._put += 1
            self._changed.notify_all()

    async def flush(self) -> None:
        """Write everything put so far; it is durable when this returns.

        Raises:
            StoreError: a write failed.
        """
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

    async def close(self) -> None:
        """Write what is left and end the thread; closing again changes nothing.

        Raises:
            StoreError: a write failed.
        """
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._task is not None:
            # Cancelling the caller must not lose the buffer: the task runs on to its end.
            await asyncio.shield(self._task)
        self._thread.shutdown(wait=False)
        self._raise_error()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An error of the body comes first; what the writer has to say then is in the log and in `unwritten`.
        with contextlib.suppress(StoreError) if error is not None else contextlib.nullcontext():
            await self.close()

    def _has_room(self, trace: SampleTrace) -> bool:
        held = _rows(self.unwritten)
        return held == 0 or held + trace.sample.n_tokens <= self._max_rows

    def _raise_error(self) -> None:
        if self._error is not None:
            message = f"{len(self.unwritten)} samples could not be stored: {self._error}"
            raise StoreError(message, "They are kept by the writer until the process ends.") from self._error

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="trace-writer")

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while await self._batch():
            try:
                written = await loop.run_in_executor(self._thread, self._store.write_samples, self._in_flight)
            except Exception as error:
                logger.error("writing %d samples failed: %s", len(self._in_flight), error)
                self._error = error
            async with self._changed:
                if self._error is None:
                    self.samples_written += written
                    self.rows_written += _rows(self._in_flight)
                    self._settled += len(self._in_flight)
                    self._in_flight = []
                self._changed.notify_all()
            if self._error is not None:
                return

    async def _batch(self) -> bool:
        """Wait for a batch that is due and take it; False when the writer is closing and nothing is left."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._closing)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._flush_seconds):
                    await self._changed.wait_for(self._is_due)
            self._in_flight, self._waiting = self._waiting, []
            return bool(self._in_flight)

    def _is_due(self) -> bool:
        return self._closing or self._flushes > 0 or _rows(self._waiting) >= self._flush_rows


def _rows(traces: list[SampleTrace]) -> int:
    return sum(trace.sample.n_tokens for trace in traces)
