"""`rrti db`, `rrti sql` and `rrti stats` print tables that fit and JSON that parses."""

from __future__ import annotations

import csv
import io
import json

import pytest
import typer
from typer.testing import CliRunner

from rrti_sgl.cli import db, sql, stats
from rrti_sgl.db.schema import schema_markdown
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, UsageError

app = typer.Typer()
app.add_typer(db.app, name="db")
app.command("sql")(sql.sql)
app.command("stats")(stats.stats)


@pytest.fixture
def rrti(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*args, **kwargs):
        result = CliRunner().invoke(app, [str(arg) for arg in args], **kwargs)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def filled(path, build):
    with Store.open(path) as store:
        for run_id, program, right in (("base-0123456789ab", "base", False), ("guided-0123456789ab", "guided", True)):
            store.begin_run(build["run"](run_id, program=program))
            store.write_samples([build["trace"](run_id, ce=[0.0, 2.0, 3.0, 12345.0], correct=right)])
    return path


def test_life_of_a_file(rrti, tmp_path):
    path = tmp_path / "x.duckdb"
    assert rrti("db", "upgrade", path).stdout == f"{path}: schema 0004, was empty\n"
    assert rrti("db", "upgrade", path).stdout == f"{path}: schema 0004, nothing to do\n"
    assert rrti("db", "downgrade", "base", path, input="n\n").exit_code == 1
    assert "nothing to do" in rrti("db", "upgrade", path).stdout
    assert rrti("db", "downgrade", "base", path, "--yes").stdout == f"{path}: schema empty, was 0004\n"


def test_info(rrti, filled):
    text = rrti("db", "info", filled).stdout
    assert "guided-0123456789ab" in text
    assert "100.0%" in text
    (facts,) = json.loads(rrti("db", "info", filled, "--json").stdout)
    assert (facts["runs"], facts["tokens"], len(facts["run_list"])) == (2, 8, 2)


def test_schema(rrti):
    assert rrti("db", "schema").stdout == schema_markdown()


def test_sql(rrti, filled):
    query = "SELECT token_text, ce, base_topk_ids, 'nan'::DOUBLE AS x FROM tokens ORDER BY ALL LIMIT 2"
    assert (
        json.loads(rrti("sql", query, "--db", filled, "--json").stdout)
        == [{"token_text": "t0", "ce": 0.0, "base_topk_ids": [3, 5], "x": "NaN"}] * 2
    )
    text = rrti("sql", "SELECT token_text, ce FROM tokens ORDER BY ce DESC", "--db", filled, "--csv").stdout
    assert list(csv.reader(io.StringIO(text)))[:2] == [["token_text", "ce"], ["t3", "12345"]]
    assert rrti("sql", "SELECT 1 AS one WHERE false", "--db", filled).stdout.endswith("0 rows\n")
    with pytest.raises(StoreError, match="DROP is not allowed"):
        rrti("sql", "DROP TABLE tokens", "--db", filled)


@pytest.mark.parametrize("query", ["SELECT * FROM run_view", "SELECT * FROM token_view", "SELECT * FROM sample_view"])
def test_wide_results_fit_and_keep_ids_whole(rrti, filled, query):
    text = rrti("sql", query, "--db", filled).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("guided-0123456789ab") > 1
    assert "…" not in text


def test_stats(rrti, filled):
    text = rrti(
        "stats", "accuracy", "--db", filled, "--base", "base", "--reasoning", "guided", "--format", "table", "--full"
    ).stdout
    assert max(map(len, text.splitlines())) <= 80
    args = ("stats", "sparsity", "--db", filled, "--run", "guided", "--set", "top=[0.25]", "--set", "carried=[0.5]")
    got = json.loads(rrti(*args, "--metric", "entropy_base", "--json").stdout)
    values = {row["statistic"]: row["value"] for row in got}
    assert {"gini", "tokens_carrying", "carried_by_top"} <= set(values)
    assert values["carried_by_top"] == pytest.approx(12345 / 12350)
    listed = json.loads(rrti("stats", "--list", "--json").stdout)
    assert {"name": "cost", "question": "What did a run cost, in requests, tokens and time?"} in listed
    assert "sparsity" in rrti("stats").stdout
    for args, message in ((["nope"], "no statistic"), (["cost", "--set", "x"], "no NAME=VALUE")):
        with pytest.raises(UsageError, match=message):
            rrti("stats", *args, "--db", filled)


def test_db_names_the_store_as_everywhere(rrti, filled, tmp_path):
    first = rrti("db", "info", filled, "--json").stdout
    assert rrti("db", "info", "--db", filled, "--json").stdout == first
    with pytest.raises(UsageError, match="both name the store"):
        rrti("db", "info", filled, "--db", str(tmp_path / "other.duckdb"))
