"""Parts of runs, and sealed runs, merge into a store: each sample once, nothing that contradicts, all of it or nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
from datetime import timedelta

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli import db as commands
from rrti_sgl.db import attaching, checking, folders, relations, sealing, snapshots
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from tests.db.conftest import NOON, make_calibration, make_problem, make_run, make_trace

TABLES = ("runs", "problems", "calibrations", "samples", "tokens")


def content(path) -> dict[str, list[dict[str, object]]]:
    with Store.open_readonly(path) as store:
        return {table: store.sql(f"FROM {table} ORDER BY ALL").to_pylist() for table in TABLES}


def write(sink, traces, run=None, *, resume=False, status="finished", problems=("p1", "p2"), calibration=None):
    """What one writer does: it begins or takes up the run, writes, and says how it ended (None: it just closes)."""

    async def scenario():
        async with sink:
            await sink.add_problems([make_problem(name) for name in problems])
            await sink.add_calibration(calibration or make_calibration())
            await sink.begin(run or make_run(), resume=resume)
            for trace in traces:
                await sink.put(trace)
            if status is not None:
                await sink.end("r1", status)

    asyncio.run(scenario())


def sample(index=0, *, tokens=None, **changes):
    """A sample whose decisions follow from its scores; of three tokens at least, by its index."""
    ce = np.arange(3.0 + index % 4)
    problem = f"p{1 + index % 2}"
    return make_trace(problem_id=problem, index=index, ce=ce, tokens={"fired": ce > 0.5} | (tokens or {}), **changes)


def samples(*indices):
    return [sample(index) for index in indices]


SHARE = """
import asyncio, sys
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from tests.db.merged_run import problems, record, trace

async def main(folder, precision, share):
    async with ParquetSink(folder, precision=precision, flush_rows=2000) as sink:
        await sink.add_problems(problems())
        await sink.begin(record(), resume=True)
        for index in range(share, 60, 3):
            await sink.put(trace(index))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.parametrize("precision", ["compact", pytest.param("exact", marks=pytest.mark.slow)])
def test_three_processes_write_what_one_would(tmp_path, precision):
    """A run in one file, and the same run in parts of three processes, merged: the same rows in every column."""
    from tests.db.merged_run import problems, record, trace

    async def in_one_file(store):
        async with DuckDBSink(store) as sink:
            await sink.add_problems(problems())
            await sink.begin(record())
            for index in range(60):
                await sink.put(trace(index))
            await sink.end("r1", "finished")

    async def in_parts(folder):
        async with ParquetSink(folder, precision=precision) as sink:
            await sink.add_problems(problems())
            await sink.begin(record())
            processes = [
                await asyncio.create_subprocess_exec(sys.executable, "-c", SHARE, folder, precision, str(share))
                for share in range(3)
            ]
            assert [await process.wait() for process in processes] == [0, 0, 0]
            await sink.end("r1", "finished")

    one, merged, parts = tmp_path / "one.duckdb", tmp_path / "merged.duckdb", tmp_path / "parts"
    with Store.open(one, precision=precision) as store:
        asyncio.run(in_one_file(store))
    asyncio.run(in_parts(parts))
    assert len({path.name.split("-")[0] for path in (parts / "r1").iterdir()}) == 4
    [done] = attaching.attach(merged, [parts])
    expected, found = content(one), content(merged)
    assert done.samples == len(expected["samples"]) == 60
    assert done.tokens == len(expected["tokens"])
    for table in ("problems", "samples", "tokens"):
        assert found[table] == expected[table], table
    [before], [after] = expected["runs"], found["runs"]
    assert after.pop("finished_at") is not None
    assert before.pop("finished_at") is not None
    assert after == before
    with duckdb.connect(str(merged), read_only=True) as connection:
        layouts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in relations.TOKEN_TABLES]
    # A sample of the run does not fit the compact layout and is kept exactly all the same.
    assert (layouts[0] > 0, layouts[1] > 0) == (True, precision == "compact")
    assert checking.check(merged) == []


@pytest.fixture
def one_at_a_time(monkeypatch):
    """Folders are read one by one."""
    monkeypatch.setattr(attaching, "_AT_ONCE", 1)


