"""A store of every earlier schema opens, upgrades with nothing lost, and is then used by every statistic."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import duckdb
import pytest

from rrti_sgl import migrations
from rrti_sgl.db import attaching, checking, maintenance, sealing, snapshots
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.db.upgrading import BACKUP, current_revision, upgrade_file
from rrti_sgl.errors import StoreError, StoreLockedError, StoreVersionError, UsageError
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.scoring.settings import ScoreSettings
from tests.db.conftest import declared, tables_of
from tests.db.earlier import REVISIONS, unpacked


@pytest.fixture(autouse=True)
def new_stores_are_copies() -> None:
    """Here they are made as they are for everybody."""


def rows_of(path: Path) -> dict[str, list[dict[str, object]]]:
    """The rows that lie in the file itself, by the names that tables have now."""
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute("SELECT table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        rows = {name: connection.execute(f"FROM {name} ORDER BY ALL").to_arrow_table().to_pylist() for (name,) in found}
    renamed = {"samples": "stored_samples", "tokens": "exact_tokens"}
    return {renamed.get(name, name): rows[name] for name in rows if name not in ("alembic_version", "store_settings")}


def with_kind(run: dict[str, object]) -> dict[str, object]:
    """A row of `runs` as an upgrade leaves it; the configuration's text is compared by what it says."""
    kind = run["program"] if run["program"] in ("score", "frontend", "counterfactual") else "run"
    return {**run, "config": {"kind": kind, **json.loads(str(run["config"]))}}


@pytest.fixture(params=REVISIONS)
def earlier(request, tmp_path):
    return unpacked(request.param, tmp_path / "traces.duckdb")


@pytest.fixture
def first(tmp_path):
    return unpacked("0001", tmp_path / "traces.duckdb")


@pytest.fixture
def second(tmp_path):
    """Compact and exact tokens, runs of every kind, two of them sealed."""
    return unpacked("0002", tmp_path / "traces.duckdb")


def revision_of(revision: str) -> ModuleType:
    [path] = (migrations.HERE / "versions").glob(f"{revision}_*.py")
    return importlib.import_module(f"rrti_sgl.migrations.versions.{path.stem}")


def test_there_is_a_store_of_every_earlier_schema():
    assert migrations.revisions()[:-1] == REVISIONS


def test_a_stale_store_names_the_command(earlier):
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreVersionError, match=rf"Run: rrti db upgrade {earlier}"):
            opened(earlier)


def test_an_upgraded_store_keeps_every_row(earlier):
    revision, before = current_revision(earlier), rows_of(earlier)
    assert len(before["exact_tokens"]) + len(before.get("compact_tokens", [])) >= 300
    assert upgrade_file(earlier) == (revision, migrations.head())
    assert tables_of(earlier) == declared()
    after = rows_of(earlier)
    for rows in (before["stored_samples"], after["stored_samples"]):
        rows[:] = [{"answer_method": None, **row} for row in rows]  # nobody knew at first
    assert [{**run, "config": json.loads(run["config"])} for run in after.pop("runs")] == [
        with_kind(run) for run in before.pop("runs")
    ]
    for row in after["sealed_runs"]:
        for name in revision_of("0004").COLUMNS:
            assert row.pop(name) is not None or name == "problems"  # a run of continuations has no whole solutions
    assert {name: rows for name, rows in after.items() if rows} == before
    assert not earlier.with_name(earlier.name + BACKUP).exists()
    assert checking.check(earlier) == []


def test_a_revision_makes_the_tables_that_it_made(earlier, tmp_path):
    def without_comments(path: Path) -> dict[str, list[list[object]]]:
        return {table: [column[:-1] for column in columns] for table, [_, *columns] in tables_of(path).items()}

    fresh = tmp_path / "fresh.duckdb"
    upgrade_file(fresh, current_revision(earlier))
    assert without_comments(fresh) == without_comments(earlier)


def test_compact_tokens_of_0002_read_as_they_did(second):
    with duckdb.connect(str(second)) as connection:
        query = f"SELECT * FROM ({revision_of('0002').COMPACT_AS_EXACT}) ORDER BY run_id, sample_id, position"
        before = connection.execute(query).to_arrow_table()
    upgrade_file(second)
    with Store.open_readonly(second) as store:
        columns = ", ".join(before.column_names)
        query = f"SELECT {columns} FROM tokens SEMI JOIN compact_tokens USING (run_id, sample_id) ORDER BY ALL"
        assert store.sql(query).to_pylist() == before.to_pylist()
        assert {row["name"] for row in store.sql("SELECT DISTINCT score_is AS name FROM compact_tokens").to_pylist()} == {
            "ce"
        }


def test_runs_that_were_sealed_before_are_read_taken_up_and_passed_on(second, tmp_path):
    upgrade_file(second)
    kinds = {"guided-1": "run", "score-2": "score"}
    with Store.open_readonly(second) as store:
        query = "SELECT * FROM tokens WHERE run_id IN ('guided-1', 'score-2') ORDER BY run_id, sample_id, position"
        rows = store.sql(query).to_pylist()
    assert len(rows) == 132
    with Store.open_sealed(second) as store:  # the files alone, written when no configuration said its kind
        assert {run.run_id: run.kind for run in store.find_runs()} == kinds
        assert store.sql(query).to_pylist() == rows
    other = tmp_path / "other.duckdb"
    upgrade_file(other)
    attaching.attach(other, [second.with_suffix(".runs")])
    for run_id in kinds:
        sealing.unseal(second, run_id)
    for path in (other, second):
        with Store.open_readonly(path) as store:
            assert {run_id: store.get_run(run_id).kind for run_id in kinds} == kinds
            assert store.sql(query).to_pylist() == rows
    assert checking.check(other) == checking.check(second) == []


