"""A run's life: open, sealed, attached elsewhere, deleted; what others may read meanwhile; and what the checks find."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import duckdb
import pytest

from rrti_sgl.db import attaching, checking, folders, maintenance, relations, sealing, snapshots
from rrti_sgl.db.schema import describe
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, StoreLockedError, UsageError
from rrti_sgl.programs.reporting.listing import list_runs
from rrti_sgl.records import sample_key

UNKNOWN = "'zz' AS run_id, '2026-01-01' AS sealed_at, 0 AS n_samples, 0 AS n_tokens"
TABLES = ("runs", "problems", "calibrations", "samples", "tokens", "run_totals", "run_view")


@pytest.fixture
def filled(path, build):
    """Two finished runs, a (compact, with one exact sample) and b, on the problems p1 and p2."""
    with Store.open(path) as store:
        store.add_problems([build["problem"]("p1"), build["problem"]("p2")])
        for run_id in "ab":
            store.begin_run(build["run"](run_id))
            kl = {"kl": [1e-300, 0.5, 0.25]} if run_id == "a" else {}
            fired = {"fired": [False, True, True], "local_mean": [float("nan"), 0.0, 0.5]}
            store.write_samples(
                [build["trace"](run_id, "p1", tokens=fired), build["trace"](run_id, "p2", tokens=fired | kl)]
            )
            store.finish_run(run_id, "finished")
        store.add_calibration(build["calibration"](run_id="a"))
    return path


def content(store: Store) -> dict[str, list[dict[str, object]]]:
    return {table: store.sql(f"FROM {table} ORDER BY ALL").to_pylist() for table in TABLES}


def test_a_sealed_run_is_read_as_before(filled):
    with Store.open(filled) as store:
        before = content(store)
        sample = before["samples"][0]["sample_id"]
        trace = store.load_sample(sample)
    manifest = sealing.seal(filled, "a")
    assert (manifest.n_samples, manifest.n_tokens) == (2, 6)
    with Store.open(filled) as store:
        assert content(store) == before
        assert store.sql("SELECT count(*) AS n FROM stored_samples WHERE run_id = 'a'").to_pylist() == [{"n": 0}]
        assert store.load_sample(sample).sample == trace.sample
        assert store.finished_samples("a") == {row["sample_id"] for row in before["samples"] if row["run_id"] == "a"}
    folder = relations.runs_folder(filled)
    assert sorted(item.name for item in folder.iterdir()) == ["a"]
    assert checking.check(filled) == []
    assert sealing.unseal(filled, "a") == 6
    assert list(folder.iterdir()) == []
    with Store.open_readonly(filled) as store:
        assert content(store) == before


@pytest.mark.parametrize("total", ["n_takeovers", "n_graded", "n_correct", "n_problems"])
def test_totals_that_are_not_those_of_the_files_are_found(filled, total):
    sealing.seal(filled, "a")
    with duckdb.connect(str(filled)) as connection:
        connection.execute(f"UPDATE sealed_runs SET {total} = {total} + 1")
    [finding] = checking.check(filled)
    assert (finding.check, finding.run_id) == ("totals", "a")


def test_listing_opens_no_file_of_a_sealed_run(filled):
    with Store.open(filled) as store:
        tables = [table.data for table in list_runs(store)]
    for run_id in "ab":
        sealing.seal(filled, run_id)
    for path in relations.runs_folder(filled).rglob("*.parquet"):
        path.write_bytes(b"cut")
    with Store.open_readonly(filled) as store:
        assert [table.data for table in list_runs(store)] == tables
    facts, _ = describe(filled)
    assert (facts["samples"], facts["tokens"]) == (4, 12)


def test_a_sealed_run_takes_nothing_more(filled, build):
    sealing.seal(filled, "a")
    with Store.open(filled) as store:
        for call in (lambda: store.write_samples([build["trace"]("a", "p9")]), lambda: store.resume_run("a")):
            with pytest.raises(StoreError, match="Run a is sealed: its samples are fixed"):
                call()
        assert store.write_samples([build["trace"]("b", "p9")]) == 1


def test_what_cannot_be_sealed(filled, build):
    with Store.open(filled) as store:
        store.begin_run(build["run"]("c"))
    with pytest.raises(UsageError, match=r"c is not over.*resume='c'.*unfinished=True"):
        sealing.seal(filled, "c")
    assert sealing.seal(filled, "c", unfinished=True).n_samples == 0
    with pytest.raises(StoreError, match="c is sealed already"):
        sealing.seal(filled, "c")
    with pytest.raises(UsageError, match="no run 'nope'"):
        sealing.seal(filled, "nope")
    with pytest.raises(UsageError, match="'b' is not sealed"):
        sealing.unseal(filled, "b")


@pytest.mark.parametrize("stage", ["_write_file", "_compare", "publish", "register"])
def test_sealing_that_is_cut_off_loses_nothing_and_can_be_repeated(filled, monkeypatch, stage):
    with Store.open(filled) as store:
        before = content(store)

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sealing if stage == "register" else folders, stage, dies)
        with pytest.raises(KeyboardInterrupt):
            sealing.seal(filled, "a")
    with Store.open(filled) as store:
        assert content(store) == before
    sealing.seal(filled, "a")
    with Store.open_readonly(filled) as store:
        assert content(store) == before
    assert checking.check(filled) == []


def test_a_moved_store_finds_its_runs(filled, tmp_path):
    sealing.seal(filled, "a")
    with Store.open(filled) as store:
        before = content(store)
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in (filled.name, relations.runs_folder(filled).name):
        (filled.parent / name).rename(place / name)
    moved = place / filled.name
    with pytest.raises(StoreError, match=rf"was moved.*rrti db upgrade {moved}"):
        Store.open_readonly(moved)
    Store.open(moved).close()
    with Store.open_readonly(moved) as store:
        assert content(store) == before


def test_a_run_is_attached_to_another_store(filled, tmp_path, empty_store):
    sealing.seal(filled, "a")
    folder = relations.runs_folder(filled) / "a"
    other = tmp_path / "other.duckdb"
    shutil.copy(empty_store, other)
    [done] = attaching.attach(other, [folder])
    assert (done.run_id, done.status, done.samples, done.tokens, done.known_samples) == ("a", "finished", 2, 6, 0)
    with Store.open_readonly(filled) as mine, Store.open_readonly(other) as theirs:
        for table in TABLES:
            where = "" if table == "problems" else "WHERE run_id = 'a'"
            query = f"FROM {table} {where} ORDER BY ALL"
            assert theirs.sql(query).to_pylist() == mine.sql(query).to_pylist(), table
    assert checking.check(other) == []
    assert [path.name for path in relations.runs_folder(other).iterdir()] == ["a"]


@pytest.mark.parametrize("damage", ["no manifest", "a changed byte", "a missing file", "another schema", "a bad name"])
def test_a_bad_folder_is_not_attached(filled, tmp_path, empty_store, damage):
    sealing.seal(filled, "a")
    folder = relations.runs_folder(filled) / "a"
    manifest = json.loads((folder / "manifest.json").read_text())
    if damage == "no manifest":
        (folder / "manifest.json").unlink()
    elif damage == "a changed byte":
        data = bytearray((folder / "compact_tokens.parquet").read_bytes())
        data[len(data) // 2] ^= 1
        (folder / "compact_tokens.parquet").write_bytes(data)
    elif damage == "a missing file":
        (folder / "runs.parquet").unlink()
    else:
        changed = {"revision": "9999"} if damage == "another schema" else {"run_id": "../a"}
        (folder / "manifest.json").write_text(json.dumps(manifest | changed))
    other = tmp_path / "other.duckdb"
    shutil.copy(empty_store, other)
    with pytest.raises(StoreError, match=r"no manifest|SHA-256|runs.parquet is missing|schema 9999|no name of a folder"):
        attaching.attach(other, [folder])
    with Store.open_readonly(other) as store:
        assert store.find_runs() == []


def test_damage_to_a_sealed_run_is_found(filled):
    sealing.seal(filled, "a")
    file = relations.runs_folder(filled) / "a" / "exact_tokens.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    [finding] = checking.check(filled)
    assert (finding.check, finding.run_id) == ("files", "a")
    assert "exact_tokens.parquet was changed" in finding.finding


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        ("DELETE FROM compact_tokens WHERE run_id = 'b' AND position = 1", "samples", "says 3 tokens and has 2"),
        ("UPDATE compact_tokens SET position = 7 WHERE run_id = 'b' AND position = 2", "samples", "positions 0 to 7"),
        ("DELETE FROM stored_samples WHERE run_id = 'b'", "samples", "has 3 tokens but no row in samples"),
        ("UPDATE stored_samples SET n_takeovers = 9 WHERE run_id = 'b'", "samples", "says 9 takeovers and has 2"),
        ("UPDATE stored_samples SET n_changed = 9 WHERE run_id = 'b'", "samples", "says 9 changed tokens and has 0"),
        ("UPDATE stored_samples SET problem_id = 'p9' WHERE run_id = 'b'", "samples", "problem p9, which is not there"),
        ("DELETE FROM runs WHERE run_id = 'b'", "samples", "belongs to a run that is not there"),
        ("UPDATE compact_tokens SET fired = NOT fired WHERE run_id = 'b' AND position = 1", "decisions", "position 1"),
        ("UPDATE compact_tokens SET score = 0.25 WHERE run_id = 'b' AND position = 2", "decisions", "position 2"),
        ("UPDATE compact_tokens SET local_mean = 7 WHERE run_id = 'b' AND position = 2", "local_means", "position 2"),
        ("UPDATE compact_tokens SET base_topk_ids = [3, 99] WHERE run_id = 'b'", "lists", "ids outside the vocabulary"),
        ("UPDATE compact_tokens SET base_topk_ids = [3, 3] WHERE run_id = 'b'", "lists", "an id twice"),
        ("UPDATE compact_tokens SET base_topk_ids = [3] WHERE run_id = 'b'", "lists", "of different number"),
        ("UPDATE compact_tokens SET base_topk_ids = [], base_topk_codes = [] WHERE run_id = 'b'", "lists", "no entries"),
        ("UPDATE compact_tokens SET base_topk_codes = [5, 6] WHERE run_id = 'b'", "lists", "above 1 together"),
        ("UPDATE compact_tokens SET base_topk_codes = [200, 100] WHERE run_id = 'b'", "lists", "that rise"),
        ("UPDATE runs SET calibration_id = 'x' WHERE run_id = 'b'", "references", "names calibration x"),
        ("UPDATE stored_samples SET parent_sample_id = 'x' WHERE run_id = 'b'", "references", "continues sample x"),
        (f"INSERT INTO sealed_runs BY NAME SELECT {UNKNOWN}", "files", "manifest cannot be read"),
    ],
)
def test_what_is_wrong_is_found_where_it_is(filled, change, check, said):
    assert checking.check(filled) == []
    with duckdb.connect(str(filled)) as connection:
        connection.execute(change)
    found = [finding for finding in checking.check(filled) if finding.check == check and said in finding.finding]
    assert found
    assert {finding.run_id for finding in found} <= {"b", "zz"}


HOLD = """
import sys
from rrti_sgl.db.store import Store
with Store.open(sys.argv[1]) as store:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_sealed_runs_are_read_while_another_process_writes(filled):
    with Store.open(filled) as store:
        before = content(store)
    sealing.seal(filled, "a")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(filled)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=rf"process {holder.pid}.*its 1 sealed runs: open\(\.\.\., sealed=True\)"):
            Store.open_readonly(filled)
        with Store.open_sealed(filled) as store:
            for table in TABLES:
                rows = before[table] if table == "problems" else [r for r in before[table] if r["run_id"] == "a"]
                assert store.sql(f"FROM {table} ORDER BY ALL").to_pylist() == rows, table
            assert store.sql("SELECT run_id, n_tokens FROM run_view").to_pylist() == [{"run_id": "a", "n_tokens": 6}]
        with pytest.raises(StoreLockedError):
            sealing.seal(filled, "b")
        holder.stdin.close()
    assert holder.returncode == 0