@pytest.mark.usefixtures("one_at_a_time")
def test_parts_come_in_any_order_and_twice(tmp_path):
    folder = tmp_path / "parts"
    write(ParquetSink(folder), samples(0, 1), status=None)
    write(ParquetSink(folder), samples(2, 3), resume=True, status="interrupted")
    write(ParquetSink(folder), samples(4), resume=True)
    parts = sorted((folder / "r1").iterdir())
    assert len(parts) == 6
    once, piecewise = tmp_path / "once.duckdb", tmp_path / "piecewise.duckdb"
    attaching.attach(once, [folder])
    for part in [*parts[::-1], *parts[:2]]:
        attaching.attach(piecewise, [part])
    assert content(piecewise) == content(once)
    [done] = attaching.attach(once, [folder, folder, parts[0]])
    assert (done.status, done.samples, done.tokens, done.known_samples) == ("finished", 0, 0, 5)
    assert content(piecewise) == content(once)
    assert checking.check(once) == []


def test_of_several_ends_the_latest_counts(tmp_path, path):
    folder = tmp_path / "parts"
    write(ParquetSink(folder), samples(0), status=None)
    [done] = attaching.attach(path, [folder])
    assert done.status == "running"
    for status in ("failed", "interrupted", "finished", "interrupted"):
        write(ParquetSink(folder), [], resume=True, status=status)
        [done] = attaching.attach(path, [folder])
        assert done.status == status
    with Store.open(path) as store:
        ended = store.get_run("r1").finished_at
        store.resume_run("r1")
        store.finish_run("r1", "finished")
        assert store.get_run("r1").finished_at > ended
    [done] = attaching.attach(path, [folder])
    assert done.status == "finished"


def test_a_run_goes_on_in_the_store_between_its_parts(tmp_path, path):
    folder = tmp_path / "parts"
    write(ParquetSink(folder), samples(0, 1), status="interrupted")
    attaching.attach(path, [folder])
    with Store.open(path) as store:
        write(DuckDBSink(store), samples(1, 2), resume=True)
    write(ParquetSink(folder), samples(3), resume=True)
    [done] = attaching.attach(path, [folder])
    assert (done.samples, done.known_samples) == (1, 2)
    assert [row["sample_index"] for row in sorted(content(path)["samples"], key=lambda row: row["sample_index"])] == [
        0,
        1,
        2,
        3,
    ]
    assert checking.check(path) == []


def other_tokens(**columns):
    return lambda trace: dataclasses.replace(trace, tokens=dataclasses.replace(trace.tokens, **columns))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """What is in a store that has a folder of parts, beside it, and in one that has them sealed."""
    place = tmp_path_factory.mktemp("good")
    write(ParquetSink(place / "parts"), [sample()])
    asyncio.run(begin_alone(ParquetSink(place / "other"), "a-first"))
    for name in ("open", "sealed"):
        attaching.attach(place / f"{name}.duckdb", [place / "parts"])
    sealing.seal(place / "sealed.duckdb", "r1")
    return {path: content(path) for path in (place / "open.duckdb", place / "sealed.duckdb")}


