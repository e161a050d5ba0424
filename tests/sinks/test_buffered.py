"""The buffer of a sink holds back a fast producer, writes batches when they are due, and needs no thread at exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from rrti_sgl.db.sinks.buffered import BufferedSink
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from tests.db.conftest import make_run, make_trace

PATIENT = {"flush_rows": 10**6, "flush_seconds": 3600.0, "max_rows": 10**6}


class Gated(BufferedSink):
    """A sink whose writes wait for a gate and may fail."""

    def __init__(self, **options):
        super().__init__(**(PATIENT | options))
        self.gate = threading.Event()
        self.written = asyncio.Event()
        self.batches: list[list[str]] = []
        self.error: Exception | None = None
        self._loop = asyncio.get_running_loop()

    def begin_run(self, run, resume):
        return frozenset()

    def write_problems(self, problems):
        raise AssertionError

    write_calibration = write_problems

    def write(self, traces):
        assert self.gate.wait()
        if self.error:
            raise self.error
        self.batches.append([trace.sample.problem_id for trace in traces])
        self._loop.call_soon_threadsafe(self.written.set)

    def end_run(self, run_id, status, error):
        return make_run(run_id, status=status, error=error)


async def opened(*, is_open=True, **options) -> Gated:
    sink = Gated(**options)
    await sink.begin(make_run())
    if is_open:
        sink.gate.set()
    return sink


@pytest.mark.parametrize(("options", "batch"), [({"flush_seconds": 0.01}, ["a"]), ({"flush_rows": 6}, ["a", "b"])])
def test_a_batch_is_due_by_time_or_by_rows(options, batch):
    async def scenario():
        sink = await opened(**options)
        for name in batch:
            await sink.put(make_trace(problem_id=name))
        await sink.written.wait()
        assert sink.batches == [batch]
        await sink.close()

    asyncio.run(scenario())


def test_a_full_buffer_holds_the_producer_back():
    async def scenario():
        sink = await opened(is_open=False, flush_rows=1, flush_seconds=0, max_rows=6)
        await sink.put(make_trace(problem_id="a"))
        await sink.put(make_trace(problem_id="b"))
        third = asyncio.create_task(sink.put(make_trace(problem_id="c")))
        await asyncio.sleep(0.05)
        held = not third.done()
        sink.gate.set()
        await third
        await sink.close()
        return held, [name for batch in sink.batches for name in batch]

    assert asyncio.run(scenario()) == (True, ["a", "b", "c"])


def test_a_sample_longer_than_the_buffer_gets_in():
    async def scenario():
        sink = await opened(max_rows=2)
        await asyncio.wait_for(sink.put(make_trace()), 5)
        await sink.close()
        return sink.batches

    assert asyncio.run(scenario()) == [["p1"]]


def test_an_error_reaches_a_producer_that_is_held_back_and_keeps_the_samples():
    async def scenario():
        sink = await opened(flush_rows=1, flush_seconds=0, max_rows=3)
        sink.error = OSError("No space left.")
        await sink.put(make_trace(problem_id="a"))
        # The buffer is full: this put waits for the write that fails, and must not wait for ever.
        with pytest.raises(StoreError, match="1 samples could not be stored: No space left"):
            await asyncio.wait_for(sink.put(make_trace(problem_id="b")), 5)
        with pytest.raises(StoreError, match="No space left"):
            await sink.close()
        return [trace.sample.problem_id for trace in sink.unwritten]

    assert asyncio.run(scenario()) == ["a"]


def test_a_run_ends_though_its_caller_is_cancelled():
    async def scenario():
        sink = await opened(is_open=False)
        ended = []
        sink.end_run = lambda *end: ended.append(end)
        await sink.put(make_trace())
        task = asyncio.create_task(sink.end("r1", "interrupted"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        sink.gate.set()
        while not ended:
            await asyncio.sleep(0.001)
        await sink.close()
        return sink.batches, ended

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == ([["p1"]], [("r1", "interrupted", None)])


def test_writing_leaves_the_event_loop_free(tmp_path):
    """While a large batch is written, other coroutines go on: the sink has a thread of its own."""

    async def scenario(store):
        ticks = 0
        async with DuckDBSink(store, flush_rows=10**6, flush_seconds=60) as sink:
            await sink.begin(make_run())
            for index in range(20):
                await sink.put(make_trace(index=index, ce=[0.5] * 4000))
            flush = asyncio.create_task(sink.flush())
            while not flush.done():
                await asyncio.sleep(0)
                ticks += 1
            await flush
            return ticks

    with Store.open(tmp_path / "traces.duckdb") as store:
        assert asyncio.run(scenario(store)) > 10
        assert store.sql("SELECT count(*) AS n FROM tokens").to_pylist() == [{"n": 80_000}]


AT_EXIT = """
import asyncio, atexit, sys
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from tests.db.conftest import make_run, make_trace

loop = asyncio.new_event_loop()
store = Store.open(sys.argv[1])
sink = DuckDBSink(store, flush_rows=10**6, flush_seconds=3600)

async def work():
    await sink.begin(make_run())
    await sink.put(make_trace())

async def leave():
    await sink.end("r1", "finished")
    await sink.close()

loop.run_until_complete(work())
atexit.register(lambda: (loop.run_until_complete(leave()), loop.close()))
"""


def test_at_the_end_of_the_interpreter_the_rest_is_written(tmp_path):
    """When no thread can be started any more, as the exit handlers of a script find it."""
    path = tmp_path / "traces.duckdb"
    done = subprocess.run([sys.executable, "-c", AT_EXIT, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with Store.open_readonly(path) as store:
        assert store.get_run("r1").status == "finished"
        assert len(store.finished_samples("r1")) == 1