OPEN = """
import sys
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreLockedError
try:
    Store.open(sys.argv[1])
except StoreLockedError:
    print("locked")
"""


def test_nobody_writes_to_a_store_while_it_is_vacuumed(filled, monkeypatch):
    """From the first row copied to the step that replaces the file."""
    with Store.open(filled) as store:
        before = content(store)
    said = []

    def another_writer(step):
        def stepping(*args, **kwargs):
            result = step(*args, **kwargs)
            done = subprocess.run([sys.executable, "-c", OPEN, str(filled)], stdout=subprocess.PIPE, text=True, check=True)
            said.append(done.stdout)
            return result

        return stepping

    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "_copy", another_writer(maintenance._copy))
        patch.setattr(maintenance.os, "fsync", another_writer(os.fsync))
        maintenance.vacuum(filled)
    assert set(said) == {"locked\n"}
    assert len(said) >= 2
    with Store.open(filled) as store:
        assert content(store) == before


def test_what_was_written_between_the_steps_of_a_vacuum_stays(filled, monkeypatch):
    def wal(*args):  # as a writer leaves it that was killed just then
        filled.with_name(f"{filled.name}.wal").write_bytes(b"")

    monkeypatch.setattr(snapshots, "discard", wal)
    inode = filled.stat().st_ino
    with pytest.raises(StoreError, match=r"was written to meanwhile.*Try again"):
        maintenance.vacuum(filled)
    assert filled.stat().st_ino == inode
    assert not list(filled.parent.glob("*.vacuum*"))