CONTRADICTIONS = {
    "config": ({"run": make_run(config={"seed": 2}, config_hash="bad")}, r"Run r1 is not the same in.*seed was . and is ."),
    "problem set": ({"run": make_run(config_hash="bad")}, "the content of its problem set is another one"),
    "model": ({"run": make_run(base_model="other")}, r"base_model was '\w+' and is '\w+'"),
    "seed": ({"run": make_run(seed=3)}, r"seed was \d+ and is \d+"),
    "gate": ({"run": make_run(gate_params={"tau": 0.6})}, "gate_params was"),
    "text": ({"change": {"text": "other"}}, r"Sample \w+ is not the same in"),
    "grade": ({"change": {"correct": False}}, r"Sample \w+ is not the same in"),
    "token": ({"tokens": {"token_text": ["x", "t1", "t2"]}}, r"Sample \w+ is not the same in"),
    "score": ({"tokens": {"score": np.array([0.0, 1.0, 2.5])}}, r"Sample \w+ is not the same in"),
    "list": ({"tokens": {"base_topk_ids": np.full((3, 2), [3, 6], dtype=np.int32)}}, r"Sample \w+ is not the same in"),
    "calibration": ({"calibration": make_calibration(tau=9.0)}, "Calibration cal1 is not the same in"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_is_refused_and_nothing_changes(tmp_path, good, case, monkeypatch):
    how, said = CONTRADICTIONS[case]
    trace = sample(**how.get("change", {}), tokens=how.get("tokens"))
    bad, [place] = tmp_path / "bad", {path.parent for path in good}
    write(ParquetSink(bad), [sample(1), trace], run=how.get("run"), calibration=how.get("calibration"))
    # Beside it, and before it, a run with nothing wrong.
    with pytest.raises(StoreError, match=said) as error:
        attaching.attach(tmp_path / "new.duckdb", [place / "other", place / "parts", bad])
    assert error.value.remedy
    assert not (tmp_path / "new.duckdb").exists()
    monkeypatch.setattr(attaching, "_AT_ONCE", 1)  # folders are read one by one
    with pytest.raises(StoreError, match=said):
        attaching.attach(tmp_path / "new.duckdb", [place / "other", place / "parts", bad])
    assert not (tmp_path / "new.duckdb").exists()
    for path, before in good.items():
        with pytest.raises(StoreError, match=said):
            attaching.attach(path, [place / "other", bad])
        assert content(path) == before


async def begin_alone(sink, run_id):
    async with sink:
        await sink.begin(make_run(run_id))
        await sink.end(run_id, "finished")


def test_another_question_under_one_id_is_refused(tmp_path):
    path, folder = tmp_path / "traces.duckdb", tmp_path / "parts"
    write(ParquetSink(folder), samples(0))
    with Store.open(path) as store:
        store.add_problems([make_problem("p2", question="3+3?")])
    with pytest.raises(StoreError, match=r"Problem tiny p2 is not the same in .*parts.*the store"):
        attaching.attach(path, [folder])
    assert content(path)["runs"] == []


@pytest.mark.usefixtures("one_at_a_time")
def test_the_same_sample_at_another_cost_in_another_layout_is_the_same(tmp_path, path):
    again = sample(wall_ms=99.0, base_calls=7, started_at=NOON + timedelta(days=1))
    write(ParquetSink(tmp_path / "a", precision="compact"), [sample()])
    write(ParquetSink(tmp_path / "b", precision="exact"), [again, sample(1)])
    [done] = attaching.attach(path, [tmp_path / "a", tmp_path / "b"])
    assert (done.samples, done.tokens) == (2, 7)
    with Store.open_readonly(path) as store:
        assert store.load_sample(again.sample.sample_id).sample == sample().sample
    assert checking.check(path) == []
    off = dataclasses.replace(again.tokens, score=again.tokens.score + 1e-12)
    write(ParquetSink(tmp_path / "c", precision="exact"), [dataclasses.replace(again, tokens=off)])
    with pytest.raises(StoreError, match="is not the same in"):
        attaching.attach(path, [tmp_path / "c"])


@pytest.mark.usefixtures("one_at_a_time")
def test_a_sealed_run_meets_the_run_that_a_store_has(tmp_path):
    there, folder = tmp_path / "there.duckdb", tmp_path / "parts"
    write(ParquetSink(folder), samples(0, 1, 2))
    attaching.attach(there, [folder])
    sealing.seal(there, "r1")
    sealed = relations.runs_folder(there)
    # As rows: what is missing is added.
    rows, some = tmp_path / "rows.duckdb", tmp_path / "some"
    write(ParquetSink(some), samples(2, 3))
    attaching.attach(rows, [some])
    [done] = attaching.attach(rows, [sealed])
    assert (done.samples, done.known_samples) == (2, 1)
    assert not relations.runs_folder(rows).exists()
    assert checking.check(rows) == []
    # As files: what is there may come again, and nothing else.
    files = tmp_path / "files.duckdb"
    attaching.attach(files, [sealed])
    before = content(files)
    for given in ([sealed], [folder], [sealed / "r1", folder]):
        [done] = attaching.attach(files, given)
        assert (done.samples, done.known_samples) == (0, 3)
    with pytest.raises(StoreError, match=r"r1 is sealed .* has 1 samples more.*rrti db unseal r1"):
        attaching.attach(files, [some])
    assert content(files) == before
    sealing.unseal(files, "r1")
    [done] = attaching.attach(files, [some])
    assert (done.samples, done.known_samples) == (1, 1)
    # The store's own files, where sealing was cut off before they were registered.
    sealing.seal(files, "r1")
    with duckdb.connect(str(files)) as connection:
        for table in ("sealed_runs", "runs"):
            connection.execute(f"DELETE FROM {table}")
    assert [done.samples for done in attaching.attach(files, [relations.runs_folder(files)])] == [4]
    assert checking.check(files) == []


@pytest.mark.parametrize("stage", ["_refuse_contradictions", "_copy", "_insert_samples"])
def test_attaching_that_is_cut_off_changes_nothing(tmp_path, path, monkeypatch, stage):
    source = tmp_path / "source.duckdb"
    write(ParquetSink(tmp_path / "a"), samples(0, 1))
    attaching.attach(source, [tmp_path / "a"])
    sealing.seal(source, "r1")
    asyncio.run(begin_alone(ParquetSink(tmp_path / "b"), "r2"))
    given = [relations.runs_folder(source), tmp_path / "b"]  # files to copy, and then rows
    with Store.open(path) as store:
        store.add_problems([make_problem("p9")])
    before, step = content(path), getattr(attaching, stage)

    def dies(*args):
        step(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(attaching, stage, dies)
        with pytest.raises(KeyboardInterrupt):
            attaching.attach(path, given)
    assert content(path) == before
    assert list(relations.runs_folder(path).glob("*")) == []
    assert [done.run_id for done in attaching.attach(path, given)] == ["r1", "r2"]
    assert checking.check(path) == []


def test_half_a_sample_is_refused(tmp_path, path):
    folder = tmp_path / "parts"
    write(ParquetSink(folder), samples(0), status=None)
    [part] = [part for part in (folder / "r1").iterdir() if folders.Manifest.read(part).n_samples]
    tokens = part / "compact_tokens.parquet"
    pq.write_table(pq.read_table(tokens).slice(1), tokens)
    manifest = json.loads((part / "manifest.json").read_text())
    rows = manifest["files"][tokens.name]["rows"] - 1
    manifest["files"][tokens.name] = {"rows": rows, "sha256": folders.sha256(tokens)}
    manifest["n_tokens"] = rows
    (part / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"is not whole in {part}"):
        attaching.attach(path, [folder])


def test_a_damaged_part_is_refused(tmp_path):
    folder, path = tmp_path / "parts", tmp_path / "traces.duckdb"
    write(ParquetSink(folder), samples(0))
    part = min((folder / "r1").iterdir())
    (part / "runs.parquet").write_bytes((part / "runs.parquet").read_bytes() + b"?")
    with pytest.raises(StoreError, match=r"damaged: runs\.parquet was changed"):
        attaching.attach(path, [folder])
    assert not path.exists()


def test_snapshots_are_parts(tmp_path, path):
    """What a store that is being written held when it was asked can be taken elsewhere."""
    source = tmp_path / "source.duckdb"
    with Store.open(source) as store:
        write(DuckDBSink(store), samples(0, 1), status=None)
        snapshots.write(store._cursor(), source)
        write(DuckDBSink(store), samples(2), resume=True)
        snapshots.write(store._cursor(), source)
    [done] = attaching.attach(path, [snapshots.root_of(source)])
    assert (done.status, done.samples) == ("finished", 3)
    assert content(path) == content(source)


def test_a_folder_named_like_a_column_is_a_folder(tmp_path):
    place = tmp_path / "seed=7" / "k=9"
    write(ParquetSink(place / "parts"), samples(0))
    attaching.attach(place / "traces.duckdb", [place / "parts"])
    sealing.seal(place / "traces.duckdb", "r1")
    [row] = content(place / "traces.duckdb")["runs"]
    assert (row["seed"], row["k"]) == (2**40, 2)
    with Store.open_sealed(place / "traces.duckdb") as store:
        assert store.get_run("r1").seed == 2**40


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(ParquetSink("parts"), samples(0, 1))

    def rrti(*args):
        return CliRunner().invoke(commands.app, ["attach", *args])

    said = "run r1 (finished): 2 new samples, 7 tokens"
    assert rrti("parts").stdout == f"traces.duckdb: {said}\n"
    assert rrti("parts", "parts/r1", "other.duckdb").stdout == f"other.duckdb: {said}\n"
    assert rrti("parts").stdout.endswith("0 new samples, 0 tokens; 2 samples were there\n")
    for args in (["nope"], ["nope", "traces.duckdb"], ["parts", "nope", "parts"]):
        assert str(rrti(*args).exception).startswith("There is no folder nope")
    shutil.rmtree("parts/r1")
    assert "parts holds no sealed run and no parts" in str(rrti("parts").exception)
