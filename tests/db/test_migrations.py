"""The schema goes up, down and up again, and is the one that the records and the page declare."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import duckdb
import pytest

from rrti_sgl import migrations, records
from rrti_sgl.db.schema import describe, schema_markdown
from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import TABLES
from rrti_sgl.db.upgrading import downgrade_file, upgrade_file
from rrti_sgl.errors import StoreError, StoreVersionError, UsageError
from rrti_sgl.science.metrics import METRICS
from tests.db.conftest import declared, tables_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def new_stores_are_copies() -> None:
    """Here they are made as they are for everybody."""


def relations(path):
    with duckdb.connect(str(path)) as connection:
        query = "SELECT table_name FROM information_schema.tables ORDER BY table_name"
        return [name for (name,) in connection.execute(query).fetchall()]


def test_up_down_up(tmp_path, build):
    path = tmp_path / "a folder" / "100%.duckdb"
    assert upgrade_file(path) == (None, "0004")
    tables = ["calibrations", "compact_tokens", "exact_tokens", "problems", "runs", "sealed_runs", "store_settings"]
    views = ["run_totals", "run_view", "sample_view", "samples", "token_view", "tokens"]
    views += ["sealed_compact_tokens", "sealed_exact_tokens", "sealed_samples"]
    assert relations(path) == sorted(["alembic_version", "stored_samples", *tables, *views])
    assert tables_of(path) == declared()
    assert upgrade_file(path) == ("0004", "0004")
    with Store.open(path) as store:
        store.begin_run(build["run"]())
        trace = build["trace"]()
        assert store.write_samples([trace]) == 1
        before = store.sql("SELECT * FROM tokens ORDER BY position").to_pylist()
    assert downgrade_file(path, "0001") == ("0004", "0001")
    assert relations(path) == ["alembic_version", "calibrations", "problems", "runs", "samples", "tokens"]
    with duckdb.connect(str(path)) as connection:
        older = connection.execute("SELECT * FROM tokens ORDER BY position").to_arrow_table().to_pylist()
    assert older == before
    assert upgrade_file(path) == ("0001", "0004")
    with Store.open_readonly(path) as store:
        assert store.sql("SELECT * FROM tokens ORDER BY position").to_pylist() == before
    assert downgrade_file(path, "base") == ("0004", None)
    assert relations(path) == ["alembic_version"]
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_a_failing_upgrade_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "x.duckdb"
    broken = tmp_path / "views.sql"
    broken.write_text("CREATE VIEW v AS SELECT * FROM nowhere")
    monkeypatch.setattr(migrations, "VIEWS_FILE", broken)
    with pytest.raises(Exception, match="nowhere"):
        migrations.upgrade(path)
    assert relations(path) == []


def test_refusals(tmp_path, path):
    with pytest.raises(UsageError, match=r"no revision 'x'.*0001, 0002, 0003, 0004, head"):
        upgrade_file(path, "x")
    with pytest.raises(UsageError, match=r"cannot go back to '0004'.*base, 0001, 0002, 0003"):
        downgrade_file(path, "0004")
    with pytest.raises(StoreError, match="no store to downgrade"):
        downgrade_file(tmp_path / "none.duckdb", "base")
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for call in (upgrade_file, lambda file: downgrade_file(file, "base")):
        with pytest.raises(StoreVersionError, match="newer than 0004"):
            call(path)
    other = tmp_path / "other.duckdb"
    with duckdb.connect(str(other)) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    with pytest.raises(StoreError, match="holds cats"):
        upgrade_file(other)
    assert relations(other) == ["cats"]


def test_revisions_are_those_of_alembic():
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations.HERE))
    assert [item.revision for item in reversed(list(script.walk_revisions()))] == migrations.revisions()


def test_comments_follow_the_declaration_without_a_revision(path):
    with duckdb.connect(str(path)) as connection:
        connection.execute("COMMENT ON COLUMN exact_tokens.ce IS 'as an earlier version said'")
    assert tables_of(path) != declared()
    assert upgrade_file(path) == ("0004", "0004")
    assert tables_of(path) == declared()


def test_the_exact_layout_has_the_fields_of_its_record_in_order():
    fields = [field.name for field in dataclasses.fields(records.TokenColumns)]
    at = fields.index("metrics")
    expected = ["run_id", "sample_id", "position", *fields[:at], *METRICS, *fields[at + 1 :]]
    assert list(TABLES["exact_tokens"].names) == expected


def test_every_column_is_described():
    for table in TABLES.values():
        assert table.comment
        assert all(column.comment.endswith(".") for column in table.columns)


def test_the_schema_page_is_current():
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    assert page == schema_markdown(), "run: rrti db schema > docs/schema.md"


def test_describe(path, build):
    with Store.open(path) as store:
        store.begin_run(build["run"]())
        store.write_samples([build["trace"]()])
    facts, runs = describe(path)
    assert (facts["revision"], facts["runs"], facts["tokens"]) == ("0004", 1, 3)
    assert [(run["run_id"], run["n_tokens"], run["rho"]) for run in runs] == [("r1", 3, 0.0)]
