"""Uncertainty: against sets of tokens and scipy's rank correlation, intervals against the bootstrap of every token."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from rrti_sgl.db.queries import run_query
from rrti_sgl.statistics.correlation import binned_spearman
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import pooled, random_traces, rows, weighted_top, write_run


def top(values, p):
    threshold = np.quantile(values, 1 - p)
    return values >= threshold - 1e-12 * abs(threshold)


def overlap(x, h, p):
    a, b = top(x, p), top(h, p)
    return (a & b).sum() / (a | b).sum()


def test_golden(store, build):
    # Top quarter by ce: 16 12 8 4 and, all tied at 1, eight more; by entropy: 6 5 5 4 4 4.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    tokens = [{"entropy_base": np.array([0.0, 0.0, 1.0, 2.0, 3.0]) + i} for i in range(4)]
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, x, tokens=tokens[i]) for i, x in enumerate(ce)])
    row, correlation = pooled(rows(store, "uncertainty", metric="ce", ps=[0.25]))
    assert (row["n_tokens"], row["n_metric"], row["n_entropy"], row["n_both"]) == (20, 12, 6, 4)
    assert row["iou"] == pytest.approx(4 / 14)
    assert row["iou_chance"] == pytest.approx(3.6 / 14.4)
    assert correlation["part"] == "rank_correlation"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("p", [0.01, 0.25, 0.9])
def test_equal_to_an_independent_computation(store, seed, p):
    traces = random_traces(np.random.default_rng(seed), "r")
    write_run(store, "r", traces)
    x, h = (np.concatenate([getattr(t.tokens, name) for t in traces]) for name in ("ce", "entropy_base"))
    row, correlation = pooled(rows(store, "uncertainty", metric="ce", ps=[p]))
    assert row["iou"] == pytest.approx(overlap(x, h, p), abs=1e-9)
    assert correlation["spearman"] == pytest.approx(spearmanr(x, h).statistic, abs=1e-9)


def test_chance_without_ties(store, build):
    rng = np.random.default_rng(0)
    tokens = {"entropy_base": rng.random(200)}
    write_run(store, "r", [build["trace"](ce=rng.random(200), run_id="r", tokens=tokens)])
    assert pooled(rows(store, "uncertainty", metric="ce", ps=[0.1]))[0]["iou_chance"] == pytest.approx(0.1 / 1.9)


def test_a_constant_has_no_rank_correlation(store, build):
    write_run(store, "r", [build["trace"]("r", p, tokens={"entropy_base": np.ones(3)}) for p in ("p1", "p2")])
    last = pooled(run_query(store, "uncertainty", metric="ce").to_pylist())[-1]
    assert (last["spearman"], last["spearman_low"]) == (None, None)


def test_intervals_are_those_of_all_tokens(store, build):
    rng = np.random.default_rng(5)
    problems, length, p = 60, 100, 0.1
    data = []
    for _ in range(problems):
        level = rng.normal(0, 0.4)
        h = rng.exponential(1, length) * np.exp(level)
        data.append((h + rng.exponential(1, length) * np.exp(rng.normal(0, 0.4)), h))
    write_run(
        store, "r", [build["trace"]("r", f"p{i:02d}", 0, x, tokens={"entropy_base": h}) for i, (x, h) in enumerate(data)]
    )
    iou, correlation = pooled(run_query(store, "uncertainty", metric="ce", ps=[p], resamples=400).to_pylist())
    drawn = ProblemBootstrap(problems, n=400)
    all_x, all_h = (np.concatenate([each[side] for each in data]) for side in (0, 1))
    problem = np.repeat(np.arange(problems), length)
    either = np.bincount(problem, top(all_x, p) | top(all_h, p))
    one_more = drawn.imaginary(either[:, None])[:, 0]
    shares, ranks = [], []
    for weights, one in zip(drawn.weights, one_more, strict=True):
        weight = weights[problem]
        in_x, in_h = (weighted_top(each, weight, p) for each in (all_x, all_h))
        both = (weight * in_x * in_h).sum()
        union = (weight * (in_x + in_h)).sum() - both
        shares.append((both / (union + one), (both + one) / (union + one)))
        ranked = [np.interp(each, *cumulative(each, weight)) for each in (all_x, all_h)]
        ranks.append(np.cov(*ranked, aweights=weight)[0, 1] / np.prod([np.sqrt(np.cov(r, aweights=weight)) for r in ranked]))
    low, high = (np.quantile(each, place) for each, place in zip(np.transpose(shares), (0.025, 0.975), strict=True))
    assert (iou["iou_low"], iou["iou_high"]) == pytest.approx((low, high), abs=0.02 * (high - low))
    low, high = np.quantile(ranks, [0.025, 0.975])
    found = (correlation["spearman_low"], correlation["spearman_high"])
    assert found == pytest.approx((low, high), abs=0.05 * (high - low))


def cumulative(values, weight):
    """Values in order, and the weight of those below each, half of its own included: its rank in a resample."""
    order = np.argsort(values)
    return values[order], np.cumsum(weight[order]) - weight[order] / 2


def test_the_interval_is_that_of_the_statistic_metrics(store):
    """(ce, entropy, p = .05) had two intervals, [.281, .337] and [.257, .359]."""
    traces = random_traces(np.random.default_rng(8), "r", problems=12, longest=60)
    write_run(store, "r", traces)
    ours, ranks = pooled(run_query(store, "uncertainty", metric="ce", ps=[0.05]).to_pylist())
    pairs = run_query(store, "metrics", p=0.05).to_pylist()
    [theirs] = [row for row in pairs if (row["metric_a"], row["metric_b"]) == ("ce", "entropy_base")]
    for end in ("", "_low", "_high"):
        assert ours[f"iou{end}"] == theirs[f"iou{end}"]
        assert ranks[f"spearman{end}"] == theirs[f"spearman{end}"]
    assert ours["iou_low"] < ours["iou"] < ours["iou_high"]


def test_binned_ranks_are_exact_for_values_in_bins_of_their_own():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    table = np.zeros((1, 4, 3))
    np.add.at(table[0], (x, y), 1)
    assert binned_spearman(table)[0] == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("p", [0.05, 0.4])
def test_top_sets_within_samples(store, seed, p):
    traces = random_traces(np.random.default_rng(seed), "r", problems=8)
    write_run(store, "r", traces)
    row = next(row for row in run_query(store, "uncertainty", metric="ce", ps=[p]).to_pylist() if row["within"] == "sample")
    masks = [[top(getattr(t.tokens, name), p) for t in traces] for name in ("ce", "entropy_base")]
    x, h = (np.concatenate(each) for each in masks)
    assert (row["n_metric"], row["n_entropy"], row["n_both"]) == (x.sum(), h.sum(), (x & h).sum())
    assert row["iou"] == pytest.approx((x & h).sum() / (x | h).sum())
    problem = np.repeat([int(t.sample.problem_id[1:]) for t in traces], [t.sample.n_tokens for t in traces])
    drawn = ProblemBootstrap(8)
    low, high = drawn.shares(np.bincount(problem, x & h)[:, None], np.bincount(problem, x | h)[:, None])
    assert (row["iou_low"], row["iou_high"]) == pytest.approx((low[0], high[0]))


def test_ties_and_constants_are_said(store, build):
    ce = [np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 0, i % 2]) for i in range(4)]
    tokens = {"entropy_base": np.ones(10)}
    write_run(store, "r", [build["trace"]("r", f"p{i}", 0, each, tokens=tokens) for i, each in enumerate(ce)])
    found = rows(store, "uncertainty", metric="ce", ps=[0.01, 0.2])
    assert [row["note"] for row in pooled(found)] == [
        "ties: the top 0.01 by ce is 0.05 of the tokens; "
        "ties: the top 0.01 by entropy_base is every token, nothing is told apart",
        "ties: the top 0.2 by ce is every token, nothing is told apart; "
        "ties: the top 0.2 by entropy_base is every token, nothing is told apart",
        "entropy_base has one value everywhere, nothing is told apart",
    ]
