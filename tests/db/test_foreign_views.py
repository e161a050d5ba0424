"""Views and macros that somebody put into a store: they read no file for whoever reads the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from rrti_sgl.cli import main
from tests.cli.fuzz.damaged import make_sources

READS = "SELECT content AS run_id, content AS sample_id FROM read_text('{secret}')"
HOSTILE = {
    "a view of runs": ("DROP VIEW run_view", f"CREATE VIEW run_view AS {READS}"),
    "a view of samples": ("DROP VIEW samples", f"CREATE VIEW samples AS {READS}"),
    "a function": ("CREATE MACRO json_extract_string(a, b) AS (SELECT content FROM read_text('{secret}'))",),
    "another in place of a function": ("CREATE MACRO count(a) AS (SELECT content FROM read_text('{secret}'))",),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_sources(folder)
    return folder


@pytest.mark.parametrize("statements", HOSTILE.values(), ids=HOSTILE)
def test_what_a_store_brings_reads_nothing_outside(
    sound: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], statements: tuple[str, ...]
) -> None:
    (tmp_path / "secret").write_text("of nobody's concern")
    store = tmp_path / "store.duckdb"
    store.write_bytes((sound / "store.duckdb").read_bytes())
    shutil.copytree(sound / "store.runs", tmp_path / "store.runs")
    assert main.run(["db", "upgrade", str(store)]) == 0
    with duckdb.connect(str(store)) as connection:
        for statement in statements:
            connection.execute(statement.format(secret=tmp_path / "secret"))
        if "VIEW" in statements[-1]:
            name = statements[0].split()[-1]
            assert connection.execute(f"SELECT run_id FROM {name}").fetchall() == [("of nobody's concern",)]  # for others
    for arguments in (
        *(["sql", f"FROM {name} LIMIT 3", "--db"] for name in ("run_view", "samples")),
        *(["db", "info"], ["db", "check"], ["stats", "accuracy", "--db"], ["db", "vacuum"], ["db", "seal", "run-a"]),
    ):
        assert main.run([*arguments, str(store)]) in (0, 1, 8)
        said = capfd.readouterr()
        assert "concern" not in said.out + said.err
