"""Failure prediction: against scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from tests.statistics.conftest import RESAMPLES, bootstrap, random_traces, rows, write_run


def test_golden(store, build):
    # Means of the two largest: 2.5 (wrong), 4.5, 6.5, 8.5; with K = 2 the wrong one is the smallest of four.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, values, correct=i > 0) for i, values in enumerate(ce)])
    got = rows(store, "failure", metric="ce", top_k=2)
    keys = ("predictor", "top_k", "n_samples", "n_wrong", "auroc", "average_precision")
    assert [tuple(row[key] for key in keys) for row in got] == [
        ("ce", 2, 4, 1, 0.0, 0.25),
        ("entropy_base", 2, 4, 1, 0.0, 0.25),
        ("length", None, 4, 1, 0.5, 0.25),
    ]


def test_ties_count_half(store, build):
    values = [([1.0, 2.0], False), ([2.0, 1.0], True), ([1.5], True), ([0.0], True)]
    write_run(store, "r", [build["trace"]("r", "p1", i, ce, correct=right) for i, (ce, right) in enumerate(values)])
    # The wrong sample ties with two right ones and beats the third.
    assert [row["auroc"] for row in rows(store, "failure", metric="ce")] == pytest.approx([2 / 3, 2 / 3, 5 / 6])


def top_mean(values, k):
    largest = np.sort(values)[::-1][:k]
    return np.add.accumulate(largest)[-1] / len(largest)


@pytest.mark.parametrize("seed", range(2))
def test_equal_to_scikit_learn(store, seed):
    traces = random_traces(np.random.default_rng(seed), "r", problems=8)
    write_run(store, "r", traces)
    wrong = np.array([not t.sample.correct for t in traces])
    got = run_query(store, "failure", metric="ce", top_k=[1, 3], resamples=RESAMPLES).to_pylist()
    predictors = [[top_mean(getattr(t.tokens, name), k) for t in traces] for name in ("ce", "entropy_base") for k in (1, 3)]
    predictors.append([t.sample.n_tokens for t in traces])
    problem = np.array([int(t.sample.problem_id[1:]) for t in traces])
    drawn = bootstrap(8)
    rarer = wrong if wrong.sum() <= (~wrong).sum() else ~wrong
    for row, predictor in zip(got, predictors, strict=True):
        for name, score, trials in (
            ("auroc", roc_auc_score, rarer),
            ("average_precision", average_precision_score, wrong),
        ):
            assert row[name] == pytest.approx(score(wrong, predictor), abs=1e-9)
            one_more = drawn.imaginary(np.bincount(problem, trials)[:, None])[:, 0]
            ends = []
            for weights, one in zip(drawn.weights, one_more, strict=True):
                n = (weights[problem] * trials).sum()
                value = score(wrong, predictor, sample_weight=weights[problem]) * n
                ends.append((value / (n + one), (value + one) / (n + one)))
            low, high = (np.quantile(each, place) for each, place in zip(np.transpose(ends), (0.025, 0.975), strict=True))
            assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize(("correct", "message"), [(True, "0 of its 3 graded"), (False, "3 of its 3"), (None, "0 of its 0")])
def test_one_class_has_no_auroc(store, build, correct, message):
    write_run(store, "r", [build["trace"]("r", "p1", i, correct=correct) for i in range(3)])
    with pytest.raises(UsageError, match=message):
        run_query(store, "failure", metric="ce")


def test_the_share_of_samples_that_have_k_values(store, build):
    """A top 100 of samples of 75 tokens is a mean of all, and no figure of the paper is like it."""
    lengths = (2, 3, 5, 9)
    traces = [build["trace"]("r", f"p{i}", 0, np.arange(n) + i, correct=i > 0) for i, n in enumerate(lengths)]
    write_run(store, "r", traces)
    found = rows(store, "failure", metric="ce", top_k=[3, 5, 100])
    assert {(row["predictor"], row["top_k"]): row["with_k"] for row in found} == {
        **{(name, k): share for name in ("ce", "entropy_base") for k, share in ((3, 0.75), (5, 0.5), (100, 0.0))},
        ("length", None): None,
    }


def test_a_constant_predictor_says_so(store, build):
    write_run(store, "r", [build["trace"]("r", f"p{i}", 0, [1.0, 1.0], correct=i > 1) for i in range(4)])
    found = rows(store, "failure", metric="ce")
    assert {row["auroc"] for row in found} == {0.5}
    assert {row["note"] for row in found} == {"the predictor has one value everywhere, nothing is told apart"}