def test_a_run_whose_files_are_lost_can_be_deleted(filled, build):
    with Store.open(filled) as store:
        store.begin_run(build["run"]("c"))
        store.write_samples([build["trace"]("c", parent_sample_id=sample_key("b", "p1", 0), parent_position=1, arm="taken")])
    for run_id in "ab":
        sealing.seal(filled, run_id)
    shutil.rmtree(relations.run_folder(filled, "a"))
    with Store.open(filled) as store, pytest.raises(StoreError, match=r"No files found.*put them back"):
        store.sql("SELECT count(*) FROM samples")
    assert maintenance.plan_deletion(filled, "b").continued == 1
    assert maintenance.delete_run(filled, "a").rows["samples"] == 2
    assert checking.check(filled) == []


def test_a_folder_of_another_run_is_not_taken_for_a_run_s(filled):
    for run_id in "ab":
        sealing.seal(filled, run_id)
    a, b = (relations.run_folder(filled, run_id) for run_id in "ab")
    shutil.rmtree(a)
    shutil.copytree(b, a)
    assert [(found.check, found.run_id) for found in checking.check(filled)] == [("files", "a")]
    with pytest.raises(StoreError, match=r"a is of run 'b' and not of the one that it is named after"):
        sealing.unseal(filled, "a")


