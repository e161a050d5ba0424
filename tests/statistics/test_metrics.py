"""Agreement of metrics against scipy, and truncated scores against the package's own divergences."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from rrti_sgl.db.quantisation import from_codes, to_codes
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.science import metrics
from rrti_sgl.science.distributions import Distributions
from tests.statistics.conftest import METRICS, RESAMPLES, bootstrap, random_traces, rows, weighted_top, write_run

VOCAB = 16


def test_golden(store, build):
    values = np.array([1.0, 2, 3, 4])
    tokens = dict.fromkeys(METRICS[1:], values) | {"kl": values[::-1].copy(), "js": np.array([1.0, 1, 1, 5])}
    tokens |= {"tv": np.full(4, 0.5)}
    write_run(store, "r", [build["trace"]("r", ce=values, tokens=tokens)])
    found = {(row["metric_a"], row["metric_b"]): row for row in rows(store, "metrics", p=0.25)}
    assert len(found) == 15
    assert (found["ce", "kl"]["pearson"], found["ce", "kl"]["spearman"]) == pytest.approx((-1, -1))
    assert (found["ce", "js"]["pearson"], found["ce", "js"]["spearman"]) == pytest.approx((6 / np.sqrt(60), 3 / np.sqrt(15)))
    assert found["ce", "tv"]["pearson"] is found["ce", "tv"]["spearman"] is None
    # One token of four is in each top set; with kl it is another one, with js the same, and all of tv are tied.
    assert [found["ce", other]["iou"] for other in ("kl", "js", "tv")] == pytest.approx([0, 1, 1 / 4])
    assert [found["ce", other]["decisions_changed"] for other in ("kl", "js", "tv")] == pytest.approx([2 / 4, 0, 3 / 4])
    assert found["ce", "kl"]["iou_chance"] == pytest.approx((1 / 4) / (7 / 4))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_equal_to_scipy(store, seed, p):
    rng = np.random.default_rng(seed)
    traces = random_traces(rng, "r", problems=4)
    write_run(store, "r", traces)
    found = {(row["metric_a"], row["metric_b"]): row for row in rows(store, "metrics", p=p)}
    values = {name: np.concatenate([getattr(trace.tokens, name) for trace in traces]) for name in METRICS}
    top = {name: x >= np.quantile(x, 1 - p) * (1 - 1e-12) for name, x in values.items()}
    for a, b in combinations(METRICS, 2):
        row = found[a, b]
        assert row["pearson"] == pytest.approx(pearsonr(values[a], values[b]).statistic, abs=1e-9)
        assert row["spearman"] == pytest.approx(spearmanr(values[a], values[b]).statistic, abs=1e-9)
        assert row["iou"] == pytest.approx((top[a] & top[b]).sum() / (top[a] | top[b]).sum(), abs=1e-9)
        assert row["decisions_changed"] == pytest.approx((top[a] != top[b]).mean(), abs=1e-9)


def test_intervals_are_those_of_a_resample_of_problems(store):
    traces = random_traces(np.random.default_rng(1), "r", problems=6, samples=1, longest=30)
    write_run(store, "r", traces)
    row = run_query(store, "metrics", resamples=RESAMPLES).to_pylist()[0]
    x, y = (np.concatenate([getattr(trace.tokens, name) for trace in traces]) for name in METRICS[:2])
    problem = np.repeat(np.arange(6), [trace.sample.n_tokens for trace in traces])
    changed = []
    in_both = [weighted_top(each, np.ones(len(x)), 0.05) for each in (x, y)]
    drawn = bootstrap(6)
    one_more = drawn.imaginary(np.ones((6, 1)))[:, 0]
    for weights, one in zip(drawn.weights, one_more, strict=True):
        weight = weights[problem]
        in_x, in_y = (weighted_top(each, weight, 0.05) for each in (x, y))
        apart = (weight * (in_x + in_y - 2 * in_x * in_y)).sum()
        changed.append((apart / (weight.sum() + one), (apart + one) / (weight.sum() + one)))
    assert "pearson_low" not in row, "its interval would not cover"
    assert row["spearman_low"] < row["spearman"] < row["spearman_high"]
    assert row["decisions_changed"] == pytest.approx(np.mean(in_both[0] != in_both[1]))
    low, high = (np.quantile(each, place) for each, place in zip(np.transpose(changed), (0.025, 0.975), strict=True))
    assert (row["decisions_changed_low"], row["decisions_changed_high"]) == pytest.approx((low, high), abs=1e-9)


def with_lists(rng, traces, k):
    """Give every token top-k lists of two random distributions, and as ce the cross-entropy of those lists, not rounded."""
    for trace in traces:
        n = len(trace.tokens.ce)
        for model in ("base", "reasoning"):
            logits = rng.normal(0, 2, (n, VOCAB))
            logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            ids = np.argsort(-logprobs, axis=1)[:, :k].astype(np.int32)
            object.__setattr__(trace.tokens, f"{model}_topk_ids", ids)
            listed = np.take_along_axis(logprobs, ids.astype(np.int64), axis=1).astype(np.float32)
            object.__setattr__(trace.tokens, f"{model}_topk_logprobs", listed)
        trace.tokens.ce[:] = cross_entropy(trace, k, rounded=False)
        trace.tokens.score[:] = trace.tokens.ce
    return traces


def cross_entropy(trace, k, *, rounded=True):
    """Of the lists cut to k, `rounded` as the store keeps them."""
    lists = []
    for model in ("base", "reasoning"):
        logprobs = getattr(trace.tokens, f"{model}_topk_logprobs")
        logprobs = from_codes(to_codes(logprobs)) if rounded else logprobs
        lists.append(Distributions(getattr(trace.tokens, f"{model}_topk_ids")[:, :k], logprobs[:, :k], VOCAB))
    return metrics.METRICS["ce"](*lists).value


@pytest.mark.parametrize("seed", range(2))
def test_cut_lists_give_the_divergences_of_the_package(store, seed):
    rng = np.random.default_rng(seed)
    traces = with_lists(rng, random_traces(rng, "r"), 8)
    write_run(store, "r", traces, k=8)
    stored, whole = (np.concatenate([cross_entropy(trace, 8, rounded=each) for trace in traces]) for each in (False, True))
    assert np.abs(stored - whole).max() > 0.01, "rounding shows"
    found = {(row["part"], row["k"]): row for row in rows(store, "metrics", ks=[2, 5, 8, 20], p=0.2)}
    expected = {("truncated", k): (whole, np.concatenate([cross_entropy(t, k) for t in traces])) for k in (2, 5)}
    expected["rounded", None] = (stored, whole)
    assert {key for key in found if key[0] != "metrics"} == set(expected)
    for key, (a, b) in expected.items():
        row = found[key]
        assert row["n_tokens"] == len(a)
        assert row["pearson"] == pytest.approx(pearsonr(a, b).statistic, abs=1e-6)
        assert row["spearman"] == pytest.approx(spearmanr(a, b).statistic, abs=1e-9)
        for name, function in (("mean", np.mean), ("smallest", np.min), ("largest", np.max)):
            assert row[f"{name}_difference"] == pytest.approx(function(a - b), abs=1e-6)
        taus = [np.quantile(x, 0.8) * (1 - 1e-12) for x in (a, b)]
        assert row["decisions_changed"] == pytest.approx(((a >= taus[0]) != (b >= taus[1])).mean(), abs=1e-9)
        assert row["changed_at_tau"] == pytest.approx(((a >= taus[0]) != (b >= taus[0])).mean(), abs=1e-9)
    fewer = [row for row in rows(store, "metrics", ks=[2], tokens=20) if row["part"] == "truncated"]
    assert 0 < fewer[0]["n_tokens"] <= 20


@pytest.mark.parametrize("precision", ["compact", "exact"])
def test_a_bound_from_cut_lists_is_below_the_score_on_every_token(tmp_path, precision):
    """Whole lists gave scores above the stored ones on one token in eleven: rounding, called truncation."""
    rng = np.random.default_rng(5)
    traces = with_lists(rng, random_traces(rng, "r", problems=20, longest=60), VOCAB)
    with Store.open(tmp_path / "traces.duckdb", precision=precision) as store:
        write_run(store, "r", traces, k=VOCAB)
        found = {(row["part"], row["k"]): row for row in rows(store, "metrics", ks=[2, 8, 15])}
    compared = {key: row for key, row in found.items() if key[0] != "metrics"}
    assert list(compared) == [("truncated", 2), ("truncated", 8), ("truncated", 15), ("rounded", None)]
    for (part, _), row in compared.items():
        assert row["bound_excess"] <= 0
        if part == "truncated":
            assert row["smallest_difference"] >= -1e-12, "cutting never raises a score"
    rounded = compared["rounded", None]
    ends = (rounded["smallest_difference"], rounded["largest_difference"])
    if precision == "exact":
        assert ends == pytest.approx((0, 0), abs=1e-6)
    else:
        assert ends[0] < -0.01 < 0.01 < ends[1], "what is stored lies on both sides of what its lists give"


def test_scores_of_two_runs_of_the_same_rollouts(store, build):
    tokens = {name: np.array([1.0, 2, 3]) for name in METRICS[1:]}
    other = tokens | {"token_id": np.array([1, 2, 3], dtype=np.int32)}
    exact = [build["trace"]("e", "p1", 0, [1.0, 2, 4], tokens=tokens), build["trace"]("e", "p2", 0, tokens=tokens)]
    write_run(store, "e", exact, score_kind="full")
    cut = [build["trace"]("t", "p1", 0, [0.5, 2, 2.5], tokens=tokens), build["trace"]("t", "p2", 0, tokens=other)]
    write_run(store, "t", cut)
    (row,) = [row for row in rows(store, "metrics", exact="e", p=0.3) if row["part"] == "exact"]
    assert (row["run_id"], row["n_tokens"]) == ("t", 3), "the samples of p2 have different tokens"
    assert (row["mean_difference"], row["largest_difference"]) == pytest.approx((2 / 3, 1.5))
    assert (row["decisions_changed"], row["changed_at_tau"]) == pytest.approx((0, 1 / 3))


def test_what_cannot_be_answered_is_named(store, build):
    write_run(store, "r", [build["trace"]("r")])
    with pytest.raises(UsageError, match=r"run r: kl is NULL for every token\. It has: score, ce, entropy_base"):
        run_query(store, "metrics")
