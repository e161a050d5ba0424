"""The store keeps what it is given, whole and once."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from rrti_sgl import migrations
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, StoreLockedError, StoreVersionError, UsageError
from rrti_sgl.records import SampleTrace


def assert_same(left: SampleTrace, right: SampleTrace) -> None:
    assert left.sample == right.sample
    for field in dataclasses.fields(left.tokens):
        a, b = getattr(left.tokens, field.name), getattr(right.tokens, field.name)
        if isinstance(a, np.ndarray):
            assert b.dtype == a.dtype, field.name
            np.testing.assert_array_equal(b, a, err_msg=field.name)
        else:
            assert list(b) == list(a), field.name


def test_records_come_back_as_they_were(store, build):
    run, calibration = build["run"](), build["calibration"]()
    store.begin_run(run)
    store.add_calibration(calibration)
    assert store.get_run("r1") == run
    assert store.get_calibration("cal1") == calibration


def test_sample_comes_back_as_it_was(store, build):
    nan = np.nan
    tokens = {
        "token_text": ["a", "ü\n", '"'],
        "source": ["base", "reasoning", "base"],
        "base_token_id": np.array([10, -1, 12], dtype=np.int32),
        "kl": np.array([nan, 0.0, 1e-300]),
        "fired": np.array([False, True, False]),
        "planning_tag": [None, "plan", None],
        "planted": np.array([-1, 1, 0], dtype=np.int32),
        "base_topk_ids": np.array([[1, 2], [-1, -1], [3, -1]], dtype=np.int32),
        "base_topk_logprobs": np.array([[-0.25, -2], [nan, nan], [-0.5, nan]], dtype=np.float32),
    }
    trace = build["trace"](ce=[nan, 0.0, 5.5], tokens=tokens)
    store.begin_run(build["run"]())
    store.write_samples([trace])
    assert_same(store.load_sample(trace.sample.sample_id), trace)
    assert_same(store.load_sample(trace.sample.sample_id[:4]), trace)
    rows = store.sql("SELECT base_token_id, ce, planted, base_topk_ids FROM tokens ORDER BY position").to_pylist()
    assert rows[1] == {"base_token_id": None, "ce": 0.0, "planted": 1, "base_topk_ids": None}
    assert rows[0] == {"base_token_id": 10, "ce": None, "planted": None, "base_topk_ids": [1, 2]}
    assert rows[2]["base_topk_ids"] == [3]


def test_a_run_without_distributions_keeps_the_width_of_its_top_k(store, build):
    store.begin_run(build["run"](k=5))
    nothing = {"reasoning_topk_ids": np.full((3, 5), -1), "reasoning_topk_logprobs": np.full((3, 5), np.nan)}
    trace = build["trace"](tokens=nothing)
    store.write_samples([trace])
    loaded = store.load_sample(trace.sample.sample_id).tokens
    assert loaded.reasoning_topk_ids.tolist() == [[-1] * 5] * 3
    assert np.isnan(loaded.reasoning_topk_logprobs).all()


def test_a_sample_is_written_once(store, build):
    first, second = build["trace"](), build["trace"](index=1)
    assert store.write_samples([first, first]) == 1
    assert store.write_samples([second, first]) == 1
    assert store.write_samples([first]) == 0
    assert store.write_samples([]) == 0
    assert store.finished_samples("r1") == {first.sample.sample_id, second.sample.sample_id}
    assert store.sql("SELECT count(*) AS n FROM tokens").to_pylist() == [{"n": 6}]


def test_a_sample_that_contradicts_itself_takes_the_batch_with_it(store, build):
    good, bad = build["trace"](), build["trace"](index=1, n_tokens=9)
    with pytest.raises(StoreError, match="has 9 tokens, its column token_id 3"):
        store.write_samples([good, bad])
    assert store.finished_samples("r1") == set()


def test_distributions_need_as_many_ids_as_logprobs(store, build):
    with pytest.raises(StoreError, match=r"base_topk_ids of shape \(3, 7\) and logprobs of shape \(3, 2\)"):
        store.write_samples([build["trace"](tokens={"base_topk_ids": np.zeros((3, 7), dtype=np.int32)})])


def test_problems_are_added_once(store, build):
    store.add_problems([build["problem"](metadata={"level": 3}), build["problem"]("p2")])
    store.add_problems([build["problem"](question="changed"), build["problem"]("p3", answer=None)])
    store.add_problems([])
    rows = store.sql("SELECT problem_id, question, answer, metadata FROM problems ORDER BY problem_id").to_pylist()
    assert [row["problem_id"] for row in rows] == ["p1", "p2", "p3"]
    assert rows[0] == {"problem_id": "p1", "question": "2+2?", "answer": "4", "metadata": '{"level": 3}'}
    assert rows[2]["answer"] is None
    assert store.get_problem("tiny", "p1") == build["problem"](metadata={"level": 3})
    with pytest.raises(UsageError, match="no problem 'p9' of 'tiny'"):
        store.get_problem("tiny", "p9")


def test_life_of_a_run(store, build):
    store.begin_run(build["run"]())
    with pytest.raises(StoreError, match="already") as caught:
        store.begin_run(build["run"]())
    assert "\n" not in str(caught.value)
    store.finish_run("r1", "failed", "server died")
    run = store.get_run("r1")
    assert (run.status, run.error) == ("failed", "server died")
    assert run.finished_at is not None
    assert run.finished_at.tzinfo is not None
    with pytest.raises(UsageError, match=r"no run 'r2'.*r1 \(guided\)"):
        store.finish_run("r2", "finished")


def test_a_run_goes_on(store, build):
    store.begin_run(build["run"]())
    store.finish_run("r1", "interrupted", "Ctrl-C")
    store.resume_run("r1")
    assert store.get_run("r1") == build["run"]()


def test_find_runs(store, build):
    for run_id, program in (("aa1", "base"), ("aa2", "guided"), ("b", "base")):
        store.begin_run(build["run"](run_id, program=program))

    def ids(*args, **kwargs):
        return [run.run_id for run in store.find_runs(*args, **kwargs)]

    assert ids() == ["aa1", "aa2", "b"]
    assert ids("aa") == ["aa1", "aa2"]
    assert ids("aa2") == ["aa2"]
    assert ids("base") == ["aa1", "b"]
    assert ids(program="base") == ["aa1", "b"]
    assert ids(program="none") == []
    # A whole id wins over the longer ids that it starts and over a program of that name: "b" is no prefix search.
    assert ids("b") == ["b"]
    with pytest.raises(UsageError, match=r"starts with 'zz'.*b \(base\)"):
        store.find_runs("zz")


def test_what_is_not_there_is_named(store, build):
    with pytest.raises(UsageError, match=r"no calibration 'x'.*no calibrations"):
        store.get_calibration("x")
    store.add_calibration(build["calibration"]())
    with pytest.raises(UsageError, match=r"There is: cal1"):
        store.get_calibration("x")
    with pytest.raises(UsageError, match="No sample id starts with 'zz'"):
        store.load_sample("zz")
    store.write_samples([build["trace"](sample_id="ab1"), build["trace"](sample_id="ab2", index=1)])
    with pytest.raises(UsageError, match="More than one sample id starts with 'ab': ab1, ab2"):
        store.load_sample("ab")


def test_scores(store, build):
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](ce=[3.0, np.nan, 1.0])])
    assert store.scores("r1", "ce").tolist() == [3.0, 1.0]
    assert store.scores("r1").tolist() == [3.0, 1.0]
    with pytest.raises(UsageError, match=r"no metric 'nope'.*entropy_base"):
        store.scores("r1", "nope")
    with pytest.raises(UsageError, match="'kl' was computed for no token"):
        store.scores("r1", "kl")


def test_closes_on_exception(path, build):
    with pytest.raises(ZeroDivisionError), Store.open(path) as store:
        raise ZeroDivisionError
    with pytest.raises(StoreError, match="closed"):
        store.sql("SELECT 1")
    Store.open_readonly(path).close()


def test_a_missing_store(tmp_path):
    for opened in (lambda p: Store.open(p, create=False), Store.open_readonly):
        with pytest.raises(StoreError, match="There is no store at"):
            opened(tmp_path / "none.duckdb")
    Store.open(tmp_path / "new" / "made.duckdb").close()
    assert (tmp_path / "new" / "made.duckdb").exists()


@pytest.mark.parametrize("content", [b"", b"hi", b"no database " * 5000])
def test_a_file_that_is_no_database(tmp_path, content):
    path = tmp_path / "garbage.duckdb"
    path.write_bytes(content)
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreError, match="no DuckDB file"):
            opened(path)
    assert path.read_bytes() == content


def test_a_database_of_something_else(tmp_path):
    path = tmp_path / "other.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreError, match="no trace store: it holds cats"):
            opened(path)


def test_older_and_newer_schemas(path, monkeypatch):
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreVersionError, match="9999, newer than"):
            opened(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{migrations.head()}'")
    newer = [*migrations.revisions(), "0999"]
    monkeypatch.setattr(migrations, "revisions", lambda: newer)
    for opened in (Store.open, Store.open_readonly):
        with pytest.raises(StoreVersionError, match=rf"needs 0999\. Run: rrti db upgrade {path}"):
            opened(path)


def test_an_empty_database_is_upgraded_for_writing_only(tmp_path):
    path = tmp_path / "empty.duckdb"
    duckdb.connect(str(path)).close()
    with pytest.raises(StoreError, match="rrti db upgrade"):
        Store.open_readonly(path)
    with Store.open(path) as store:
        assert store.find_runs() == []


HOLD = """
import sys
from rrti_sgl.db.store import Store
with Store.open(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_store_held_by_another_process(path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "open\n"
        for opened in (Store.open, Store.open_readonly):
            with pytest.raises(StoreLockedError, match=f"process {holder.pid}.*Wait until it is done"):
                opened(path)
        holder.stdin.close()
    assert holder.returncode == 0
    Store.open_readonly(path).close()


def test_a_store_open_in_this_process(store, path):
    with pytest.raises(StoreLockedError, match="already open in this process"):
        Store.open_readonly(path)


def test_a_store_is_read_twice_in_one_process(path, build):
    with Store.open(path) as store:
        store.begin_run(build["run"]())
        with pytest.raises(StoreLockedError, match="already open in this process"):
            Store.open(path)
        assert len(store.find_runs()) == 1
    with Store.open_readonly(path) as first, Store.open_readonly(path) as second:
        assert first.find_runs() == second.find_runs()
        for store in (first, second):
            with pytest.raises(StoreError, match="operations are disabled"):
                store.sql("SELECT * FROM glob('/*')")
    with Store.open_readonly(path, memory_limit="1GB"), pytest.raises(StoreLockedError, match="already open"):
        Store.open_readonly(path, memory_limit="2GB")
