"""Stores and folders from elsewhere: what they say of themselves leads nowhere, and is compared with what they hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli import db as commands
from rrti_sgl.db import attaching, checking, folders, maintenance, relations, sealing, upgrading
from rrti_sgl.db.store import Store
from rrti_sgl.errors import RRTIError, StoreError
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace

IDS = ["../../precious", "/{precious}", "a/../../../precious", "..", ".", "", ".hidden", "a\nb", "x" * 300, "a\\b"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "traces.duckdb"
    with Store.open(path) as opened:
        opened.add_problems([make_problem("p1"), make_problem("p2")])
        opened.add_calibration(make_calibration())
        opened.begin_run(make_run("a"))
        opened.write_samples([make_trace(run_id="a", problem_id=name, ce=np.arange(3.0)) for name in ("p1", "p2")])
        opened.finish_run("a", "finished")
    return path


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    """A store with the finished run `a`."""
    return Path(shutil.copy(finished, tmp_path))


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.tex").write_text("five years")
    return folder


def rename(store: Path, new: str, *, sealed: bool) -> None:
    with duckdb.connect(str(store)) as connection:
        for table in ("stored_samples", *relations.TOKEN_TABLES, "runs", *(["sealed_runs"] if sealed else [])):
            connection.execute(f"UPDATE {table} SET run_id = $new", {"new": new})


DOORS: dict[str, Callable[[Path, str], Any]] = {
    "open": lambda store, run: Store.open(store),
    "open_readonly": lambda store, run: Store.open_readonly(store),
    "upgrade": lambda store, run: upgrading.upgrade_file(store),
    "downgrade": lambda store, run: upgrading.downgrade_file(store, "0001"),
    "seal": lambda store, run: sealing.seal(store, run),
    "unseal": lambda store, run: sealing.unseal(store, run),
    "delete": lambda store, run: maintenance.delete_run(store, run),
    "plan": lambda store, run: maintenance.plan_deletion(store, run),
    "vacuum": lambda store, run: maintenance.vacuum(store),
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_an_id_that_is_a_path_is_refused_at_every_door(store: Path, precious: Path, door: str, sealed: bool) -> None:
    if sealed:
        sealing.seal(store, "a")
    for run_id in IDS if door == "open_readonly" else IDS[:2]:  # all doors ask one place
        named = run_id.replace("/{precious}", str(precious))
        rename(store, named, sealed=sealed)
        before = store.read_bytes()
        with pytest.raises(RRTIError, match="is no name of a folder"):
            DOORS[door](store, named)
        assert store.read_bytes() == before
        assert [path.name for path in precious.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("values", ["12", "NULL"])
def test_an_id_that_is_no_text_is_refused(tmp_path: Path, values: str) -> None:
    path = tmp_path / "traces.duckdb"
    Store.open(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP VIEW IF EXISTS run_view CASCADE")
        columns = connection.execute("SELECT * EXCLUDE run_id FROM runs").description
        others = ", ".join(f'NULL AS "{name}"' for name, *_ in columns)
        connection.execute(f"CREATE OR REPLACE TABLE runs AS SELECT {values}::INTEGER AS run_id, {others}")
    with pytest.raises(StoreError, match="is no name of a folder"):
        Store.open(path)


def test_a_link_in_place_of_a_folder_is_refused(store: Path, precious: Path) -> None:
    sealing.seal(store, "a")
    shutil.rmtree(relations.run_folder(store, "a"))
    (relations.runs_folder(store) / "a").symlink_to(precious)
    with pytest.raises(StoreError, match="is a link"):
        maintenance.delete_run(store, "a")
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]
    assert any("is a link" in finding.finding for finding in checking.check(store))


def test_a_deletion_names_the_folder_that_goes(store: Path) -> None:
    sealing.seal(store, "a")
    folder = relations.run_folder(store, "a")
    asked = CliRunner().invoke(commands.app, ["delete", "a", str(store)], input="n\n")
    assert f"The folder {folder} goes with it, 0.0 MB." in " ".join(asked.output.split())
    assert folder.exists()


def change(folder: Path, table: str, rows: Callable[[pa.Table], pa.Table], **said: Any) -> None:
    """Change a file of a folder and make the manifest's sums fit it."""
    path = relations.file_of(folder, table)
    changed = rows(pq.read_table(path))
    pq.write_table(changed, path)
    manifest = json.loads((folder / relations.MANIFEST).read_text())
    manifest["files"][path.name] = {"rows": changed.num_rows, "sha256": folders.sha256(path)}
    (folder / relations.MANIFEST).write_text(json.dumps(manifest | said))


