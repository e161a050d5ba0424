"""Runs on a real Ray cluster with toy pairs: the rows of one machine, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

ray = pytest.importorskip("ray", reason="needs Ray: pip install 'rrti-sgl[ray]'")

from rrti_sgl.cli.clustering import ClusterOptions  # noqa: E402
from rrti_sgl.cli.pairing import PairOptions  # noqa: E402
from rrti_sgl.db import relations  # noqa: E402
from rrti_sgl.db.sinks.parquet_parts import ParquetSink  # noqa: E402
from rrti_sgl.db.store import Store  # noqa: E402
from rrti_sgl.errors import EndpointError, StoreError, UsageError  # noqa: E402
from rrti_sgl.grading import Grade, load_grader  # noqa: E402
from rrti_sgl.programs.cluster.cluster import (  # noqa: E402
    RayCluster,
    RayMember,
    Share,
    _until_one_ends,
    open_cluster,
)
from rrti_sgl.programs.cluster.leases import GoneError  # noqa: E402
from rrti_sgl.programs.running.preparing import PreparedRun, prepare  # noqa: E402
from rrti_sgl.programs.running.runner import OnProgress, run_program  # noqa: E402
from rrti_sgl.programs.running.session import Concurrency, PairSession  # noqa: E402
from rrti_sgl.programs.running.settings import RunSettings  # noqa: E402
from rrti_sgl.records import RunRecord  # noqa: E402
from tests.cluster.toys import SEED, ToyOpening  # noqa: E402
from tests.session.test_runs import GRADER, traces  # noqa: E402
from tests.toy_pair import toy_pair  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def found_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors import this folder's modules, too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "traces.duckdb", precision="exact", parts=tmp_path / "parts") as opened:
        yield opened


def here(store: Store, settings: RunSettings) -> RunRecord:
    async def go() -> RunRecord:
        async with PairSession(toy_pair(SEED), Concurrency(4)) as session:
            return await run_program(session, store, settings)

    return asyncio.run(go())


async def shared(
    tmp_path: Path,
    store: Store,
    settings: RunSettings,
    address: str = "local",
    meanwhile: Callable[[RayCluster], Awaitable[None]] | None = None,
    **options: Any,
) -> RunRecord:
    """A run on two toy pairs, with something that happens meanwhile."""
    async with open_cluster(address, [ToyOpening(tmp_path)], tmp_path / "parts", Share(pairs=2, cpus=0.5)) as cluster:
        running = asyncio.create_task(run_program(cluster, store, settings, **options))
        if meanwhile is not None:
            await meanwhile(cluster)
        return await running


def assert_same_rows(store: Store, one: RunRecord, other: RunRecord) -> None:
    first, second = (
        sorted(traces(store, run.run_id), key=lambda trace: (trace.sample.problem_id, trace.sample.sample_index))
        for run in (one, other)
    )
    assert len(first) == len(second) == one.n_problems * one.samples_per_problem
    for before, after in zip(first, second, strict=True):
        for name in ("problem_id", "sample_index", "text", "answer", "correct", "n_takeovers", "finish_reason"):
            assert getattr(before.sample, name) == getattr(after.sample, name)
        np.testing.assert_array_equal(before.tokens.token_id, after.tokens.token_id)
        np.testing.assert_array_equal(before.tokens.score, after.tokens.score)


def all_runs(store: Store) -> list[RunRecord]:
    return store.get_runs(store.sql("SELECT run_id FROM runs").column(0).to_pylist())


def pids(folder: Path) -> set[int]:
    return {int(path.name.partition("-")[2]) for path in folder.glob("pid-*")}


async def at_work(folder: Path, n: int = 2) -> list[int]:
    while len(found := pids(folder)) < n:
        await asyncio.sleep(0.05)
    return sorted(found)


def test_a_killed_actor_and_a_broken_server_leave_the_rows_of_one_machine(
    tmp_path: Path, store: Store, settings: RunSettings
) -> None:
    (tmp_path / "hold").touch()

    async def meanwhile(cluster: RayCluster) -> None:
        killed, broken = await at_work(tmp_path)
        os.kill(killed, signal.SIGKILL)
        (tmp_path / f"broken-{broken}").touch()
        (tmp_path / "hold").unlink()

    settings = replace(settings, samples=2)
    record = asyncio.run(shared(tmp_path, store, settings, meanwhile=meanwhile))
    assert record.status == "finished"
    assert not list((tmp_path / "parts").iterdir())
    assert len(pids(tmp_path)) >= 3  # pairs that came up again were asked
    assert_same_rows(store, record, here(store, settings))


@pytest.fixture
def nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_machine_that_goes_down_is_done_without(tmp_path: Path, store: Store, settings: RunSettings, nodes: Any) -> None:
    machines = [nodes.add_node(num_cpus=1) for _ in range(2)]
    (tmp_path / "hold").touch()

    async def meanwhile(cluster: RayCluster) -> None:
        await at_work(tmp_path)
        await asyncio.to_thread(nodes.remove_node, machines[1])
        (tmp_path / "hold").unlink()

    record = asyncio.run(shared(tmp_path, store, settings, nodes.address, meanwhile))
    assert record.status == "finished"
    assert_same_rows(store, record, here(store, settings))


@pytest.mark.slow
def test_a_pair_that_hangs_is_not_waited_for(tmp_path: Path, store: Store, settings: RunSettings) -> None:
    (tmp_path / "hold").touch()

    async def meanwhile(cluster: RayCluster) -> None:
        hanging, _ = await at_work(tmp_path)
        (tmp_path / f"hang-{hanging}").touch()
        (tmp_path / "hold").unlink()

    record = asyncio.run(shared(tmp_path, store, settings, meanwhile=meanwhile))
    assert record.status == "finished"
    assert_same_rows(store, record, here(store, settings))


@pytest.mark.slow
def test_a_full_folder_is_told_and_nothing_is_lost(tmp_path: Path, store: Store, settings: RunSettings) -> None:
    settings = replace(settings, samples=4)
    seen = 0

    async def first(cluster: RayCluster) -> None:
        nonlocal seen
        while not (seen := len(list((tmp_path / "parts").glob("*/[!.]*/manifest.json")))):
            await asyncio.sleep(0.01)
        (tmp_path / "full").touch()

    with pytest.raises(StoreError, match=r"could not be written to .*parts: .*No space left"):
        asyncio.run(shared(tmp_path, store, settings, meanwhile=first))
    [run] = all_runs(store)
    assert run.status == "failed"
    kept = store.finished_samples(run.run_id)
    assert seen <= len(kept) < 48
    (tmp_path / "full").unlink()
    record = asyncio.run(shared(tmp_path, store, settings, resume=run.run_id))
    assert record.status == "finished"
    assert_same_rows(store, record, here(store, settings))


DRIVER = """
import asyncio, json, sys
from pathlib import Path
from rrti_sgl.db.store import Store
from rrti_sgl.programs.running.settings import RunSettings
from tests.cluster.test_cluster import shared
from tests.session.test_runs import GRADER

