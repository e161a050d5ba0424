"""Parts of runs: their size, what each of them holds, and many writers beside each other."""

from __future__ import annotations

import asyncio
import json

import pyarrow.parquet as pq
import pytest

from rrti_sgl.db import attaching
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, StoreVersionError, UsageError
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace


def parts(folder, run_id="r1"):
    return sorted(path for path in (folder / run_id).iterdir() if not path.name.startswith("."))


def problems_in(part):
    return pq.read_table(part / "problems.parquet").column("problem_id").to_pylist()


def test_parts_are_bounded_by_rows_and_whole_samples(tmp_path):
    lengths = [3, 3, 3, 0, 20, 1, 6]

    async def scenario():
        async with ParquetSink(tmp_path, flush_rows=7, flush_seconds=3600) as sink:
            await sink.begin(make_run())
            await sink.begin(make_run("r2"))
            for index, length in enumerate(lengths):
                await sink.put(make_trace(index=index, ce=[0.0] * length))
                await sink.put(make_trace("r2", index=index, ce=[0.0] * length))

    asyncio.run(scenario())
    for run_id in ("r1", "r2"):
        manifests = [Manifest.read(part) for part in parts(tmp_path, run_id)]
        assert {manifest.run_id for manifest in manifests} == {run_id}
        assert {manifest.part for manifest in manifests} == {part.name for part in parts(tmp_path, run_id)}
        assert sum(manifest.n_samples for manifest in manifests) == len(lengths)
        assert sum(manifest.n_tokens for manifest in manifests) == sum(lengths)
        assert all(manifest.n_tokens <= 7 or manifest.n_samples == 1 for manifest in manifests)


def test_every_part_can_be_read_on_its_own(tmp_path):
    folder = tmp_path / "parts"

    async def scenario():
        async with ParquetSink(folder) as sink:
            await sink.add_problems([make_problem(f"p{number}") for number in range(5)])
            await sink.add_problems([make_problem("elsewhere", problem_set="another")])
            await sink.add_calibration(make_calibration("cal9", run_id="another"))
            await sink.begin(make_run(calibration_id="cal9"))
            for number in (3, 1):
                await sink.put(make_trace(problem_id=f"p{number}"))
                await sink.flush()
            await sink.add_problems([make_problem("p9")])
            await sink.flush()
            await sink.flush()
            await sink.end("r1", "failed", "out of luck")

    asyncio.run(scenario())
    first, *others = parts(folder)
    assert problems_in(first) == [f"p{number}" for number in range(5)]
    assert [problems_in(part) for part in others] == [["p3"], ["p1"], ["p9"], []]
    for number, part in enumerate(others):
        path = tmp_path / f"{number}.duckdb"
        attaching.attach(path, [part])
        with Store.open_readonly(path) as store:
            assert store.get_run("r1").status == ("failed" if part == others[-1] else "running")
            assert store.get_calibration("cal9") == make_calibration("cal9", run_id="another")
            assert len(store.finished_samples("r1")) == (number < 2)


def test_of_writers_that_begin_a_run_at_once_one_begins_it(tmp_path):
    async def begin(sink):
        try:
            return await sink.begin(make_run())
        except StoreError:
            return await sink.begin(make_run(), resume=True)

    async def scenario():
        sinks = [ParquetSink(tmp_path) for _ in range(4)]
        assert await asyncio.gather(*(begin(sink) for sink in sinks)) == [frozenset()] * 4
        for index, sink in enumerate(sinks):
            await sink.put(make_trace(index=index))
            await sink.close()

    asyncio.run(scenario())
    [done] = attaching.attach(tmp_path / "traces.duckdb", [tmp_path])
    assert done.samples == 4


def test_what_a_killed_writer_left_is_nothing(tmp_path):
    async def scenario():
        async with ParquetSink(tmp_path) as sink:
            await sink.begin(make_run())
        (tmp_path / "r1" / ".abc-000001.partial").mkdir()
        (tmp_path / "r2").mkdir()  # killed before it could say as what it began
        async with ParquetSink(tmp_path) as sink:
            assert await sink.begin(make_run(), resume=True) == frozenset()
            assert await sink.begin(make_run("r2"), resume=True) == frozenset()
            await sink.put(make_trace("r2"))

    asyncio.run(scenario())
    done = attaching.attach(tmp_path / "traces.duckdb", [tmp_path])
    assert [(run.run_id, run.samples) for run in done] == [("r1", 0), ("r2", 1)]


def test_what_cannot_be_begun(tmp_path):
    with pytest.raises(UsageError, match="no precision 'half'"):
        ParquetSink(tmp_path, precision="half")
    file = tmp_path / "file"
    file.touch()

    async def scenario():
        async with ParquetSink(tmp_path / "parts") as sink:
            for name in ("../r1", "", ".hidden"):
                with pytest.raises(UsageError, match="no name of a folder"):
                    await sink.begin(make_run(name))
            await sink.begin(make_run())
            with pytest.raises(UsageError, match=r"no run 'r2'.*It holds r1"):
                await sink.begin(make_run("r2"), resume=True)
        async with ParquetSink(file) as sink:
            with pytest.raises(StoreError, match="No run can be begun in"):
                await sink.begin(make_run())

    asyncio.run(scenario())


def test_parts_of_another_schema_or_that_cannot_be_read_are_not_continued(tmp_path):
    async def scenario():
        async with ParquetSink(tmp_path) as sink:
            await sink.begin(make_run())
        [part] = parts(tmp_path)
        async with ParquetSink(tmp_path) as sink:
            (part / "stored_samples.parquet").write_bytes(b"PAR1")
            with pytest.raises(StoreError, match=r"parts of run r1 in .* cannot be read: .*too small"):
                await sink.begin(make_run(), resume=True)
            manifest = json.loads((part / "manifest.json").read_text())
            (part / "manifest.json").write_text(json.dumps(manifest | {"revision": "9999"}))
            with pytest.raises(StoreVersionError, match="schema 9999"):
                await sink.begin(make_run(), resume=True)

    asyncio.run(scenario())