def with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def other_run(table: pa.Table) -> pa.Table:
    return with_column(table, "run_id", pa.array(["b"] * table.num_rows))


LIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "more samples": (lambda folder: change(folder, "runs", lambda t: t, n_samples=3), "2 samples and 6 tokens, .* 3 and 6"),
    "fewer tokens": (lambda folder: change(folder, "runs", lambda t: t, n_tokens=5), "2 samples and 6 tokens, .* 2 and 5"),
    "a second run": (
        lambda folder: change(folder, "runs", lambda t: pa.concat_tables([t, other_run(t)])),
        "runs.parquet has rows of the run 'b'; runs.parquet has 2 rows and not one",
    ),
    "the run twice": (lambda folder: change(folder, "runs", lambda t: pa.concat_tables([t, t])), "2 rows and not one"),
    "no run": (lambda folder: change(folder, "runs", lambda t: t.slice(1)), "0 rows and not one"),
    "another run": (lambda folder: change(folder, "runs", other_run), "runs.parquet has rows of the run 'b'"),
    "tokens of another run": (
        lambda folder: change(folder, "compact_tokens", other_run),
        "compact_tokens.parquet has rows of the run 'b'",
    ),
    "another type": (
        lambda folder: change(folder, "compact_tokens", lambda t: with_column(t, "position", pa.array(["x"] * t.num_rows))),
        "compact_tokens.parquet: the column position is VARCHAR, in the store it is INTEGER",
    ),
    "no column": (
        lambda folder: change(folder, "stored_samples", lambda t: t.drop_columns(["finish_reason"])),
        "stored_samples.parquet: the column finish_reason is missing",
    ),
    "one column more": (
        lambda folder: change(folder, "stored_samples", lambda t: t.append_column("more", t["finish_reason"])),
        "the column more is .*, in the store it is unknown",
    ),
    "a count that is text": (
        lambda folder: change(folder, "runs", lambda t: t, n_samples="2"),
        "manifest cannot be read .n_samples: Input should be a valid integer",
    ),
    "files that are a list": (
        lambda folder: change(folder, "runs", lambda t: t, files=[]),
        "manifest cannot be read .files",
    ),
    "a part that is a path": (
        lambda folder: change(folder, "runs", lambda t: t, part="../../x"),
        "'../../x', which is no name of a folder",
    ),
    "no JSON": (lambda folder: (folder / relations.MANIFEST).write_bytes(b"\xff{") and None, "manifest cannot be read"),
    "nested JSON": (
        lambda folder: (folder / relations.MANIFEST).write_text("[" * 10**5) and None,
        "manifest cannot be read",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_folder_says_is_compared_with_what_it_holds(store: Path, tmp_path: Path, lie: str) -> None:
    sealing.seal(store, "a")
    folder, other = relations.run_folder(store, "a"), tmp_path / "other" / "traces.duckdb"
    tell, said = LIES[lie]
    with Store.open(other):
        pass
    before = other.read_bytes()
    tell(folder)
    with pytest.raises(StoreError, match=said):
        attaching.attach(other, [folder])
    with pytest.raises(StoreError, match=said):
        attaching.attach(tmp_path / "new" / "traces.duckdb", [folder])
    with Store.open_readonly(other) as opened:
        assert opened.find_runs() == []
    assert sorted(path.name for path in other.parent.iterdir()) == ["traces.duckdb"]
    assert not list((tmp_path / "new").glob("*"))
    assert len(other.read_bytes()) == len(before)
