"""The trace writer holds back a fast producer, loses nothing and says when it cannot write."""

from __future__ import annotations

import asyncio
import threading

import pytest

from rrti_sgl.db.writer import TraceWriter
from rrti_sgl.errors import StoreError


class GatedStore:
    """Stands in for a store whose writes wait for a gate and may fail."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[str]] = []
        self.error: Exception | None = None

    def write_samples(self, traces):
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        self.batches.append([trace.sample.problem_id for trace in traces])
        return len(traces)


@pytest.fixture
def gated():
    store = GatedStore()
    yield store
    store.gate.set()


def test_closing_writes_the_rest(store, build):
    traces = [build["trace"](index=i) for i in range(5)]

    async def scenario():
        async with TraceWriter(store, flush_rows=10**6, flush_seconds=60) as writer:
            for trace in traces:
                await writer.put(trace)
        await writer.close()
        return writer

    writer = asyncio.run(scenario())
    assert store.finished_samples("r1") == {trace.sample.sample_id for trace in traces}
    assert (writer.samples_written, writer.rows_written, writer.unwritten) == (5, 15, [])


def test_flush_makes_durable_what_was_put(store, build):
    async def scenario():
        async with TraceWriter(store, flush_rows=10**6, flush_seconds=60) as writer:
            await writer.flush()
            await writer.put(build["trace"]())
            await writer.flush()
            return store.finished_samples("r1")

    assert len(asyncio.run(scenario())) == 1


def test_a_batch_is_due_by_time(gated, build):
    gated.gate.set()

    async def scenario():
        async with TraceWriter(gated, flush_rows=10**6, flush_seconds=0.01) as writer:
            await writer.put(build["trace"]())
            while not gated.batches:
                await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert gated.batches == [["p1"]]


def test_a_batch_is_due_by_rows(gated, build):
    gated.gate.set()

    async def scenario():
        async with TraceWriter(gated, flush_rows=6, flush_seconds=3600) as writer:
            for name in "ab":
                await writer.put(build["trace"](problem_id=name))
            while not gated.batches:
                await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert gated.batches == [["a", "b"]]


def test_a_full_buffer_holds_the_producer_back(gated, build):
    async def scenario():
        writer = TraceWriter(gated, flush_rows=1, flush_seconds=0, max_rows=6)
        await writer.put(build["trace"](problem_id="a"))
        await writer.put(build["trace"](problem_id="b"))
        third = asyncio.create_task(writer.put(build["trace"](problem_id="c")))
        await asyncio.sleep(0.05)
        held = not third.done()
        gated.gate.set()
        await third
        await writer.close()
        return held

    assert asyncio.run(scenario())
    assert [name for batch in gated.batches for name in batch] == ["a", "b", "c"]


def test_a_sample_longer_than_the_buffer_gets_in(gated, build):
    gated.gate.set()

    async def scenario():
        async with TraceWriter(gated, max_rows=2) as writer:
            await asyncio.wait_for(writer.put(build["trace"]()), 5)

    asyncio.run(scenario())
    assert gated.batches == [["p1"]]


def test_an_error_surfaces_and_keeps_the_samples(gated, build):
    gated.error = StoreError("No space left.")
    gated.gate.set()

    async def scenario():
        writer = TraceWriter(gated, flush_rows=1, flush_seconds=0, max_rows=3)
        await writer.put(build["trace"](problem_id="a"))
        # The buffer is full: this put waits for the write that fails, and must not wait for ever.
        with pytest.raises(StoreError, match="1 samples could not be stored: No space left"):
            await asyncio.wait_for(writer.put(build["trace"](problem_id="b")), 5)
        for call in (writer.flush, writer.close):
            with pytest.raises(StoreError, match="No space left"):
                await call()
        return [trace.sample.problem_id for trace in writer.unwritten]

    assert asyncio.run(scenario()) == ["a"]


def test_an_error_of_the_body_is_not_hidden(gated, build):
    gated.error = StoreError("No space left.")
    gated.gate.set()

    async def scenario():
        async with TraceWriter(gated) as writer:
            await writer.put(build["trace"]())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())


def test_a_cancelled_producer_keeps_what_it_put(store, build):
    async def scenario():
        async with TraceWriter(store, flush_rows=10**6, flush_seconds=60) as writer:
            await writer.put(build["trace"]())
            await asyncio.sleep(60)

    async def interrupted():
        task = asyncio.create_task(scenario())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert len(store.finished_samples("r1")) == 1


def test_a_closed_writer_takes_nothing(gated, build):
    async def scenario():
        writer = TraceWriter(gated)
        await writer.close()
        with pytest.raises(StoreError, match="closed"):
            await writer.put(build["trace"]())

    asyncio.run(scenario())
