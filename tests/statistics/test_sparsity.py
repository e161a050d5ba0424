"""Sparsity: against sums over sorted values, and intervals against the bootstrap of every token."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.statistics.lorenz import LorenzBins
from rrti_sgl.statistics.ranking import RankBins, Ranking
from tests.statistics.conftest import RESAMPLES, bootstrap, random_traces, rows, weighted_top, write_run

LEVELS = {"carried": [0.5, 0.9], "top": [0.05, 0.3], "grid": [0.1, 0.25, 0.7]}


def measures(x):
    """Every value of the table, from all values of a unit."""
    descending = np.sort(x)[::-1]
    curve = np.r_[0, np.cumsum(descending)] / x.sum()
    found = [np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())]
    found += [np.argmax(np.cumsum(descending) >= c * x.sum() * (1 - 1e-12)) / len(x) + 1 / len(x) for c in LEVELS["carried"]]
    for p in LEVELS["top"]:
        threshold = np.quantile(x, 1 - p)
        found.append(x[x >= threshold - 1e-12 * abs(threshold)].sum() / x.sum())
    return found + [np.interp(g * len(x), np.arange(len(x) + 1), curve) for g in LEVELS["grid"]]


def test_golden(store, build):
    # 20 values: 16 12 8 4, eight of 1, eight of 0; total 48.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, values) for i, values in enumerate(ce)])
    got = rows(store, "sparsity", metric="ce", carried=[0.5, 0.75], top=[0.05, 0.2], grid=[0.05, 0.125])
    area = 20 * 16 + 19 * 12 + 18 * 8 + 17 * 4 + sum(range(9, 17))
    expected = [("gini", None, 2 * area / (20 * 48) - 21 / 20)]
    expected += [("tokens_carrying", 0.5, 2 / 20), ("tokens_carrying", 0.75, 3 / 20)]
    expected += [("carried_by_top", 0.05, 16 / 48), ("carried_by_top", 0.2, 40 / 48)]
    expected += [("lorenz", 0.05, 16 / 48), ("lorenz", 0.125, 32 / 48)]
    assert [(row["statistic"], row["level"]) for row in got] == [item[:2] for item in expected]
    assert [row["value"] for row in got] == pytest.approx([item[2] for item in expected], abs=1e-12)
    assert {row["n_tokens"] for row in got} == {20}


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_independent_computation(store, seed):
    """With few distinct values the intervals are those of all tokens of the drawn problems."""
    traces = random_traces(np.random.default_rng(seed), "r", problems=6)
    write_run(store, "r", traces)
    got = run_query(store, "sparsity", metric="ce", resamples=RESAMPLES, **LEVELS).to_pylist()
    by_problem = [np.concatenate([t.tokens.ce for t in traces if t.sample.problem_id == f"p{i}"]) for i in range(6)]
    assert [row["value"] for row in got] == pytest.approx(measures(np.concatenate(by_problem)), abs=1e-9)
    problem = np.repeat(np.arange(6), [len(x) for x in by_problem])
    drawn = np.array([weighted(np.concatenate(by_problem), weights[problem]) for weights in bootstrap(6).weights])
    assert [got[0]["value_low"], got[0]["value_high"]] == pytest.approx(np.quantile(drawn[:, 0], [0.025, 0.975]), abs=1e-9)
    # Shares of tokens and of mass, in units of a token's mean, get one more trial outside and inside.
    sizes = {name: np.array([f(x) for x in by_problem]) for name, f in (("tokens", len), ("mass", np.sum))}
    sizes["mass"] = sizes["mass"] / np.concatenate(by_problem).mean()
    for place, row in enumerate(got[1:], 1):
        whole = bootstrap(6).sums(sizes["tokens" if row["statistic"] == "tokens_carrying" else "mass"])
        one_more = bootstrap(6).imaginary(np.ones((6, 1)))[:, 0]
        ends = [(drawn[:, place] * whole + value * one_more) / (whole + one_more) for value in (0, 1)]
        expected = (np.quantile(ends[0], 0.025), np.quantile(ends[1], 0.975))
        assert (row["value_low"], row["value_high"]) == pytest.approx(expected, abs=1e-9)


def weighted(x, weight):
    """Every value of the table, from all values of a unit and their weights."""
    order = np.argsort(-x, kind="stable")
    values, w = x[order], weight[order]
    reached, carried = np.r_[0, np.cumsum(w)], np.r_[0, np.cumsum(w * values)]
    reached, carried = reached / reached[-1], carried / carried[-1]
    found = [np.sum(np.diff(reached) * (carried[1:] + carried[:-1])) - 1]
    for level in LEVELS["carried"]:
        # Within equal values the mass grows evenly.
        ends = np.r_[0, np.flatnonzero(np.r_[np.diff(values) != 0, True]) + 1]
        found.append(np.interp(level, carried[ends], reached[ends]))
    for p in LEVELS["top"]:
        found.append((weighted_top(x, weight, p) * weight * x).sum() / (weight * x).sum())
    return found + [np.interp(g, reached, carried) for g in LEVELS["grid"]]


def test_by_sample_and_by_benchmark(store):
    rng = np.random.default_rng(7)
    traces = {run: [t for t in random_traces(rng, run, problems=6) if t.tokens.ce.sum() > 0] for run in ("a", "b")}
    for run, samples in traces.items():
        write_run(store, run, samples)
    samples = {t.sample.sample_id: measures(t.tokens.ce) for t in traces["a"]}
    got = run_query(store, "sparsity", metric="ce", run="a", by="sample", **LEVELS).to_pylist()
    assert [row["value"] for row in got] == pytest.approx([v for key in sorted(samples) for v in samples[key]], abs=1e-9)
    assert {row["value_low"] for row in got} == {None}
    pooled = np.concatenate([t.tokens.ce for run in traces.values() for t in run])
    got = run_query(store, "sparsity", metric="ce", by="benchmark", **LEVELS).to_pylist()
    assert [row["value"] for row in got] == pytest.approx(measures(pooled), abs=1e-9)
    assert {(row["run_id"], row["program"], row["problem_set"]) for row in got} == {(None, "guided", "tiny")}
    assert all(row["value_low"] <= row["value"] <= row["value_high"] for row in got)


def test_one_problem_has_no_interval(store, build):
    write_run(store, "r", [build["trace"]("r")])
    assert {row["value_low"] for row in run_query(store, "sparsity", metric="ce").to_pylist()} == {None}


@pytest.mark.parametrize("fineness", [4, 64])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_error_of_binning_is_within_its_bound(fineness, sigma):
    rng = np.random.default_rng(1)
    by_problem = np.array([np.exp(rng.normal(rng.normal(), sigma, 300)) for _ in range(8)])
    ranking = Ranking.of(by_problem.ravel())
    bins = RankBins.fine_at_the_top(ranking, fineness).of(by_problem.ravel())
    n, per_problem = bins.max() + 1, bins.reshape(8, 300)
    counts = np.array([np.bincount(each, minlength=n) for each in per_problem], dtype=float)
    masses = np.array([np.bincount(each, x, n) for each, x in zip(per_problem, by_problem, strict=True)])
    lows, highs = (np.array([edge(by_problem.ravel()[bins == b]) for b in range(n)]) for edge in (np.min, np.max))
    weights = np.random.default_rng(2).multinomial(8, np.full(8, 1 / 8), 50)
    binned = LorenzBins(weights @ counts, weights @ masses, lows, highs, np.zeros(n, bool), by_problem.size)
    for at, w in enumerate(weights):
        x = np.sort(np.concatenate([by_problem[i] for i in np.repeat(np.arange(8), w)]))[::-1]
        short = LorenzBins.of(x).gini()[0] - binned.gini()[at]
        assert -1e-12 <= short <= binned.gini_error()[at] + 1e-12
        for share in (0.01, 0.1, 0.5):
            exact = np.interp(share * len(x), np.arange(len(x) + 1), np.r_[0, np.cumsum(x)] / x.sum())
            assert -1e-12 <= exact - binned.carried(share)[at] <= binned.carried_error()[at] + 1e-12
    assert binned.gini_error().max() < (1e-3 if fineness == 64 else 0.05)
