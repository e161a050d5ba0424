"""Statistics by name: their parameters, the runs that they are made of, and what they refuse."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import polars
import pytest

from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.queries import QUERIES, QUERY_DIR, run_query
from rrti_sgl.errors import UsageError


def rows(store, name, **params):
    return run_query(store, name, **params).to_pylist()


def column(store, name, key, **params):
    return [row[key] for row in rows(store, name, **params)]


@pytest.fixture
def tiny(store, build):
    """Three runs on two problems with two samples each; the guided run g has 4 samples of 5 tokens."""
    for run_id, program, right in (("b", "base", "0100"), ("t", "reasoning", "1111"), ("g", "guided", "0111")):
        store.begin_run(build["run"](run_id, program=program))
        traces = []
        for i, flag in enumerate(right):
            taken = np.array([False, i == 1, False, False, i >= 2]) & (run_id == "g")
            tokens = {
                "fired": taken,
                "base_token_id": np.where(taken & (i < 3), 12, np.arange(10, 15)).astype(np.int32),
                "planning_tag": [None, "plan", None, None, "plan" if i == 3 else None],
                "entropy_base": np.array([0.0, 0.0, 1.0, 2.0, 3.0]) + i,
            }
            ce = [0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0]
            traces.append(build["trace"](run_id, f"p{i // 2}", i % 2, ce, correct=flag == "1", tokens=tokens))
        store.write_samples(traces)
    return store


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("nope", {}, "no statistic 'nope'.*sparsity"),
        ("sparsity", {"metric": "x"}, r"'metric' cannot be \['x'\].*reverse_kl"),
        ("sparsity", {"p": 0.1}, "no parameter 'p'.*carried"),
        ("sparsity", {"top": []}, "'top' cannot be"),
        ("sparsity", {"top": [1.0]}, "'top' cannot be"),
        ("position", {"p": 0}, "'p' cannot be 0.*between 0 and 1"),
        ("position", {"bins": 1.5}, "'bins' cannot be 1.5.*whole number"),
        ("cost", {"run": "zz"}, r"starts with 'zz'.*g \(guided\)"),
        ("sparsity", {"metric": "kl"}, "run b: kl is NULL for every token. It has: score, ce, entropy_base"),
        ("sparsity", {"metric": "kl", "run": "g"}, "run g: kl is NULL"),
        ("failure", {"run": "t"}, "run t: 0 of its 4 graded answers are wrong"),
        ("takeovers", {"run": ["g", "b"]}, "run b: the gate never fired on its 20 tokens"),
        ("accuracy", {"k": 3}, "pass@3 needs 3 graded samples of a problem; run b has a problem with 2"),
        ("accuracy", {"base": "zz"}, "starts with 'zz'"),
        ("accuracy", {"base": 3}, "'base' cannot be 3.*a run or a list of runs"),
        ("failure", {"top_k": 0}, "'top_k' cannot be .*whole numbers from 1"),
        ("sparsity", {"by": "token"}, "'by' cannot be 'token'.*benchmark"),
        ("sparsity", {"resamples": -1}, "'resamples' cannot be -1.*whole number from 0"),
    ],
)
def test_what_cannot_be_answered_is_named(tiny, name, params, message):
    with pytest.raises(UsageError, match=message):
        run_query(tiny, name, **params)


@pytest.mark.parametrize("name", ["sparsity", "uncertainty", "planning", "failure", "position"])
def test_a_statistic_leaves_no_columns_behind(tiny, name):
    """Arrays that hold each other stay until Python looks for such things: a notebook took gigabytes."""

    def with_columns() -> set[int]:
        # Not `isinstance`: it asks an object that has another type for its `__class__`, and some of torch's warn then.
        return {id(each) for each in gc.get_objects() if type(each) is TokenValues and each.columns}

    gc.collect()
    gc.disable()
    try:
        before = with_columns()
        run_query(tiny, name, metric="ce", run="g")
        left = with_columns() - before
    finally:
        gc.enable()
    assert left == set()


def test_runs_without_what_is_needed(store, build):
    with pytest.raises(UsageError, match=r"the store .* has none"):
        run_query(store, "cost")
    store.begin_run(build["run"]())
    with pytest.raises(UsageError, match="run r1: it has no samples yet"):
        run_query(store, "cost")
    store.write_samples([build["trace"](ce=[0.0, 0.0], correct=None)])
    for name, message in (("accuracy", "no sample is graded"), ("planning", "planning tag"), ("sparsity", "sums to 0")):
        with pytest.raises(UsageError, match=message):
            run_query(store, name)


def test_recovery_needs_the_same_problems(tiny, build):
    tiny.begin_run(build["run"]("other"))
    tiny.write_samples([build["trace"]("other", "p9")])
    with pytest.raises(UsageError, match="run other has 1 of tiny, run b 2 of tiny"):
        run_query(tiny, "accuracy", base="b", reasoning="t", run=["g", "other"])
    for run in ("g", None):
        assert {row["run_id"] for row in rows(tiny, "accuracy", base="b", reasoning="t", run=run)} == {"b", "g", "t"}


def test_one_run_is_meant_by_base(tiny, build):
    tiny.begin_run(build["run"]("b2", program="base"))
    with pytest.raises(UsageError, match="cannot be made of run b2: it has no samples yet"):
        run_query(tiny, "accuracy", base="base")
    tiny.write_samples([build["trace"]("b2", problem) for problem in ("p0", "p1")])
    with pytest.raises(UsageError, match="The base run of tiny could be any of b, b2"):
        run_query(tiny, "accuracy", base="base")


def test_every_file_has_a_statistic_and_a_header():
    files = {path.stem for path in Path(QUERY_DIR).glob("*.sql")}
    computed = {name for name, query in QUERIES.items() if query.compute is not None}
    assert {name for name in files if not name.startswith("_")} == set(QUERIES) - computed
    for name, query in QUERIES.items():
        assert query.name == name
        assert query.question.endswith("?")
        for part in ("Definitions: ", "Paper: ", "Parameters: "):
            assert query.header.count(f"\n{part}") == 1


def test_equal_values_at_the_threshold_are_all_in(store, build):
    # DuckDB interpolates between the two largest of these 89 to one rounding above them.
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](ce=[*np.linspace(0, 9, 87), 9.920232, 9.920232])])
    assert sum(column(store, "position", "n_top", p=0.01)[:30]) == 2
    assert column(store, "uncertainty", "n_metric", ps=[0.01])[0] == 2
    assert column(store, "sparsity", "value", top=[0.01], carried=[0.5])[2] > 9.9 / 420
    planning = {"planning_tag": ["plan"] * 89}
    store.begin_run(build["run"]("tagged"))
    store.write_samples([build["trace"]("tagged", ce=[*np.linspace(0, 9, 87), 9.920232, 9.920232], tokens=planning)])
    assert column(store, "planning", "n_tokens", p=0.01, run="tagged")[:4] == [89, 2, 2, 0]


def test_to_pandas_and_polars_in_one_line(tiny):
    gini = rows(tiny, "sparsity")[0]["value"]
    assert run_query(tiny, "sparsity", metric="ce").to_pandas()["value"][0] == gini
    assert polars.from_arrow(run_query(tiny, "sparsity", metric="ce"))["value"][0] == gini


def test_a_value_stands_for_a_list_of_one(tiny):
    assert rows(tiny, "uncertainty", ps=0.25) == rows(tiny, "uncertainty", ps=[0.25])


def test_infinite_scores_are_refused(store, build):
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](ce=[1.0, np.inf])])
    with pytest.raises(UsageError, match="Run r1 has 1 tokens whose ce is NaN or infinite"):
        run_query(store, "sparsity")


def test_negative_scores_carry_no_share(store, build):
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](ce=[1.0, -1.0])])
    with pytest.raises(UsageError, match="Run r1 has 1 tokens whose ce is negative"):
        run_query(store, "sparsity")


def test_runs_of_different_models_are_not_pooled(store, build):
    for run_id, k in (("a", 2), ("b", 3)):
        store.begin_run(build["run"](run_id, k=k))
        store.write_samples([build["trace"](run_id)])
    with pytest.raises(UsageError, match="Runs of guided on tiny cannot be pooled: run b has k 3, run a 2"):
        run_query(store, "sparsity", by="benchmark")
    assert len({row["run_id"] for row in rows(store, "sparsity")}) == 2


def test_recovery_is_of_one_temperature(tiny, build):
    tiny.begin_run(build["run"]("warm", temperature=1.0))
    tiny.write_samples([build["trace"]("warm", f"p{i // 2}", i % 2) for i in range(4)])
    with pytest.raises(UsageError, match=r"decode alike: run warm has temperature 1.0, run b 0.6"):
        run_query(tiny, "accuracy", run="warm", base="b", reasoning="t")


def test_recovery_is_of_one_base_model(tiny, build):
    tiny.begin_run(build["run"]("large", base_model="base-large"))
    tiny.write_samples([build["trace"]("large", f"p{i // 2}", i % 2) for i in range(4)])
    with pytest.raises(UsageError, match="one base model: run large has base_model 'base-large', run b 'base'"):
        run_query(tiny, "accuracy", run="large", base="b", reasoning="t")
