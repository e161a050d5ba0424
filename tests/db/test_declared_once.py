"""A metric, like every column, is declared once: what is stored, read and shown follows from that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from rrti_sgl.columns import columns_of
from rrti_sgl.db import inserting, layouts, record_rows
from rrti_sgl.db.tables import SCORES, TABLES, TOKEN_FIELDS
from rrti_sgl.errors import StoreError
from rrti_sgl.records import ProblemRecord, RunRecord, SampleRecord, TokenColumns
from rrti_sgl.science.metrics import METRICS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `added_metric.py` finds after adding a metric."""
    command = [sys.executable, str(Path(__file__).with_name("added_metric.py")), str(tmp_path_factory.mktemp("added"))]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("precision", ["compact", "exact"])
def test_an_added_metric_is_found_in_a_stored_token(added: dict[str, Any], precision: str) -> None:
    assert added[precision]["is as declared"]
    watched, beside = added[precision]["watched"], added[precision]["beside"]
    assert len(watched["decoded"]) > 3
    assert watched["decoded"] == watched["score"] == watched["loaded"] == watched["asked"]
    known = [(was, now) for was, now in zip(beside["decoded"], beside["loaded"], strict=True) if was is not None]
    assert len(known) == len(beside["asked"]) > 0
    assert [now for _, now in known] == pytest.approx([was for was, _ in known], rel=0 if precision == "exact" else 1e-7)


def test_an_added_metric_is_null_where_it_was_not_known(added: dict[str, Any]) -> None:
    assert added["sealed before"] == [{"n": 132, "ce": 132, "jeffreys": 0}]


def test_an_added_metric_is_on_the_schema_page(added: dict[str, Any]) -> None:
    assert [line.split("|")[1:3] for line in added["page"] if line.startswith("|")] == [
        [" `jeffreys` ", " DOUBLE "],
        [" `jeffreys` ", " FLOAT "],
    ]
    assert "CASE WHEN score_is = 'jeffreys' THEN score ELSE jeffreys END AS jeffreys," in "".join(added["page"])


def test_a_forgotten_column_raises(store, build, monkeypatch) -> None:
    def without(name: str) -> None:
        original = layouts.token_tables

        def tables(*arguments: Any) -> dict[str, pa.Table]:
            return {table: rows.drop_columns([name]) for table, rows in original(*arguments).items()}

        monkeypatch.setattr(layouts, "token_tables", tables)

    without("kl")
    with pytest.raises(StoreError, match=r"Rows for the table compact_tokens lack kl of it and have nothing beyond it"):
        store.write_samples([build["trace"]()])
    assert store.sql("SELECT count(*) AS n FROM samples").to_pylist() == [{"n": 0}]


def test_a_column_that_the_file_does_not_have_raises(path, build) -> None:
    from rrti_sgl.db.store import Store

    with duckdb.connect(str(path)) as connection:
        for view in ("token_view", "tokens"):
            connection.execute(f"DROP VIEW {view}")
        connection.execute("ALTER TABLE compact_tokens DROP COLUMN js")
        connection.execute("ALTER TABLE runs ADD COLUMN later INTEGER")
    with Store.open(path) as store:
        with pytest.raises(StoreError, match="compact_tokens lack nothing of it and have js beyond it"):
            store.write_samples([build["trace"]()])
        with pytest.raises(StoreError, match="runs lack later of it and have nothing beyond it"):
            store.begin_run(build["run"]())


def test_a_sealed_file_that_lacks_a_column_is_not_taken_for_whole(path, build, tmp_path) -> None:
    import pyarrow.parquet as pq

    from rrti_sgl.db import relations, sealing
    from rrti_sgl.db.store import Store

    with Store.open(path) as store:
        store.begin_run(build["run"]())
        store.write_samples([build["trace"]()])
        store.finish_run("r1", "finished")
    sealing.seal(path, "r1")
    folder = relations.runs_folder(path) / "r1"
    file = relations.file_of(folder, "compact_tokens")
    pq.write_table(pq.read_table(file).drop_columns(["tv"]), file)
    rows = f"SELECT * FROM {relations.rows_of([folder], 'compact_tokens')}"
    with duckdb.connect(str(path)) as connection:
        with pytest.raises(StoreError, match="compact_tokens lack tv"):
            inserting.insert_selected(connection, "compact_tokens", rows, older=False)
        assert inserting.insert_selected(connection, "compact_tokens", rows, older=True) == 3
        assert connection.execute("SELECT count(*), count(tv) FROM compact_tokens").fetchall() == [(3, 0)]