folder = Path(sys.argv[1])
with Store.open(folder / "traces.duckdb", precision="exact", parts=folder / "parts") as store:
    settings = RunSettings.from_dict(json.loads(sys.argv[2]), [GRADER])
    asyncio.run(shared(folder, store, settings))
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_from_what_the_parts_hold(tmp_path: Path, settings: RunSettings) -> None:
    settings = replace(settings, samples=4)
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path), json.dumps(settings.to_dict())], cwd=ROOT)
    parts = tmp_path / "parts"
    while len(list(parts.glob("*/[!.]*/manifest.json"))) < 3:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    [run_id] = (path.name for path in parts.iterdir())
    files = [relations.file_of(part, "stored_samples") for part in relations.complete_in(parts / run_id)]
    held = {name for file in files for name in pq.read_table(file)["sample_id"].to_pylist()}
    with Store.open(tmp_path / "traces.duckdb", parts=parts) as store:
        made: list[int] = []
        record = asyncio.run(
            shared(tmp_path, store, settings, resume=run_id, on_progress=lambda progress: made.append(progress.done))
        )
        assert record.status == "finished"
        assert made[0] > len(held) >= 3
        assert_same_rows(store, record, here(store, settings))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:²", f"127.0.0.1:{10**20}", "127.0.0.1"])
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, address: str) -> None:
    async def go() -> None:
        async with open_cluster(address, [ToyOpening(tmp_path)], tmp_path / "parts", Share()):
            pass

    with pytest.raises(UsageError, match=f"There is no Ray cluster at {re.escape(repr(address))}"):
        asyncio.run(go())


@pytest.mark.parametrize(
    ("share", "resources", "expected"),
    [
        (Share(), {"CPU": 8.0}, (0.0, 3)),
        (Share(), {"CPU": 64.0, "GPU": 8.0}, (1.0, 8)),
        (Share(gpus=0.5), {"CPU": 64.0, "GPU": 8.0}, (0.5, 16)),
        (Share(gpus=2, pairs=3), {"CPU": 64.0, "GPU": 8.0}, (2, 3)),
        (Share(gpus=2, pairs=9), {"CPU": 64.0, "GPU": 8.0}, (2, 4)),
        (Share(gpus=0, pairs=20), {"CPU": 4.0, "GPU": 8.0}, (0, 4)),
    ],
)
def test_as_many_pairs_as_fit(share: Share, resources: dict[str, float], expected: tuple[float, int]) -> None:
    assert share.of(resources, machines=3) == expected


def test_a_share_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(UsageError, match="A pair takes 2 GPUs and 1 CPUs; the cluster has 1 GPUs and 8 CPUs"):
        Share(gpus=2).of({"CPU": 8.0, "GPU": 1.0}, machines=1)


@pytest.mark.parametrize(
    "options",
    [
        PairOptions(endpoint_url="http://127.0.0.1:9"),
        PairOptions(fused_url=["http://127.0.0.1:9"]),
        PairOptions(base_url="http://127.0.0.1:9", reasoning_url="http://127.0.0.1:8"),
    ],
)
def test_the_addresses_of_one_pair_are_not_a_cluster_s(options: PairOptions, tmp_path: Path) -> None:
    """A run that silently started pairs of its own instead would not be the one that was asked for."""

    async def open_it() -> None:
        async with ClusterOptions(ray="local").open(options.opening("mapped"), tmp_path / "t.duckdb"):
            pytest.fail("opened")

    with pytest.raises(UsageError, match="Name each pair: --pair-at"):
        asyncio.run(open_it())