def test_a_store_without_sealed_runs_says_so(filled):
    with pytest.raises(StoreError, match="no sealed runs"):
        Store.open_sealed(filled)


def test_deleting_a_run_takes_what_is_its_alone(filled):
    sealing.seal(filled, "a")
    plan = maintenance.plan_deletion(filled, "a")
    assert plan.folder == relations.runs_folder(filled) / "a"
    assert plan.folder_bytes == sum(path.stat().st_size for path in plan.folder.iterdir()) > 0
    assert dict(plan.rows) == {"runs": 1, "calibrations": 1, "problems": 0, "samples": 2, "tokens": 6}
    assert maintenance.delete_run(filled, "a") == plan
    assert list(relations.runs_folder(filled).iterdir()) == []
    with Store.open(filled) as store:
        assert [run.run_id for run in store.find_runs()] == ["b"]
        assert len(content(store)["tokens"]) == 6
        assert len(content(store)["problems"]) == 2
    assert maintenance.delete_run(filled, "b").rows["problems"] == 2
    with Store.open(filled) as store:
        assert content(store) == {table: [] for table in TABLES}
    with pytest.raises(UsageError, match="no run 'b'"):
        maintenance.plan_deletion(filled, "b")


def test_a_calibration_that_another_run_decides_by_stays(filled):
    with duckdb.connect(str(filled)) as connection:
        connection.execute("UPDATE runs SET calibration_id = 'cal1' WHERE run_id = 'b'")
    maintenance.delete_run(filled, "a")
    with Store.open_readonly(filled) as store:
        assert store.get_calibration("cal1").run_id == "a"
    assert checking.check(filled) == []


def test_vacuum_gives_space_back_and_changes_nothing(filled, build):
    with Store.open(filled, precision="exact") as store:
        store.begin_run(build["run"]("big"))
        store.write_samples([build["trace"]("big", "p1", i, ce=[float(j) for j in range(2000)]) for i in range(40)])
        store.finish_run("big", "finished")
    sealing.seal(filled, "a")
    maintenance.delete_run(filled, "big")
    with Store.open(filled) as store:
        before = content(store)
    size, smaller = maintenance.vacuum(filled)
    assert smaller < size
    with Store.open(filled) as store:
        assert content(store) == before
        assert store.precision == "exact"
    assert checking.check(filled) == []
    assert sorted(item.name for item in filled.parent.iterdir()) == [filled.name, relations.runs_folder(filled).name]
