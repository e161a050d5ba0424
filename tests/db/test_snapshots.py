"""Reading a store while another process writes it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rrti_sgl.cli import db, sql
from rrti_sgl.db import maintenance, sealing, snapshots
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, StoreLockedError

BUILDERS = Path(__file__).parent / "conftest.py"
# Takes a line for each batch of samples to write, and says when it is written.
WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("builders", sys.argv[2])
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)
from rrti_sgl.db.store import Store
with Store.open(sys.argv[1]) as store:
    store.add_problems([builders.make_problem()])
    store.begin_run(builders.make_run("live", tau=None))
    for index, line in enumerate(sys.stdin):
        exact = {"kl": [1e-300, 0.5, 0.25]} if index % 2 else {}
        store.write_samples([builders.make_trace("live", index=index, tokens=exact)])
        if line == "finish\\n":
            store.finish_run("live", "finished")
        print(index, flush=True)
"""
COUNTS = "SELECT status, n_samples, n_tokens FROM run_view WHERE run_id = 'live'"


@pytest.fixture
def writer(path: Path, build) -> Iterator[subprocess.Popen[str]]:
    """A process that writes the run `live`; the run `done` is sealed beside it."""
    with Store.open(path) as store:
        store.add_problems([build["problem"]()])
        store.begin_run(build["run"]("done", tau=None))
        store.write_samples([build["trace"]("done")])
        store.finish_run("done", "finished")
    sealing.seal(path, "done")
    command = [sys.executable, "-c", WRITER, str(path), str(BUILDERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        say(process, "write")
        yield process
        assert process.stdin is not None
        process.stdin.close()
    assert process.returncode == 0


def say(writer: subprocess.Popen[str], word: str) -> None:
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(word + "\n")
    writer.stdin.flush()
    writer.stdout.readline()


def read(path: Path) -> list[dict[str, object]]:
    with Store.open_snapshot(path) as store:
        return store.sql(COUNTS).to_pylist()


def test_a_second_process_reads_what_is_being_written(path, writer):
    with pytest.raises(
        StoreLockedError,
        match=r"rrti db snapshot .*open\(\.\.\., snapshot=True\); its 1 sealed runs: open\(\.\.\., sealed=True\)\.",
    ):
        Store.open_readonly(path)
    snapshots.request(path)
    assert read(path) == [{"status": "running", "n_samples": 1, "n_tokens": 3}]
    say(writer, "write")  # in the exact layout
    say(writer, "write")
    assert read(path) == [{"status": "running", "n_samples": 1, "n_tokens": 3}]  # a snapshot does not change
    snapshots.request(path)
    assert read(path) == [{"status": "running", "n_samples": 3, "n_tokens": 9}]
    assert [part.name for part in snapshots.parts(path)] == ["000001", "000002"]
    snapshots.request(path)  # nothing is new
    assert len(snapshots.parts(path)) == 2
    say(writer, "finish")
    snapshots.request(path)
    with Store.open_snapshot(path) as store:
        assert store.sql("SELECT run_id, status, n_samples FROM run_view ORDER BY run_id").to_pylist() == [
            {"run_id": "done", "status": "finished", "n_samples": 1},
            {"run_id": "live", "status": "finished", "n_samples": 4},
        ]
        assert store.sql("SELECT count(*) AS n FROM token_view").to_pylist() == [{"n": 15}]
        ids = store.finished_samples("live")
        assert len(store.load_sample(min(ids)).tokens.token_id) == 3


def test_by_commands(path, writer):
    app = typer.Typer()
    app.add_typer(db.app, name="db")
    app.command("sql")(sql.sql)
    made = CliRunner().invoke(app, ["db", "snapshot", str(path)])
    assert made.stdout == f"{path}: 2 runs with 2 samples can be read with --snapshot\n"
    counted = CliRunner().invoke(app, ["sql", COUNTS, "--db", str(path), "--snapshot", "--csv"])
    assert counted.stdout.splitlines() == ["status,n_samples,n_tokens", "running,1,3"]


def test_snapshots_go_with_the_run_and_with_vacuum(path, build):
    def make(*runs: str) -> None:
        with Store.open(path) as store, store._cursor() as cursor:
            for run_id in runs:
                store.begin_run(build["run"](run_id))
                store.write_samples([build["trace"](run_id)])
                store.finish_run(run_id, "finished")
            snapshots.write(cursor, path)

    def names() -> list[str]:
        return [part.parent.name for part in snapshots.parts(path)]

    make("a", "b", "c")
    assert names() == ["a", "b", "c"]
    sealing.seal(path, "a")
    assert names() == ["b", "c"]
    maintenance.delete_run(path, "b")
    assert names() == ["c"]
    maintenance.vacuum(path)
    assert names() == []
    with Store.open_snapshot(path) as store:  # the sealed run is left
        assert [run.run_id for run in store.find_runs()] == ["a"]


def test_without_a_writer_nobody_answers(path):
    with pytest.raises(StoreLockedError, match=r"No snapshot of .* within 0.2 s.*Wait longer"):
        snapshots.request(path, 0.2)
    with pytest.raises(StoreError, match="no snapshot and no sealed runs"):
        Store.open_snapshot(path)
    assert list(snapshots.root_of(path).iterdir()) == []
    told = CliRunner().invoke(db.app, ["snapshot", str(path)])
    assert told.stdout == f"{path}: nobody writes it; read it as it is\n"


@pytest.mark.parametrize(("is_full", "reason"), [(False, r".*r1"), (True, "it could not write why, either")])
def test_a_snapshot_that_cannot_be_written_is_refused_with_the_reason(store, build, caplog, monkeypatch, is_full, reason):
    def full(path: Path, text: str, encoding: str) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if is_full:
        monkeypatch.setattr(Path, "write_text", full)
    store.begin_run(build["run"]())
    snapshots.root_of(store.path).mkdir(parents=True)
    (snapshots.root_of(store.path) / "r1").touch()  # where its folder should be
    for _ in range(1 + is_full):  # and the next one is answered, too
        with pytest.raises(StoreError, match=f"could not write a snapshot: {reason}"):
            snapshots.request(store.path, 30)
    assert "no snapshot" in caplog.text


def test_a_closed_store_leaves_no_thread(path):
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "store-snapshots"]

    before = names()  # of stores that fixtures of other modules hold
    store = Store.open(path)
    assert len(names()) == len(before) + 1
    store.close()
    assert names() == before
