"""A store of every earlier schema opens, upgrades with nothing lost, and is then used by every statistic."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from rrti_sgl import migrations
from rrti_sgl.db import checking, sealing
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.db.upgrading import BACKUP, upgrade_file
from rrti_sgl.errors import StoreError, StoreVersionError

STORES = Path(__file__).parent / "stores"
EARLIER = sorted(path.name.split(".")[0] for path in STORES.glob("*.duckdb.gz"))


def unpacked(revision: str, folder: Path) -> Path:
    path = folder / "traces.duckdb"
    path.write_bytes(gzip.decompress((STORES / f"{revision}.duckdb.gz").read_bytes()))
    return path


@pytest.fixture(params=EARLIER)
def earlier(request, tmp_path):
    return unpacked(request.param, tmp_path)


@pytest.fixture
def first(tmp_path):
    return unpacked("0001", tmp_path)


def test_there_is_a_store_of_every_earlier_schema():
    assert migrations.revisions()[:-1] == EARLIER


def test_a_stale_store_names_the_command(earlier):
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreVersionError, match=rf"Run: rrti db upgrade {earlier}"):
            opened(earlier)


def test_an_upgraded_store_keeps_every_row(first):
    tables = ("runs", "samples", "tokens", "problems", "calibrations")
    with duckdb.connect(str(first), read_only=True) as connection:
        before = {t: connection.execute(f"FROM {t} ORDER BY ALL").to_arrow_table().to_pylist() for t in tables}
    assert len(before["tokens"]) == 300
    before["samples"] = [{**row, "answer_method": None} for row in before["samples"]]  # nobody knew then
    assert upgrade_file(first) == ("0001", migrations.head())
    with Store.open_readonly(first) as store:
        assert {t: store.sql(f"FROM {t} ORDER BY ALL").to_pylist() for t in tables} == before
    assert sorted(file.name for file in first.parent.iterdir()) == [first.name]
    assert checking.check(first) == []


@pytest.mark.parametrize("sealed", [False, True], ids=["upgraded", "upgraded and sealed"])
@pytest.mark.parametrize("name", sorted(QUERIES))
def test_an_upgraded_store_answers_every_statistic(first, name, sealed):
    upgrade_file(first)
    if sealed:
        sealing.seal(first, "guided-1")
    with Store.open_readonly(first) as store:
        assert run_query(store, name).num_rows > 0


def test_an_upgraded_store_takes_new_samples(first, build):
    upgrade_file(first)
    with Store.open(first) as store:
        assert store.write_samples([build["trace"]("guided-1", "p9", 0)]) == 1
        assert store.sql("SELECT count(*) AS n FROM tokens WHERE run_id = 'guided-1'").to_pylist() == [{"n": 75}]


def test_a_failing_upgrade_leaves_the_file_as_it_was(first, monkeypatch, tmp_path):
    before = first.read_bytes()
    broken = tmp_path / "views.sql"
    broken.write_text("CREATE VIEW v AS SELECT * FROM nowhere")
    monkeypatch.setattr(migrations, "VIEWS_FILE", broken)
    with pytest.raises(Exception, match="nowhere"):
        upgrade_file(first)
    assert first.read_bytes() == before
    assert not first.with_name(first.name + BACKUP).exists()


def test_an_upgrade_that_was_cut_off_is_not_repeated_over_its_copy(first):
    copy = first.with_name(first.name + BACKUP)
    copy.write_bytes(b"the file from before")
    with pytest.raises(StoreError, match=rf"cut off.*mv {copy} {first}"):
        upgrade_file(first)
    assert copy.read_bytes() == b"the file from before"


def test_a_downgrade_refuses_sealed_runs(first):
    from rrti_sgl.db.upgrading import downgrade_file

    upgrade_file(first)
    sealing.seal(first, "base-1")
    with pytest.raises(StoreError, match=r"no place for sealed runs: base-1\..*rrti db unseal base-1"):
        downgrade_file(first, "0001")
    sealing.unseal(first, "base-1")
    assert downgrade_file(first, "0001") == ("0002", "0001")


HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1]) as connection:
    connection.execute("CREATE TABLE theirs AS SELECT 1 AS a")
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_somebody_opened_in_between_is_left_to_them(first, monkeypatch):
    command = [sys.executable, "-c", HOLD, str(first)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def too_late(*args):
            other.stdout.readline()
            raise StoreError("held")

        monkeypatch.setattr("rrti_sgl.db.upgrading.current_revision", lambda path: "0001")
        monkeypatch.setattr(migrations, "upgrade", too_late)
        with pytest.raises(StoreError, match="held"):
            upgrade_file(first)
        other.stdin.close()
    with duckdb.connect(str(first)) as connection:
        assert connection.execute("FROM theirs").fetchall() == [(1,)]
    assert not first.with_name(first.name + BACKUP).exists()
