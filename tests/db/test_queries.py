"""Every statistic has a result that can be checked by hand and equals an independent computation on random stores."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from rrti_sgl.db.queries import QUERIES, QUERY_DIR, run_query
from rrti_sgl.db.store import Store
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


def test_sparsity_golden(tiny):
    # 20 values: 16 12 8 4, eight of 1, eight of 0; total 48.
    got = rows(tiny, "sparsity", run="g", carried=[0.5, 0.75], top=[0.05, 0.2])
    gini = 2 * (20 * 16 + 19 * 12 + 18 * 8 + 17 * 4 + sum(range(9, 17))) / (20 * 48) - 21 / 20
    expected = [("gini", None, gini), ("tokens_carrying", 0.5, 2 / 20), ("tokens_carrying", 0.75, 3 / 20)]
    expected += [("carried_by_top", 0.05, 16 / 48), ("carried_by_top", 0.2, 40 / 48)]
    assert [(row["statistic"], row["level"]) for row in got] == [item[:2] for item in expected]
    assert [row["value"] for row in got] == pytest.approx([item[2] for item in expected], abs=1e-12)
    assert {row["n_tokens"] for row in got} == {20}


def test_position_golden(tiny):
    got = rows(tiny, "position", run="g", bins=5, p=0.1)
    assert [row["n_all"] for row in got] == [4] * 5
    assert [row["n_top"] for row in got] == [0, 2, 0, 0, 0]
    assert [row["density_top"] for row in got] == pytest.approx([0, 5, 0, 0, 0])
    assert [row["density_all"] for row in got] == pytest.approx([1] * 5)
    assert (got[1]["u_low"], got[1]["u_high"]) == pytest.approx((0.2, 0.4))


def test_uncertainty_golden(tiny):
    # Top quarter by ce: 16 12 8 4 and, all tied at 1, eight more; by entropy: 6 5 5 4 4 4.
    (row,) = rows(tiny, "uncertainty", run="g", ps=[0.25])
    assert (row["n_metric"], row["n_entropy"], row["n_both"]) == (12, 6, 4)
    assert row["iou"] == pytest.approx(4 / 14)
    assert row["iou_chance"] == pytest.approx(3.6 / 14.4)


def test_planning_golden(tiny):
    got = {row.pop("tokens"): row for row in rows(tiny, "planning", run="g", p=0.2)}
    assert (got["all"]["n_tokens"], got["all"]["n_planning"]) == (20, 5)
    assert (got["top_metric"]["n_tokens"], got["top_metric"]["n_planning"]) == (4, 4)
    assert got["top_metric"]["enrichment"] == pytest.approx(4.0)
    assert (got["takeovers"]["n_tokens"], got["takeovers"]["n_planning"]) == (3, 2)
    assert got["takeovers"]["share"] == pytest.approx(2 / 3)
    got = {row.pop("tokens"): row for row in rows(tiny, "planning", run="b", p=0.2)}
    assert got["takeovers"] == {
        "run_id": "b", "n_tokens": 0, "n_planning": 0, "share": None, "enrichment": None
    }  # fmt: skip


def test_failure_golden(tiny):
    # Means of the two largest: 2.5 (wrong), 4.5, 6.5, 8.5; with K = 2 the wrong one is the smallest of four.
    got = rows(tiny, "failure", run="g", top_k=2)
    assert [(row["predictor"], row["n_samples"], row["n_wrong"], row["auroc"]) for row in got] == [
        ("ce", 4, 1, 0.0),
        ("entropy_base", 4, 1, 0.0),
    ]
    assert column(tiny, "failure", "auroc", run="b", metric="entropy_base") == pytest.approx([2 / 3])


def test_failure_counts_ties_half(store, build):
    store.begin_run(build["run"]())
    values = [([1.0, 2.0], False), ([2.0, 1.0], True), ([1.5], True), ([0.0], True)]
    store.write_samples([build["trace"](index=i, ce=ce, correct=right) for i, (ce, right) in enumerate(values)])
    # The wrong sample ties with two right ones and beats the third.
    assert column(store, "failure", "auroc", metric="ce") == pytest.approx([2 / 3, 2 / 3])


def test_accuracy_golden(tiny):
    got = {row["run_id"]: row for row in rows(tiny, "accuracy", base="b", reasoning="t")}
    assert list(got) == ["b", "t", "g"]
    assert [row["accuracy"] for row in got.values()] == pytest.approx([0.25, 1.0, 0.75])
    assert [row["pass_at_k"] for row in got.values()] == pytest.approx([0.5, 1.0, 1.0])
    assert {row["k"] for row in got.values()} == {2}
    guided = got["g"]
    assert (guided["n_problems"], guided["n_samples"]) == (2, 4)
    assert (guided["rho_mean"], guided["rho_pooled"]) == pytest.approx((3 / 20, 3 / 20))
    assert guided["changed"] == pytest.approx(2 / 20)
    assert guided["recovery_accuracy"] == pytest.approx(2 / 3)
    assert guided["recovery_pass"] == pytest.approx(1.0)
    assert column(tiny, "accuracy", "pass_at_k", run="g", k=1) == pytest.approx([0.75])
    assert column(tiny, "accuracy", "recovery_pass", run="g") == [None]


def test_budgets_of_samples_of_different_lengths(store, build):
    store.begin_run(build["run"]())
    short = build["trace"](ce=[1.0], tokens={"fired": [True]})
    store.write_samples([short, build["trace"](index=1, ce=[0.0, 0.0, 1.0])])
    (row,) = rows(store, "accuracy")
    assert (row["rho_mean"], row["rho_pooled"]) == pytest.approx((0.5, 0.25))


def test_takeovers_golden(tiny):
    got = rows(tiny, "takeovers", bins=5)
    assert {row["run_id"] for row in got} == {"g"}
    assert [(row["label"], row["n"]) for row in got if row["kind"] == "position"] == [
        ("u 0.00-0.20", 0),
        ("u 0.20-0.40", 1),
        ("u 0.40-0.60", 0),
        ("u 0.60-0.80", 0),
        ("u 0.80-1.00", 2),
    ]
    pairs = [(row["label"], row["base_token_id"], row["token_id"], row["n"]) for row in got if row["kind"] == "pair"]
    assert pairs == [("t2 -> t1", 12, 11, 1), ("t2 -> t4", 12, 14, 1), ("t4 -> t4", 14, 14, 1)]
    assert [row["share"] for row in got][-3:] == pytest.approx([1 / 3] * 3)
    assert [row["label"] for row in rows(tiny, "takeovers", bins=1, top=1)][1:] == ["t2 -> t1"]


def test_takeovers_where_the_base_model_was_not_asked(store, build):
    store.begin_run(build["run"]())
    tokens = {"fired": [True, True], "base_token_id": np.array([99, -1], dtype=np.int32)}
    store.write_samples([build["trace"](ce=[1.0, 1.0], tokens=tokens)])
    labels = [row["label"] for row in rows(store, "takeovers", bins=1)]
    assert labels[1:] == ["t89 -> t0", "not asked -> t1"]


def test_cost_golden(tiny):
    got = {row["quantity"]: (row["total"], row["per_token"]) for row in rows(tiny, "cost", run="g")}
    assert len(got) == 14
    assert got["generated tokens"] == (20, 1)
    assert got["base cached tokens"] == (80, 4)
    assert got["other ms"] == (16, 0.8)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("nope", {}, "no statistic 'nope'.*sparsity"),
        ("sparsity", {"metric": "x"}, "'metric' cannot be 'x'.*reverse_kl"),
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
    ],
)
def test_what_cannot_be_answered_is_named(tiny, name, params, message):
    with pytest.raises(UsageError, match=message):
        run_query(tiny, name, **params)


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
        run_query(tiny, "accuracy", base="b", reasoning="t")
    assert len(rows(tiny, "accuracy", base="b", reasoning="t", run="g")) == 3


def test_one_run_is_meant_by_base(tiny, build):
    tiny.begin_run(build["run"]("b2", program="base"))
    with pytest.raises(UsageError, match="base run 'base' could be any of b, b2"):
        run_query(tiny, "accuracy", base="base")


def test_every_file_has_a_statistic_and_a_header():
    files = {path.stem for path in Path(QUERY_DIR).glob("*.sql")}
    assert files == set(QUERIES) | {"_coverage"}
    for query in QUERIES.values():
        assert query.question.endswith("?")
        for part in ("-- Definitions: ", "-- Paper: ", "-- Parameters: "):
            assert query.sql.count(part) == 1


# Few distinct values, so that ties are everywhere. Others are rounded: between neighbouring floats the quantile itself is
# rounded, to either side, and the top set depends on who computes it.
VALUES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.7, 1.1, 5.0]) | st.floats(0, 10).map(lambda value: round(value, 6))
SAMPLE = st.tuples(st.lists(st.tuples(VALUES, VALUES, st.booleans(), st.booleans()), min_size=1, max_size=12), st.booleans())
RUN = st.lists(SAMPLE, min_size=2, max_size=8)


def test_equal_values_at_the_threshold_are_all_in(store, build):
    # DuckDB interpolates between the two largest of these 89 to one rounding above them.
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](ce=[*np.linspace(0, 9, 87), 9.920232, 9.920232])])
    assert sum(column(store, "position", "n_top", p=0.01)) == 2
    assert column(store, "uncertainty", "n_metric", ps=[0.01]) == [2]
    assert column(store, "sparsity", "value", top=[0.01], carried=[0.5])[-1] > 9.9 / 420
    planning = {"planning_tag": ["plan"] * 89}
    store.begin_run(build["run"]("tagged"))
    store.write_samples([build["trace"]("tagged", ce=[*np.linspace(0, 9, 87), 9.920232, 9.920232], tokens=planning)])
    assert column(store, "planning", "n_tokens", p=0.01, run="tagged") == [89, 2, 2, 0]


@pytest.fixture(scope="module")
def random_store(empty_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "random.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        yield store


def top(values, p):
    threshold = np.quantile(values, 1 - p)
    return values >= threshold - 1e-12 * abs(threshold)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(samples=RUN, p=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9]), top_k=st.integers(1, 6), k=st.integers(1, 2))
def test_equal_to_an_independent_computation(random_store, build, samples, p, top_k, k):
    store = random_store
    run_id = f"h{len(store.find_runs())}"
    store.begin_run(build["run"](run_id))
    traces = []
    for i, (cells, correct) in enumerate(samples):
        value, entropy, plan, fired = (np.array(item) for item in zip(*cells, strict=True))
        tags = ["plan" if flag else None for flag in plan]
        tokens = {"fired": fired, "entropy_base": entropy, "planning_tag": tags}
        traces.append(build["trace"](run_id, f"p{i // 2}", i % 2, value, correct=correct, tokens=tokens))
    store.write_samples(traces)
    x = np.concatenate([trace.tokens.ce for trace in traces])
    h = np.concatenate([trace.tokens.entropy_base for trace in traces])
    plan = np.array([tag is not None for trace in traces for tag in trace.tokens.planning_tag])
    fired = np.concatenate([trace.tokens.fired for trace in traces])
    n = len(x)

    if x.sum() > 0:
        got = rows(store, "sparsity", run=run_id, carried=[p], top=[p])
        gini = np.abs(x[:, None] - x[None, :]).sum() / (2 * n * x.sum())
        cumulative = np.cumsum(np.sort(x)[::-1])
        carrying = (int(np.argmax(cumulative >= p * x.sum() * (1 - 1e-12))) + 1) / n
        carried = x[top(x, p)].sum() / x.sum()
        assert [row["value"] for row in got] == pytest.approx([gini, carrying, carried], abs=1e-9)

    a, b = top(x, p), top(h, p)
    assert column(store, "uncertainty", "iou", run=run_id, ps=[p]) == pytest.approx([(a & b).sum() / (a | b).sum()])

    u = np.concatenate([np.arange(len(t.tokens.ce)) / len(t.tokens.ce) for t in traces])
    expected = np.histogram(u[a] + 1e-12, bins=4, range=(0, 1), density=True)[0]
    assert column(store, "position", "density_top", run=run_id, p=p, bins=4) == pytest.approx(expected, abs=1e-9)

    if plan.any():
        expected = [plan[mask].mean() / plan.mean() if mask.any() else None for mask in (plan >= 0, a, b, fired)]
        assert column(store, "planning", "enrichment", run=run_id, p=p) == pytest.approx(expected, abs=1e-9)

    wrong = np.array([not correct for _, correct in samples])
    if 0 < wrong.sum() < len(wrong):
        expected = []
        for name in ("ce", "entropy_base"):
            largest = [np.sort(getattr(trace.tokens, name))[::-1][:top_k] for trace in traces]
            means = np.array([np.add.accumulate(values)[-1] / len(values) for values in largest])
            pairs = wrong.sum() * (~wrong).sum()
            expected.append(mannwhitneyu(means[wrong], means[~wrong], method="asymptotic").statistic / pairs)
        assert column(store, "failure", "auroc", run=run_id, top_k=top_k) == pytest.approx(expected, abs=1e-9)

    if len(samples) % 2 == 0:
        right = [[samples[i][1], samples[i + 1][1]] for i in range(0, len(samples), 2)]
        expected = np.mean([np.mean([any(subset) for subset in combinations(pair, k)]) for pair in right])
        assert column(store, "accuracy", "pass_at_k", run=run_id, k=k) == pytest.approx([expected], abs=1e-9)


def test_accuracy_of_more_samples_than_k(store, build):
    store.begin_run(build["run"]())
    store.write_samples([build["trace"](index=i, correct=i < 3) for i in range(8)])
    for k in range(1, 9):
        expected = np.mean([any(i < 3 for i in subset) for subset in combinations(range(8), k)])
        assert column(store, "accuracy", "pass_at_k", k=k) == pytest.approx([expected], abs=1e-12)
