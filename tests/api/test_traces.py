"""Traces of answers: each with its id, behind the answers, none lost, and refused requests where the store is behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db import checking
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.app import create_app
from rrti_sgl.programs.api.samples import Endpoint
from rrti_sgl.programs.running import recording
from rrti_sgl.records import SampleTrace
from rrti_sgl.sinks.memory import MemorySink
from tests.api.toy import Leaver, client, events, held_pair, opened

COMPLETIONS = "/v1/completions"
BODY: dict[str, Any] = {"model": "guided", "prompt": "w1 w2", "temperature": 0, "max_tokens": 25}


@asynccontextmanager
async def stored(path: Path, **options: Any) -> AsyncIterator[Endpoint]:
    with Store.open(path) as store:
        async with DuckDBSink(store) as sink, opened(store=store, sink=sink, **options) as endpoint:
            yield endpoint


def test_every_answer_is_in_the_store_under_its_id(tmp_path: Path) -> None:
    db, told = tmp_path / "traces.duckdb", {}

    async def go() -> None:
        async with stored(db) as endpoint, client(endpoint) as http:
            for model in ("guided", "base", "reasoning", "random@0.5", "diagnose"):
                for more in ({}, {"seed": 4}, {"n": 2}, {"stop": "w4"}, {"prompt": "w6\x00w2 \u202e<b>"}):
                    answer = await http.post(COMPLETIONS, json={**BODY, "model": model, **more})
                    for choice in answer.json()["choices"]:
                        told[choice["rrti"]["trace_id"]] = (model, choice)
            streamed = await http.post(COMPLETIONS, json={**BODY, "stream": True})
            last = events(streamed.text)[-1]
            told[last["rrti"]["trace_id"]] = ("guided", {"rrti": last["rrti"], "text": None})
            unstored = await http.post(COMPLETIONS, json={**BODY, "rrti": {"trace": False}})
            assert "trace_id" not in unstored.json()["rrti"]

    asyncio.run(go())
    assert len(told) == 31
    with Store.open_readonly(db) as store:
        rows = {row["sample_id"]: row for row in store.sql("SELECT * FROM sample_view").to_pylist()}
        runs = store.sql("SELECT * FROM runs").to_pylist()
    assert rows.keys() == told.keys()
    for sample_id, (model, choice) in told.items():
        row = rows[sample_id]
        assert row["program"] == model.partition("@")[0]
        assert row["n_takeovers"] == choice["rrti"]["takeovers"]
        if choice["text"] is not None and "w4" not in choice["text"]:
            assert row["text"].split()[: len(choice["text"].split())] == choice["text"].split()
    assert {run["status"] for run in runs} == {"finished"}
    assert {run["problem_set"] for run in runs} == {"api"}
    assert checking.check(db) == []


def test_samples_of_a_prompt_are_numbered_across_requests(tmp_path: Path) -> None:
    async def go() -> None:
        async with stored(tmp_path / "traces.duckdb") as endpoint, client(endpoint) as http:
            for n in (1, 2, 1):
                await http.post(COMPLETIONS, json={**BODY, "n": n})

    asyncio.run(go())
    with Store.open_readonly(tmp_path / "traces.duckdb") as store:
        rows = store.sql("SELECT problem_id, sample_index FROM samples ORDER BY sample_index").to_pylist()
    assert [row["sample_index"] for row in rows] == [0, 1, 2, 3]
    assert len({row["problem_id"] for row in rows}) == 1


def test_a_request_that_ends_early_leaves_no_trace_and_no_place() -> None:
    async def go() -> None:
        sink = MemorySink()
        pair, engine = held_pair()
        async with opened(pair, sink=sink, limits=Limits(unstored=1), in_flight=1) as endpoint:
            for _ in range(5):
                engine.asked.clear()
                leaver = Leaver(COMPLETIONS, BODY)
                call = asyncio.create_task(leaver.call(create_app(endpoint)))
                await engine.asked.wait()
                leaver.leave.set()
                await call
            assert endpoint.recorder.has_room(2)
        assert sink.traces == {}

    asyncio.run(go())


class SlowSink(MemorySink):
    """Keeps nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def put(self, trace: SampleTrace) -> None:
        await self.may.wait()
        await super().put(trace)


