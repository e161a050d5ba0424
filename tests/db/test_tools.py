"""The user's tools read the store: pandas, polars, Arrow, plain DuckDB on file and sealed folder, a notebook cell."""

from __future__ import annotations

import io
import json

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from rrti_sgl.cli import db, sql
from rrti_sgl.db import relations, sealing
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, UsageError

app = typer.Typer()
app.add_typer(db.app, name="db")
app.command("sql")(sql.sql)
QUERY = "SELECT position, ce, base_topk_ids FROM tokens WHERE run_id = 'a' ORDER BY position"
EXPECTED = [{"position": i, "ce": float(i), "base_topk_ids": [3, 5]} for i in range(3)]


def rrti(*args, **kwargs):
    result = CliRunner().invoke(app, [str(arg) for arg in args], **kwargs)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def sealed(path, build):
    """Run a sealed, run b open."""
    with Store.open(path) as store:
        store.add_problems([build["problem"]()])
        for run_id in "ab":
            store.begin_run(build["run"](run_id, tau=None))
            store.write_samples([build["trace"](run_id)])
            store.finish_run(run_id, "finished")
    sealing.seal(path, "a")
    return path


def test_arrow_pandas_and_polars(sealed):
    with Store.open_readonly(sealed) as store:
        table = store.sql(QUERY)
    assert table.to_pylist() == EXPECTED
    assert table.to_pandas()["ce"].tolist() == [0.0, 1.0, 2.0]
    assert pl.from_arrow(table)["base_topk_ids"].to_list() == [[3, 5]] * 3


def test_plain_duckdb_on_the_file(sealed, monkeypatch):
    monkeypatch.chdir("/")
    with duckdb.connect(str(sealed), read_only=True) as connection:
        assert connection.execute(QUERY).to_arrow_table().to_pylist() == EXPECTED
        assert connection.execute("SELECT run_id, n_tokens FROM run_view ORDER BY 1").fetchall() == [("a", 3), ("b", 3)]


def test_plain_tools_on_the_sealed_folder(sealed):
    folder = relations.runs_folder(sealed) / "a"
    file = folder / "compact_tokens.parquet"
    query = f"SELECT score, base_topk_ids FROM '{file}' ORDER BY position"
    assert duckdb.sql(query).fetchall() == [(0.0, [3, 5]), (1.0, [3, 5]), (2.0, [3, 5])]
    assert pd.read_parquet(file)["score"].tolist() == [0.0, 1.0, 2.0]
    assert pl.read_parquet(file)["score"].to_list() == [0.0, 1.0, 2.0]
    assert pq.read_table(folder / "stored_samples.parquet").column("n_tokens").to_pylist() == [3]


def test_a_notebook_cell_shows_a_table(sealed):
    with Store.open_readonly(sealed) as store:
        html = store.sql(QUERY).to_pandas()._repr_html_()
    assert "<th>ce</th>" in html


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM glob('{folder}/../*')",
        "SELECT * FROM read_text('{folder}/../{name}')",
        "SELECT * FROM read_text('{folder}x/secret')",
        "SELECT * FROM read_parquet('http://127.0.0.1:9/x.parquet')",
    ],
)
@pytest.mark.parametrize("how", ["open", "open_readonly", "open_sealed"])
def test_sql_on_sealed_runs_reaches_no_other_file(sealed, how, query):
    outside = sealed.parent / "secret.csv"
    outside.write_text("a\n1\n")
    folder = relations.runs_folder(sealed)
    with getattr(Store, how)(sealed) as store:
        assert store.sql(QUERY).to_pylist() == EXPECTED
        with pytest.raises(StoreError, match=r"operations are disabled|Permission|httpfs|Cannot access"):
            store.sql(query.format(outside=outside, folder=folder, name=outside.name))


@pytest.mark.parametrize("how", ["open", "open_readonly", "open_sealed"])
def test_sql_cannot_write_into_the_sealed_folder(sealed, how):
    folder = relations.runs_folder(sealed)
    before = {file: file.read_bytes() for file in folder.rglob("*.*")}
    target = folder / "a" / "compact_tokens.parquet"
    with getattr(Store, how)(sealed) as store:
        for query in (f"COPY tokens TO '{target}'", f"EXPLAIN ANALYZE COPY tokens TO '{target}'"):
            with pytest.raises(StoreError, match="not allowed"):
                store.sql(query)
    assert {file: file.read_bytes() for file in folder.rglob("*.*")} == before


def test_formats(sealed, tmp_path):
    assert json.loads(rrti("sql", QUERY, "--db", sealed, "--format", "json").stdout) == EXPECTED
    text = rrti("sql", QUERY, "--db", sealed, "--format", "csv").stdout
    assert pd.read_csv(io.StringIO(text))["ce"].tolist() == [0.0, 1.0, 2.0]
    out = tmp_path / "x.parquet"
    assert rrti("sql", QUERY, "--db", sealed, "--format", "parquet", "--out", out).stdout == f"{out}: 3 rows\n"
    assert pq.read_table(out).to_pylist() == EXPECTED
    assert rrti("sql", QUERY, "--db", sealed).stdout.endswith("3 rows\n")
    for options in (("--format", "parquet"), ("--out", out)):
        with pytest.raises(UsageError, match="--format parquet --out FILE"):
            rrti("sql", QUERY, "--db", sealed, *options)
    counted = rrti("sql", "SELECT count(*) AS n FROM runs", "--db", sealed, "--sealed", "--json").stdout
    assert json.loads(counted) == [{"n": 1}]


def test_life_of_a_run_by_commands(sealed, tmp_path, empty_store):
    assert "1 samples, 3 tokens" in rrti("db", "seal", "b", sealed).stdout
    assert rrti("db", "check", sealed).stdout == f"{sealed}: no findings\n"
    assert rrti("db", "unseal", "b", sealed).stdout == f"{sealed}: run b is open again, 3 tokens\n"
    other = tmp_path / "other.duckdb"
    other.write_bytes(empty_store.read_bytes())
    assert "run a (finished): 1 new samples" in rrti("db", "attach", relations.runs_folder(sealed) / "a", other).stdout
    [facts] = json.loads(rrti("db", "info", sealed, "--json").stdout)
    assert [run["life"] for run in facts["run_list"]] == ["sealed", "open"]
    assert facts["sealed_bytes"] > 0
    refused = rrti("db", "delete", "b", sealed, input="n\n")
    assert refused.exit_code == 1
    assert "Run b (finished) goes with: 1 runs, 1 samples, 3 tokens." in refused.stdout
    assert rrti("db", "delete", "b", sealed, "--yes").stdout.endswith("run b deleted\n")
    assert "bytes, were" in rrti("db", "vacuum", sealed).stdout
    with duckdb.connect(str(sealed)) as connection:
        connection.execute("DELETE FROM runs WHERE run_id = 'a'")
    found = rrti("db", "check", sealed, "--json")
    assert found.exit_code == 1
    assert {row["check"] for row in json.loads(found.stdout)} == {"references", "samples"}
    assert "stored exact from now on" in rrti("db", "precision", "exact", sealed).stdout
