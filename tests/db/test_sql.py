"""SQL from users reads the store and reaches nothing else; the views answer the common questions."""

from __future__ import annotations

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, UsageError


@pytest.fixture(params=["reader", "writer"])
def opened(request, path, build):
    with Store.open(path) as store:
        store.begin_run(build["run"]())
        store.add_problems([build["problem"]()])
        tokens = {"fired": [False, True, True, False], "base_token_id": [10, 9, 12, 13]}
        store.write_samples([build["trace"](ce=[1.0, 2.0, 3.0, 4.0], tokens=tokens)])
        if request.param == "writer":
            yield store
            return
    with Store.open_readonly(path) as store:
        yield store


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("CREATE TABLE x (a INT)", "CREATE is not allowed"),
        ("INSERT INTO runs SELECT * FROM runs", "INSERT is not allowed"),
        ("DELETE FROM tokens", "DELETE is not allowed"),
        ("UPDATE runs SET status = 'x'", "UPDATE is not allowed"),
        ("DROP TABLE tokens", "DROP is not allowed"),
        ("COPY tokens TO '{file}'", "COPY is not allowed"),
        ("EXPORT DATABASE '{file}'", "EXPORT is not allowed"),
        ("ATTACH '{file}'", "ATTACH is not allowed"),
        ("INSTALL httpfs", "LOAD is not allowed"),
        ("LOAD httpfs", "LOAD is not allowed"),
        ("SET threads = 1", "SET is not allowed"),
        ("PRAGMA threads = 1", "SET is not allowed"),
        ("PRAGMA enable_external_access = true", "SET is not allowed"),
        ("CALL pragma_version()", "CALL is not allowed"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM nowhere", "nowhere does not exist"),
        ("SELECT * FROM read_csv('{file}')", "operations are disabled"),
        ("SELECT * FROM read_text('{file}')", "operations are disabled"),
        ("SELECT * FROM '{file}'", "operations are disabled"),
        ("SELECT * FROM glob('/*')", "operations are disabled"),
        ("EXPLAIN ANALYZE DELETE FROM stored_samples", "EXPLAIN of DELETE is not allowed"),
        ("EXPLAIN ANALYZE COPY tokens TO '{file}'", "EXPLAIN of COPY is not allowed"),
        ("EXPLAIN (ANALYZE) /* a */ COPY tokens TO '{file}'", "EXPLAIN of COPY is not allowed"),
    ],
)
def test_refused(opened, tmp_path, query, message):
    file = tmp_path / "secret.csv"
    file.write_text("a\n1\n")
    with pytest.raises(StoreError, match=message) as caught:
        opened.sql(query.format(file=file))
    assert "\n" not in str(caught.value)
    assert file.read_text() == "a\n1\n"
    assert opened.sql("SELECT count(*) AS n FROM tokens").to_pylist() == [{"n": 4}]


def test_local_variables_are_no_tables(opened):
    import pyarrow as pa

    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    with pytest.raises(StoreError, match="secret does not exist"):
        opened.sql("SELECT * FROM secret")


@pytest.mark.parametrize("query", ["FROM tokens", "DESCRIBE tokens", "SUMMARIZE tokens", "SHOW TABLES", "VALUES (1)"])
def test_allowed(opened, query):
    assert opened.sql(query).num_rows > 0


def test_parameters(opened):
    assert opened.sql("SELECT $a + 1 AS b", {"a": 1}).to_pylist() == [{"b": 2}]


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", {}),
        ("SELECT hash(range) AS h FROM range(1000000000) WHERE h % 3 = 1", {"most_bytes": 10**9}),  # in the midst of rows
    ],
)
def test_time_limit(opened, query, limits):
    with pytest.raises(StoreError, match=r"longer than 0.1 s"):
        opened.sql(query, timeout_s=0.1, **limits)
    assert opened.sql("SELECT 1 AS a", timeout_s=10).to_pylist() == [{"a": 1}]


def test_memory_limit(path):
    with Store.open_readonly(path, memory_limit="20MB") as store:
        with pytest.raises(StoreError, match="more memory than the limit"):
            store.sql("SELECT list(range) FROM range(100000000)")
        assert store.sql("SELECT 1 AS a").to_pylist() == [{"a": 1}]


def test_a_memory_limit_that_is_none(path):
    with pytest.raises(UsageError, match="memory"):
        Store.open_readonly(path, memory_limit="lots")


def test_token_view(opened):
    query = "SELECT u, changed, program, gate, correct, n_tokens, problem_id FROM token_view WHERE fired ORDER BY u"
    shared = {"program": "guided", "gate": "threshold", "correct": True, "n_tokens": 4, "problem_id": "p1"}
    assert opened.sql(query).to_pylist() == [{"u": 0.25, "changed": True} | shared, {"u": 0.5, "changed": False} | shared]


def test_sample_view(opened):
    query = "SELECT rho, program, gold, question, n_changed FROM sample_view"
    expected = {"rho": 0.5, "program": "guided", "gold": "4", "question": "2+2?", "n_changed": 1}
    assert opened.sql(query).to_pylist() == [expected]


def test_run_view(opened):
    query = "SELECT n_samples, n_tokens, rho, accuracy, tau FROM run_view"
    expected = {"n_samples": 1, "n_tokens": 4, "rho": 0.5, "accuracy": 1.0, "tau": 0.5}
    assert opened.sql(query).to_pylist() == [expected]


def test_columns_of_one_name_keep_their_values(opened):
    rows = opened.sql("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS b")
    assert list(rows.to_pylist()[0].values()) == [1, 2, 3, 4, 5]
    assert rows.column_names == ["a", "a_2", "a_1", "a_3", "b"]
    joined = opened.sql("SELECT * FROM runs AS x JOIN runs AS y USING (run_id)")
    assert len(set(joined.column_names)) == len(joined.column_names)