FULL = {"local_fs_capacity_threshold": 1e-6, "automatic_object_spilling_enabled": False}
ROOM = 80 * 2**20  # bytes of the smallest object store that Ray makes


class Answering:
    """An actor that takes and gives objects."""

    def work(self, run_id: str, jobs: Sequence[bytes]) -> bytes:
        return b"".join(jobs)

    def pair(self, version: str) -> bytes:
        return bytes(ROOM)


@pytest.mark.slow
def test_an_object_store_without_room_is_told(
    tmp_path: Path, store: Store, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own, as small as it can be, on a disk that counts as full: at a run, at a lease, and at what an actor gives."""
    ray.init(
        "local", include_dashboard=False, log_to_driver=False, num_cpus=1, object_store_memory=ROOM, _system_config=FULL
    )
    try:
        held: list[Any] = []
        for size in (2**20, 2**10):
            with contextlib.suppress(ray.exceptions.OutOfDiskError):
                while True:
                    held.append(ray.put(bytes(size)))
        cluster = RayCluster([], toy_pair(SEED), tmp_path / "parts")
        with pytest.raises(EndpointError, match=r"could not be told of the run: .*full"):
            asyncio.run(run_program(cluster, store, settings))
        assert [run.status for run in all_runs(store)] == ["failed"]
        member = RayMember(ray.remote(Answering).remote(), "Pair 1")
        with pytest.raises(EndpointError, match=r"could not be told of the run: .*full"):
            asyncio.run(member.work([bytes(ROOM)]))  # type: ignore[list-item]
        monkeypatch.setattr("rrti_sgl.programs.cluster.cluster._RESTARTS", 0)
        with pytest.raises(GoneError, match=r"Pair 1 is gone: .*could not answer: .*full"):
            asyncio.run(member.pair())
    finally:
        ray.shutdown()


def test_a_store_that_takes_no_parts_ends_the_run_at_once() -> None:
    """Merging goes on beside the sharing out, which would not end by itself."""
    ended: list[bool] = []

    async def shares_out() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def merges() -> None:
        await asyncio.sleep(0)
        raise StoreError("No space left.")

    with pytest.raises(StoreError, match="No space left"):
        asyncio.run(_until_one_ends(shares_out(), merges()))
    assert ended == [True]


def test_what_a_killed_driver_left_is_judged_by_the_version_that_goes_on(
    tmp_path: Path, store: Store, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed() -> str:
        async with PairSession(toy_pair(SEED), Concurrency(4)) as session:
            prepared = prepare(session.pair, settings, store)
            store.begin_run(prepared.record)
            (tmp_path / "parts" / prepared.record.run_id).mkdir(parents=True)
            async with ParquetSink(tmp_path / "parts", precision=store.precision, is_emptied=True) as sink:
                await sink.begin(prepared.record, resume=True)
                await sink.add_problems(prepared.problems)
                async for sample in session.run(prepared.jobs, prepared.gate, prepared.options):
                    await sink.put(prepared.finisher.finish(sample.job, sample.trace))
        return prepared.record.run_id

    class Merging(RayCluster):
        async def decode(self, store: Store, prepared: PreparedRun, on_progress: OnProgress | None) -> None:
            """Nothing is left to do."""

    run_id = asyncio.run(killed())
    assert not store.finished_samples(run_id)
    of_runs = type(load_grader(GRADER))  # a module of tests may have been imported twice
    monkeypatch.setattr(of_runs, "name", "last-word-v2")
    monkeypatch.setattr(of_runs, "grade", lambda self, problem, text: Grade("?", True))
    cluster = Merging([], toy_pair(SEED), tmp_path / "parts")
    record = asyncio.run(run_program(cluster, store, settings, resume=run_id))
    assert (record.status, record.grader) == ("finished", "last-word-v2")
    assert [trace.sample.answer for trace in traces(store, run_id)] == ["?"] * record.n_problems


def test_what_goes_through_the_object_store_is_small(settings: RunSettings, tmp_path: Path, store: Store) -> None:
    """Tokens go past it; what a lease takes is the text of its samples, and of a run once what all of them need."""
    from ray import cloudpickle

    prepared = prepare(toy_pair(SEED), replace(settings, samples=100), store)
    run, lease = (len(cloudpickle.dumps(each)) for each in (replace(prepared, jobs=[]), prepared.jobs[:16]))
    texts = sum(len(text) for job in prepared.jobs[:16] for text in (job.base_prompt, job.reasoning_prompt))
    ids = sum(len(job.base_prompt_ids) + len(job.reasoning_prompt_ids) for job in prepared.jobs[:16])
    assert lease < texts + 5 * ids + 16 * 1000
    assert run < 10**6  # it does not grow with the samples