def test_a_sample_with_other_metrics_is_refused(store, build) -> None:
    trace = build["trace"]()
    del trace.tokens.metrics["tv"]
    with pytest.raises(StoreError, match=r"has other metrics than are declared: tv"):
        store.write_samples([trace])


def test_kinds_come_from_the_declaration() -> None:
    kinds = {field.name: (field.kind, field.null) for field in columns_of(TokenColumns)}
    assert kinds["token_id"] == ("integer", False)
    assert kinds["base_token_text"] == ("text", True)
    assert kinds["score"] == ("decided", True)
    assert kinds["metrics"] == ("metrics", False)
    assert {field.name for field in columns_of(RunRecord) if field.kind == "json"} == {
        "config", "gate_params", "base_server", "reasoning_server",
    }  # fmt: skip
    assert [field.name for field in columns_of(ProblemRecord) if field.key] == ["problem_id", "problem_set"]
    wide = {field.name for field in columns_of(SampleRecord) if field.kind == "wide"}
    assert wide == {f"{model}_{part}_tokens" for model in ("base", "reasoning") for part in ("prompt", "cached")}
    assert [field.name for field in TOKEN_FIELDS if field.name in METRICS] == list(METRICS)
    assert ("score", *METRICS) == SCORES


def test_the_layouts_fill_every_column_of_their_tables(build) -> None:
    for precision in ("compact", "exact"):
        [(table, rows)] = layouts.token_tables([build["trace"]()], precision).items()
        assert set(rows.column_names) == set(TABLES[table].names)
        assert table == f"{precision}_tokens"


def test_a_metric_is_an_attribute_of_the_columns(build) -> None:
    tokens = build["trace"]().tokens
    assert tokens.ce is tokens.metrics["ce"]
    with pytest.raises(AttributeError, match="no column 'cee'"):
        tokens.cee  # noqa: B018


def test_scores_are_said_to_be_a_metric_only_where_they_are(store, build) -> None:
    ce = np.array([0.1, 0.2, 0.3])
    nearly = np.nextafter(ce, 1.0)
    traces = [
        build["trace"](index=0, ce=ce),
        build["trace"](index=1, ce=ce, tokens={"score": np.array([*ce[:2], nearly[2]])}),
        build["trace"](index=2, ce=ce, score_metric=None),
        build["trace"](index=3, ce=ce, tokens={"score": ce, "kl": ce}, score_metric="kl"),
        build["trace"](index=4, ce=ce, score_metric="a score of my own"),
    ]
    store.write_samples(traces)
    query = """
        SELECT sample_index, any_value(score_is) AS score_is
        FROM compact_tokens JOIN samples USING (run_id, sample_id) GROUP BY sample_index ORDER BY sample_index
    """
    assert [row["score_is"] for row in store.sql(query).to_pylist()] == ["ce", None, None, "kl", None]
    for trace in traces:
        back = store.load_sample(trace.sample.sample_id).tokens
        np.testing.assert_array_equal(back.score, trace.tokens.score)
        np.testing.assert_allclose(back.ce, trace.tokens.ce, rtol=1e-7)
    np.testing.assert_array_equal(store.load_sample(traces[0].sample.sample_id).tokens.ce, ce)
    np.testing.assert_array_equal(store.load_sample(traces[3].sample.sample_id).tokens.kl, ce)


def test_a_loaded_sample_says_what_its_scores_are(store, build) -> None:
    store.begin_run(build["run"]())
    store.write_samples([build["trace"]()])
    assert store.load_sample(build["trace"]().sample.sample_id).score_metric == "ce"
    assert record_rows.fields_of(ProblemRecord)[0] == "problem_id"