def test_what_waits_is_finished_many_at_a_time_and_gives_its_places_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    finished = recording._finished

    def counted(waiting: Any) -> Any:
        sizes.append(len(waiting))
        return finished(waiting)

    async def go() -> None:
        sink = SlowSink()
        async with opened(sink=sink) as endpoint, client(endpoint) as http:
            answer = await http.post(COMPLETIONS, json={**BODY, "n": 100})
            assert (len(answer.json()["choices"]), endpoint.recorder.unstored) == (100, 100)
            sink.may.set()
        assert sum(map(len, sink.traces.values())) == 100

    monkeypatch.setattr(recording, "_finished", counted)
    asyncio.run(go())
    first, *rest = sizes
    assert rest == ([64, 36 - first] if first < 36 else [100 - first])


def test_a_store_that_is_behind_slows_no_answer_and_loses_none() -> None:
    async def go() -> None:
        sink = SlowSink()
        async with opened(sink=sink, in_flight=2, limits=Limits(unstored=3)) as endpoint, client(endpoint) as http:
            answers = [await http.post(COMPLETIONS, json=BODY) for _ in range(7)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
            assert answers[-1].headers["retry-after"]
            assert (await http.post(COMPLETIONS, json={**BODY, "rrti": {"trace": False}})).status_code == 200
            assert b'rrti_refused_total{what="store"} 2.0' in endpoint.metrics.exposition()
            sink.may.set()
            while endpoint.recorder.unstored:
                await asyncio.sleep(0.001)
            answers.append(await http.post(COMPLETIONS, json=BODY))
            told = {answer.json()["rrti"]["trace_id"] for answer in answers if answer.status_code == 200}
        kept = {sample for run in sink.traces.values() for sample in run}
        assert kept == told
        assert len(told) == 6

    asyncio.run(go())


def test_what_waits_is_written_before_the_endpoint_ends() -> None:
    async def go() -> None:
        sink = SlowSink()
        async with opened(sink=sink) as endpoint, client(endpoint) as http:
            for _ in range(5):
                await http.post(COMPLETIONS, json=BODY)
            assert endpoint.recorder.unstored
            sink.may.set()
        assert sum(map(len, sink.traces.values())) == 5

    asyncio.run(go())


class FailingSink(MemorySink):
    """A full disk."""

    async def put(self, trace: SampleTrace) -> None:
        raise StoreError("The disk /var/secret is full.")


def test_a_store_that_failed_is_told_and_takes_nothing_more() -> None:
    async def go() -> None:
        async with opened(sink=FailingSink()) as endpoint, client(endpoint) as http:
            assert (await http.post(COMPLETIONS, json=BODY)).status_code == 200
            while endpoint.recorder.error is None:
                await asyncio.sleep(0.001)
            for streamed in (False, True):
                answer = await http.post(COMPLETIONS, json={**BODY, "stream": streamed})
                assert answer.status_code == 503
                assert "secret" not in answer.text
            assert (await http.post(COMPLETIONS, json={**BODY, "rrti": {"trace": False}})).status_code == 200
            assert (await http.get("/health")).status_code == 503

    asyncio.run(go())


def test_an_answer_whose_trace_cannot_be_stored_any_more_names_none() -> None:
    async def go() -> None:
        pair, engine = held_pair()
        async with opened(pair, sink=MemorySink()) as endpoint, client(endpoint) as http:
            running = asyncio.create_task(http.post(COMPLETIONS, json={**BODY, "stream": True}))
            await engine.asked.wait()
            endpoint.recorder.error = StoreError("The disk is full.")
            engine.may.set()
            last = events((await running).text)[-1]
            assert last["choices"][0]["finish_reason"]
            assert "trace_id" not in last["rrti"]
            assert endpoint.recorder.unstored == 0

    asyncio.run(go())


def test_runs_are_ended_where_there_are_too_many(monkeypatch: Any) -> None:
    monkeypatch.setattr(recording, "_RUNS", 3)

    async def go() -> None:
        sink = MemorySink()
        async with opened(sink=sink) as endpoint, client(endpoint) as http:
            for seed in range(8):
                assert (await http.post(COMPLETIONS, json={**BODY, "seed": seed})).status_code == 200
                while endpoint.recorder.unstored:
                    await asyncio.sleep(0)
            open_now = [run for run in sink.runs.values() if run.status == "running"]
            assert len(open_now) <= 4
        assert {run.status for run in sink.runs.values()} == {"finished"}
        assert len(sink.traces) == 8

    asyncio.run(go())
