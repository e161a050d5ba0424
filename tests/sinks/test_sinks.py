"""Every sink keeps what it promises: whole samples, once, durable when it says so, and errors that are not lost."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from rrti_sgl.errors import CalibrationMismatchError, StoreError, UsageError
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace
from tests.sinks.keepers import InFile, InMemory, InParts, assert_same

IN_FILES = ("file", "parts")


@pytest.fixture
def made(tmp_path, empty_store):
    """Makes the keeper of a name."""
    path = tmp_path / "traces.duckdb"
    path.write_bytes(empty_store.read_bytes())
    keepers = {"memory": InMemory(), "file": InFile(path), "parts": InParts(tmp_path / "parts")}
    yield keepers.__getitem__
    for keeper in keepers.values():
        keeper.let_go()


@pytest.fixture(params=("memory", *IN_FILES))
def kept(request, made):
    return made(request.param)


@pytest.fixture(params=IN_FILES)
def durable(request, made):
    """Those that outlive their sink, and can fail."""
    return made(request.param)


def samples(*indices: int, **changes):
    return [make_trace(index=index, ce=(0.0, 1.0, 2.0)[: 1 + index % 3], **changes) for index in indices]


def ids(traces):
    return {trace.sample.sample_id for trace in traces}


def test_a_run_is_kept_as_it_was_put(kept):
    put = [*samples(0, 1, 2), make_trace(problem_id="p2", ce=[])]
    put[1] = dataclasses.replace(put[1], tokens=dataclasses.replace(put[1].tokens, token_text=["x\x00ü", "日本"]))

    async def scenario():
        async with kept.open() as sink:
            await sink.add_problems([make_problem("p1"), make_problem("p2", answer=None)])
            await sink.add_calibration(make_calibration())
            assert await sink.begin(make_run(calibration_id="cal1")) == frozenset()
            for trace in put:
                await sink.put(trace)
            await sink.flush()
            return await sink.end("r1", "finished")

    ended = asyncio.run(scenario())
    found = kept.read()
    assert (ended.status, ended.error) == ("finished", None)
    assert ended.finished_at is not None
    assert found.runs == {"r1": ended}
    assert ended == make_run(calibration_id="cal1", status="finished", finished_at=ended.finished_at)
    assert found.problems == [make_problem("p1"), make_problem("p2", answer=None)]
    assert found.calibrations == [make_calibration()]
    assert found.samples.keys() == ids(put)
    for trace in put:
        assert_same(found.samples[trace.sample.sample_id], trace)


def test_of_a_sample_that_is_put_twice_the_first_is_kept(kept):
    first, other = make_trace(text="first"), make_trace(text="other")

    async def scenario():
        async with kept.open() as sink:
            await sink.begin(make_run())
            await sink.put(first)
            await sink.put(other)
            await sink.flush()
            await sink.put(other)

    asyncio.run(scenario())
    assert [trace.sample.text for trace in kept.read().samples.values()] == ["first"]


def test_problems_and_calibrations_that_are_there_stay(kept):
    async def scenario():
        async with kept.open() as sink:
            await sink.begin(make_run(calibration_id="cal1"))
            for change in ("first", "other"):
                await sink.add_problems([make_problem(question=change)])
                await sink.add_calibration(make_calibration(base_model=change))

    asyncio.run(scenario())
    found = kept.read()
    assert [problem.question for problem in found.problems] == ["first"]
    assert [calibration.base_model for calibration in found.calibrations] == ["first"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda: make_trace(tokens={"token_text": ["t"]}), "has 3 tokens, its column token_text 1"),
        (lambda: make_trace(n_tokens=7), "has 7 tokens, its column token_id 3"),
        (lambda: make_trace(tokens={"base_topk_ids": make_trace().tokens.base_topk_ids[:, :1]}), "base_topk_ids of shape"),
        (lambda: make_trace("another"), "another is not begun"),
    ],
)
def test_a_sample_that_is_refused_changes_nothing(kept, bad, said):
    good = samples(1, 2)

    async def scenario():
        async with kept.open() as sink:
            await sink.begin(make_run())
            await sink.put(good[0])
            with pytest.raises(StoreError, match=said):
                await sink.put(bad())
            await sink.put(good[1])

    asyncio.run(scenario())
    assert kept.read().samples.keys() == ids(good)


def test_a_run_begins_once_and_takes_nothing_after_its_end(kept):
    async def scenario():
        async with kept.open() as sink:
            with pytest.raises(StoreError, match="not begun"):
                await sink.end("r1", "finished")
            await sink.begin(make_run())
            with pytest.raises(StoreError, match="already"):
                await sink.begin(make_run())
            await sink.end("r1", "failed", "out of luck")
            for call in (sink.put(make_trace()), sink.end("r1", "finished")):
                with pytest.raises(StoreError, match="r1 is not begun in this sink, or has ended"):
                    await call
            await sink.begin(make_run("r2"))
            await sink.put(make_trace("r2"))

    asyncio.run(scenario())
    found = kept.read()
    assert {name: (run.status, run.error) for name, run in found.runs.items()} == {
        "r1": ("failed", "out of luck"),
        "r2": ("running", None),
    }
    assert [trace.sample.run_id for trace in found.samples.values()] == ["r2"]


def test_a_run_that_ended_early_is_taken_up_again(kept):
    before, after = samples(0, 1), samples(2)

    async def scenario():
        async with kept.open() as sink:
            with pytest.raises(UsageError, match="no run 'r1'"):
                await sink.begin(make_run(), resume=True)
            await sink.begin(make_run())
            for trace in before:
                await sink.put(trace)
            await sink.end("r1", "interrupted", "Ctrl-C")
            with pytest.raises(CalibrationMismatchError, match=r"k was 2 and is 3"):
                await sink.begin(make_run(k=3), resume=True)
            assert await sink.begin(make_run(), resume=True) == ids(before)
            await sink.put(after[0])
            return await sink.end("r1", "finished")

    ended = asyncio.run(scenario())
    found = kept.read()
    assert (ended.status, ended.error) == ("finished", None)
    assert found.runs == {"r1": ended}
    assert found.samples.keys() == ids([*before, *after])


def test_another_sink_takes_a_run_up(durable):
    before = samples(0, 1)

    async def first():
        async with durable.open() as sink:
            await sink.begin(make_run())
            for trace in before:
                await sink.put(trace)

    async def second():
        async with durable.open() as sink:
            with pytest.raises(StoreError, match="already"):
                await sink.begin(make_run())
            found = await sink.begin(make_run(), resume=True)
            await sink.put(before[0])
            await sink.put(make_trace(problem_id="p2"))
            await sink.end("r1", "finished")
            return found

    asyncio.run(first())
    assert durable.read().runs["r1"].status == "running"
    assert asyncio.run(second()) == ids(before)
    found = durable.read()
    assert found.samples.keys() == ids([*before, make_trace(problem_id="p2")])
    assert found.runs["r1"].status == "finished"


def test_a_closed_sink_takes_nothing(kept):
    async def scenario():
        sink = kept.open()
        await sink.begin(make_run())
        await sink.put(make_trace())
        await sink.close()
        await sink.close()
        for call in (sink.put(make_trace(index=1)), sink.begin(make_run("r2")), sink.end("r1", "finished")):
            with pytest.raises(StoreError, match="closed"):
                await call

    asyncio.run(scenario())
    found = kept.read()
    assert found.samples.keys() == ids([make_trace()])
    assert found.runs.keys() == {"r1"}


def test_an_error_is_raised_from_then_on_and_the_end_is_noted(durable, monkeypatch):

    async def scenario():
        sink = durable.open(flush_rows=1)
        await sink.begin(make_run())
        await sink.put(make_trace(index=0))
        await sink.flush()
        with monkeypatch.context() as patch:
            durable.fail(patch)
            await sink.put(make_trace(index=1))
            with pytest.raises(StoreError, match="No space left"):
                await sink.flush()
        for call in (sink.put(make_trace(index=2)), sink.flush(), sink.end("r1", "finished"), sink.begin(make_run("r2"))):
            with pytest.raises(StoreError, match=r"1 samples could not be stored.*No space left"):
                await call
        ended = await sink.end("r1", "failed", "No space left.")
        for _ in range(2):
            with pytest.raises(StoreError, match="No space left"):
                await sink.close()
        return ended

    ended = asyncio.run(scenario())
    found = durable.read()
    assert ended.status == "failed"
    assert found.runs == {"r1": ended}
    assert found.samples.keys() == ids([make_trace(index=0)])


def test_an_error_of_the_body_is_not_hidden(durable, monkeypatch):

    async def scenario():
        async with durable.open() as sink:
            await sink.begin(make_run())
            await sink.put(make_trace())
            durable.fail(monkeypatch)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(scenario())


def test_a_cancelled_producer_keeps_what_it_put(kept):
    async def scenario(sink, ready):
        async with sink:
            await sink.begin(make_run())
            await sink.put(make_trace())
            ready.set()
            await asyncio.Event().wait()

    async def interrupted():
        ready = asyncio.Event()
        task = asyncio.create_task(scenario(kept.open(), ready))
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert kept.read().samples.keys() == ids([make_trace()])