def test_a_run_sealed_by_a_newer_version_is_refused(second, tmp_path):
    manifest = second.with_suffix(".runs") / "score-2" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"0002"', '"0999"'))
    upgrade_file(second)
    with pytest.raises(StoreVersionError, match=r"schema 0999; this version reads up to .* Update rrti-sgl"):
        Store.open_sealed(second)


def test_runs_whose_files_are_away_are_upgraded_listed_and_added_up_later(second, tmp_path):
    totals = "SELECT run_id, n_samples, n_tokens, rho, accuracy FROM run_view ORDER BY run_id"
    folder, away = second.with_suffix(".runs") / "guided-1", tmp_path / "away"
    folder.rename(away)
    upgrade_file(second)
    with Store.open_readonly(second) as store:
        before = {row["run_id"]: row for row in store.sql(totals).to_pylist()}
        assert before["guided-1"] == {"run_id": "guided-1", "n_samples": 6, "n_tokens": 72, "rho": None, "accuracy": None}
        assert run_query(store, "accuracy", run="base-1", resamples=0).num_rows
        of_it = ("count(*)", "sum(n_tokens) FILTER (n_takeovers > 0)", "DISTINCT run_id")
        for query in (*(f"SELECT {asked} FROM samples" for asked in of_it), "FROM tokens WHERE score > 1 AND run_id = 'x'"):
            with pytest.raises(StoreError, match=r"files of sealed runs are away \(guided-1\)"):
                store.sql(query)
    assert {finding.run_id for finding in checking.check(second)} == {"guided-1"}
    away.rename(folder)
    with pytest.raises(StoreError, match=r"put them back, then run `rrti db upgrade`\.$"):
        checking.check(second)
    upgrade_file(second)
    assert checking.check(second) == []
    with Store.open_readonly(second) as store:
        after = {row["run_id"]: row for row in store.sql(totals).to_pylist()}
    assert after["guided-1"]["rho"] > 0
    assert {**after, "guided-1": None} == {**before, "guided-1": None}


def test_what_a_run_is_is_asked_of_its_kind(second):
    upgrade_file(second)
    with Store.open_readonly(second) as store:
        runs = {run.run_id: run for run in store.find_runs()}
    assert RunSettings.from_dict(runs["entropy-2"].config) == RunSettings.from_dict(runs["counterfactual-2"].config)
    assert ScoreSettings.from_dict(runs["score-2"].config).input.path == "texts.jsonl"
    for name, message in (("score-2", "scored texts that were given"), ("frontend-2", "frontend")):
        with pytest.raises(UsageError, match=message):
            RunSettings.from_dict(runs[name].config)
    assert runs["entropy-2"].config_hash == "hash-entropy-2"


def test_snapshots_do_not_outlive_an_upgrade(second):
    snapshot = snapshots.root_of(second) / "entropy-2" / "000001"
    snapshot.mkdir(parents=True)
    upgrade_file(second)
    assert not snapshots.root_of(second).exists()


# The oldest, and the first in which tokens are compact and runs are sealed; what differs beyond that is held by the rest.
FAST = {("0001", True), ("0002", False)}
EVERY = [
    pytest.param(each, marks=() if each in FAST else pytest.mark.slow, id=str(each))
    for each in itertools.product(REVISIONS, (False, True))
]


@pytest.fixture(scope="module", params=EVERY)
def upgraded(request, tmp_path_factory):
    """A store of an earlier schema, upgraded; also with a run that was sealed after that."""
    revision, sealed = request.param
    path = unpacked(revision, tmp_path_factory.mktemp("upgraded") / "traces.duckdb")
    upgrade_file(path)
    if sealed:
        sealing.seal(path, "diagnose-1")
    with Store.open_readonly(path) as store:
        yield store


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - {"pivotal"}))
def test_an_upgraded_store_answers_every_statistic(upgraded, name):
    assert run_query(upgraded, name, resamples=20).num_rows > 0


def test_an_upgraded_store_says_what_nobody_did_then(upgraded):
    with pytest.raises(UsageError, match="searched for pivotal tokens"):
        run_query(upgraded, "pivotal", resamples=20)


def test_an_upgraded_store_takes_new_samples(earlier, build):
    upgrade_file(earlier)
    with Store.open(earlier) as store:
        assert store.write_samples([build["trace"]("diagnose-1", "p9", 0)]) == 1
        assert store.sql("SELECT count(*) AS n FROM tokens WHERE run_id = 'diagnose-1'").to_pylist() == [{"n": 75}]


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
    assert downgrade_file(first, "0001") == (migrations.head(), "0001")


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
            upgrade(*args)

        upgrade = migrations.upgrade
        monkeypatch.setattr("rrti_sgl.db.upgrading.current_revision", lambda path: "0001")
        monkeypatch.setattr(migrations, "upgrade", too_late)
        with pytest.raises(StoreLockedError, match=r"is held open by .*, process \d+\. Wait until it is done"):
            upgrade_file(first)
        other.stdin.close()
    with duckdb.connect(str(first)) as connection:
        assert connection.execute("FROM theirs").fetchall() == [(1,)]
    assert not first.with_name(first.name + BACKUP).exists()


@pytest.mark.parametrize("name", ["a?access_mode=READ_ONLY", "a%20b#c", "ü @:x"])
def test_a_store_may_have_any_name(tmp_path: Path, name: str) -> None:
    _, revision = upgrade_file(tmp_path / name)
    assert (tmp_path / name).is_file()
    assert current_revision(tmp_path / name) == revision


def test_a_folder_is_not_vacuumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is a folder"):
        maintenance.vacuum(Path())
