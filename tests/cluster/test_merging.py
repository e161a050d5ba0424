"""Merging what pairs write while the run goes on, whatever became of the parts, and by one driver only."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db import attaching, relations
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from rrti_sgl.programs.cluster import merging
from rrti_sgl.programs.cluster.leases import Counted
from rrti_sgl.programs.cluster.merging import SharedParts
from rrti_sgl.records import SampleTrace
from tests.db.conftest import NOON, make_problem, make_run, make_trace


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], []),
        ([0] * 450, [200, 200, 50]),
        ([400_000, 400_000, 400_000, 100], [2, 2]),
        ([5_000_000, 3, 5_000_000], [1, 1, 1]),  # a part is taken whole
        ([600_000, 400_000, 1], [2, 1]),
    ],
    ids=["none", "many small", "some", "large", "exactly full"],
)
def test_what_is_read_at_a_time_is_bounded(tokens: list[int], expected: list[int]) -> None:
    given = [(Path(f"w-{number}"), Manifest("run", "0004", 1, n, {})) for number, n in enumerate(tokens)]
    groups = list(attaching.in_groups(iter(given)))
    assert [len(group) for group in groups] == expected
    assert [part for group in groups for part in group.items()] == given


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "traces.duckdb", parts=tmp_path / "parts") as opened:
        opened.begin_run(make_run())
        yield opened


def write(folder: Path, *indices: int, run_id: str = "r1", **changes: Any) -> list[str]:
    """What a pair writes: a part for each sample; returns their ids."""

    async def scenario() -> list[SampleTrace]:
        (folder / run_id).mkdir(parents=True, exist_ok=True)
        traces = [make_trace(run_id, index=index, **changes) for index in indices]
        async with ParquetSink(folder, is_emptied=True) as sink:
            await sink.begin(make_run(run_id), resume=True)
            await sink.add_problems([make_problem("p1"), make_problem("p2")])
            for trace in traces:
                await sink.put(trace)
                await sink.flush()
        return traces

    return [trace.sample.sample_id for trace in asyncio.run(scenario())]


def counted(sample_id: str, n_tokens: int = 3) -> Counted:
    return Counted(sample_id, n_tokens, 0, None)


@pytest.mark.parametrize("bound", ["_LEASES", "_TOKENS"])
def test_parts_are_merged_while_the_run_goes_on(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(merging, bound, 2 if bound == "_LEASES" else 6)
    ids = write(tmp_path / "parts", 0, 1, 2)

    async def scenario(parts: SharedParts) -> None:
        merged = asyncio.create_task(parts.keep_merging())
        parts.count([counted(ids[0])])
        await asyncio.sleep(0)
        assert store.finished_samples("r1") == set()  # not for every lease
        parts.count([counted(ids[1])])
        while store.finished_samples("r1") != set(ids):
            assert not merged.done()
            await asyncio.sleep(0.01)
        merged.cancel()
        await asyncio.gather(merged, return_exceptions=True)
        await parts.merge_all(ids)

    with SharedParts(tmp_path / "parts", "r1", store) as parts:
        asyncio.run(scenario(parts))
    assert not list((tmp_path / "parts").iterdir())


def cuts(file: Path) -> list[bytes]:
    """What may be left of a file: nothing, its first byte, half, all but the last, and zeros where a disk lost it."""
    whole = file.read_bytes()
    return [b"", whole[:1], whole[: len(whole) // 2], whole[:-1], bytes(len(whole))]


def test_parts_that_were_cut_anywhere_are_put_aside_and_made_anew(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "parts"
    lost, kept = write(folder, 0, 1)
    [part, sound] = relations.complete_in(folder / "r1")
    files = sorted(part.iterdir())
    assert len(files) == len(relations.FILES) + 1
    damages = 0
    for file in files:
        for number, left in enumerate([*cuts(file), None]):
            copy = part.with_name(f"{file.stem.replace('_', '-')}-{number}")
            shutil.copytree(part, copy)
            (copy / file.name).unlink() if left is None else (copy / file.name).write_bytes(left)
            damages += (copy / relations.MANIFEST).exists()  # without one it was never complete
    shutil.rmtree(part)
    shutil.copytree(sound, folder / "r1" / ".later.partial")  # what a killed pair was about to write

    with SharedParts(folder, "r1", store) as parts, pytest.raises(StoreError, match="1 samples are lost with a part"):
        asyncio.run(parts.merge_all([lost, kept]))
    assert store.finished_samples("r1") == {kept}
    assert len(list((folder / "r1").glob(".*.damaged"))) == damages == len(files) * 6 - 1
    assert write(folder, 0) == [lost]  # a pair takes the run up all the same
    with SharedParts(folder, "r1", store) as parts:
        asyncio.run(parts.merge_all([lost, kept]))
    assert not list(folder.iterdir())


def test_parts_of_a_newer_version_are_not_taken_for_damaged(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "parts", 0)
    [part] = relations.complete_in(tmp_path / "parts" / "r1")
    manifest = part / relations.MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"{Manifest.read(part).revision}"', '"9999"'))
    with SharedParts(tmp_path / "parts", "r1", store) as parts, pytest.raises(StoreError, match="written with schema 9999"):
        parts.merge()
    assert relations.complete_in(tmp_path / "parts" / "r1") == [part]


def test_of_two_drivers_at_one_run_the_second_is_refused(tmp_path: Path, store: Store) -> None:
    """A copy of the store goes on with the run: each would take parts away from the other."""
    ids = write(tmp_path / "parts", 0)
    with Store.open(tmp_path / "copy.duckdb", parts=tmp_path / "parts") as copy:
        copy.begin_run(make_run())
        with (
            SharedParts(tmp_path / "parts", "r1", store) as parts,
            pytest.raises(StoreError, match="Another process merges the parts of run r1") as refused,
            SharedParts(tmp_path / "parts", "r1", copy),
        ):
            pytest.fail("claimed twice")
        assert "parts" in refused.value.remedy
        with SharedParts(tmp_path / "parts", "r1", copy) as parts:  # the first has let go
            asyncio.run(parts.merge_all(ids))
        assert copy.finished_samples("r1") == set(ids)


def test_two_drivers_share_a_folder(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "parts"
    ours, theirs = write(folder, 0, 1), write(folder, 0, 1, run_id="r2")
    with Store.open(tmp_path / "other.duckdb", parts=folder) as other:
        other.begin_run(make_run("r2"))
        with SharedParts(folder, "r1", store) as first, SharedParts(folder, "r2", other) as second:
            asyncio.run(first.merge_all(ours))
            assert len(relations.complete_in(folder / "r2")) == 2
            asyncio.run(second.merge_all(theirs))
        assert (store.finished_samples("r1"), other.finished_samples("r2")) == (set(ours), set(theirs))


@pytest.mark.parametrize("days", [-400, 400])
def test_the_clocks_of_other_machines_decide_nothing(tmp_path: Path, store: Store, days: int) -> None:
    """Neither which parts are merged, nor which of two makings of a sample counts, nor when the run was."""
    folder, skew = tmp_path / "parts", timedelta(days=days)
    [first] = write(folder, 0)
    with SharedParts(folder, "r1", store) as parts:
        parts.merge()
        assert write(folder, 0, started_at=NOON + skew, text="other") == [first]
        [second] = write(folder, 1, started_at=NOON + skew)
        for part in (folder / "r1").rglob("*"):
            os.utime(part, ((NOON + skew).timestamp(),) * 2)
        asyncio.run(parts.merge_all([first, second]))
    assert store.load_sample(first).sample == make_trace(index=0).sample
    assert store.load_sample(second).sample.started_at == NOON + skew
    assert (store.get_run("r1").created_at, store.get_run("r1").finished_at) == (NOON, None)
