"""Queries that need more than their memory: temporary files that are gone with the process, however it ends."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from rrti_sgl.db import connection, spilling
from rrti_sgl.db.sealing import seal
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from tests.db.conftest import make_run

LARGE = "SELECT md5(range::VARCHAR) AS a FROM range(900000) ORDER BY a"
HOLDER = f"""
import sys
from rrti_sgl.db.store import Store

with Store.open_readonly(sys.argv[1], memory_limit="40MB") as store:
    rows = store.batches({LARGE!r}, rows=1000)
    next(rows)
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.begin_run(make_run())
    return tmp_path / "traces.duckdb"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of temporary files, of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(spilling, "_folder_of_process", cache(spilling._folder_of_process.__wrapped__))
    return folder


def test_what_does_not_fit_goes_to_files_that_go_with_the_store(path, temporary):
    with Store.open_readonly(path, memory_limit="40MB") as store, Store.open_readonly(path, memory_limit="40MB") as second:
        rows = store.batches(LARGE, rows=100_000)
        first = len(next(rows))
        assert [each for each in temporary.rglob("*") if each.is_file()]
        assert first + sum(map(len, rows)) == 900_000
        assert folder_of(store) == folder_of(second)
    assert not [each for each in temporary.rglob("*") if each.is_file()]


def test_every_database_has_a_folder_of_its_own(path, tmp_path, temporary):
    with Store.open(tmp_path / "other.duckdb") as store:
        store.begin_run(make_run())
    seal(path, make_run().run_id, unfinished=True)
    with (
        Store.open_readonly(path) as one,
        Store.open_readonly(tmp_path / "other.duckdb") as other,
        Store.open_sealed(path) as sealed,
        Store.open_sealed(path) as again,
    ):
        folders = [folder_of(store) for store in (one, other, sealed, again)]
        assert len(set(folders)) == 4
        assert all(Path(each).parent.parent == temporary for each in folders)


def folder_of(store: Store) -> str:
    return str(store.sql("SELECT current_setting('temp_directory') AS folder")["folder"][0])


def test_no_room_for_temporary_files(path, temporary, monkeypatch):
    confine = connection.confine

    def with_little_room(opened, *folders):
        opened.execute("SET max_temp_directory_size = '200KB'")
        confine(opened, *folders)

    monkeypatch.setattr(connection, "confine", with_little_room)
    with Store.open_readonly(path, memory_limit="32MB") as store:
        with pytest.raises(StoreError, match=f"do not fit into {temporary}") as caught:
            list(store.batches(LARGE, rows=100_000))
        assert "TMPDIR" in caught.value.remedy
        assert store.sql("SELECT 1 AS a").num_rows == 1


def test_no_folder_for_temporary_files(path, temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError()))
    with Store.open_readonly(path, memory_limit="20MB") as store:
        assert store.sql("SELECT 1 AS a").num_rows == 1
        with pytest.raises(StoreError, match="more memory"):
            store.sql(LARGE)


def test_files_of_a_killed_process_are_removed_by_the_next(path, temporary):
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        left = [each for each in temporary.rglob("*") if each.is_file()]
        assert left
        spilling.remove_abandoned(temporary)
        assert all(each.exists() for each in left)  # they are in use
        process.kill()
    assert all(each.exists() for each in left)
    with Store.open_readonly(path):
        assert not any(each.exists() for each in left)
