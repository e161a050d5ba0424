"""Sparsity: against sums over sorted values, and intervals against the bootstrap of every token."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.statistics.estimates import gini, share_of_tokens_carrying
from rrti_sgl.statistics.lorenz import LorenzBins, coarser_bins
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import RESAMPLES, random_traces, rows, write_run

LEVELS = {"carried": [0.5, 0.9], "top": [0.05, 0.3], "grid": [0.1, 0.25, 0.7]}


def measures(x):
    """Every value of the table, from all values of a unit."""
    descending = np.sort(x)[::-1]
    curve = np.r_[0, np.cumsum(descending)] / x.sum()
    found = [np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())]
    found += [share_of_tokens_carrying(x, level) for level in LEVELS["carried"]]
    for p in LEVELS["top"]:
        threshold = np.quantile(x, 1 - p)
        found.append(x[x >= threshold - 1e-12 * abs(threshold)].sum() / x.sum())
    return found + [np.interp(g * len(x), np.arange(len(x) + 1), curve) for g in LEVELS["grid"]]


def test_golden(store, build):
    # 20 values: 16 12 8 4, eight of 1, eight of 0; total 48.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, values) for i, values in enumerate(ce)])
    got = rows(store, "sparsity", carried=[0.5, 0.75], top=[0.05, 0.2], grid=[0.05, 0.125])
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
    got = run_query(store, "sparsity", resamples=RESAMPLES, **LEVELS).to_pylist()
    by_problem = [np.concatenate([t.tokens.ce for t in traces if t.sample.problem_id == f"p{i}"]) for i in range(6)]
    assert [row["value"] for row in got] == pytest.approx(measures(np.concatenate(by_problem)), abs=1e-9)
    weights = ProblemBootstrap(6, n=RESAMPLES).counts.astype(int)
    drawn = [measures(np.concatenate([by_problem[i] for i in np.repeat(np.arange(6), w)])) for w in weights]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert [row["value_low"] for row in got] == pytest.approx(low, abs=1e-9)
    assert [row["value_high"] for row in got] == pytest.approx(high, abs=1e-9)


def test_by_sample_and_by_benchmark(store):
    rng = np.random.default_rng(7)
    traces = {run: [t for t in random_traces(rng, run, problems=3) if t.tokens.ce.sum() > 0] for run in ("a", "b")}
    for run, samples in traces.items():
        write_run(store, run, samples)
    samples = {t.sample.sample_id: measures(t.tokens.ce) for t in traces["a"]}
    got = run_query(store, "sparsity", run="a", by="sample", **LEVELS).to_pylist()
    assert [row["value"] for row in got] == pytest.approx([v for key in sorted(samples) for v in samples[key]], abs=1e-9)
    assert {row["value_low"] for row in got} == {None}
    pooled = np.concatenate([t.tokens.ce for run in traces.values() for t in run])
    got = run_query(store, "sparsity", by="benchmark", **LEVELS).to_pylist()
    assert [row["value"] for row in got] == pytest.approx(measures(pooled), abs=1e-9)
    assert {(row["run_id"], row["program"], row["problem_set"]) for row in got} == {(None, "guided", "tiny")}
    assert all(row["value_low"] <= row["value"] <= row["value_high"] for row in got)


def test_one_problem_has_no_interval(store, build):
    write_run(store, "r", [build["trace"]("r")])
    assert {row["value_low"] for row in run_query(store, "sparsity").to_pylist()} == {None}


def binned(by_problem, most):
    """Bins of 32 an octave, merged, for each problem: (problem, bin) tokens and mass, least and largest value of a bin."""
    x = np.concatenate(by_problem)
    fine = [np.floor(32 * np.log2(values)).astype(int) for values in by_problem]
    _ids, place = np.unique(-np.concatenate(fine), return_inverse=True)
    merged = coarser_bins(np.bincount(place), np.bincount(place, x), most)[place]
    n = merged.max() + 1
    ends = np.cumsum([len(values) for values in by_problem])[:-1]
    parts = list(zip(np.split(merged, ends), by_problem, strict=True))
    counts = np.array([np.bincount(bins, minlength=n) for bins, _ in parts], dtype=float)
    masses = np.array([np.bincount(bins, values, n) for bins, values in parts])
    lows, highs = (np.array([edge(x[merged == b]) for b in range(n)]) for edge in (np.min, np.max))
    return counts, masses, lows, highs


@pytest.mark.parametrize("most", [20, 512])
@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_error_of_binning_is_within_its_bound(most, sigma):
    rng = np.random.default_rng(1)
    by_problem = [np.exp(rng.normal(rng.normal(), sigma, 300)) for _ in range(8)]
    counts, masses, lows, highs = binned(by_problem, most)
    weights = ProblemBootstrap(8, n=50).counts
    bins = LorenzBins(weights @ counts, weights @ masses, lows, highs)
    for at, w in enumerate(weights.astype(int)):
        x = np.sort(np.concatenate([by_problem[i] for i in np.repeat(np.arange(8), w)]))[::-1]
        short = gini(x) - bins.gini()[at]
        assert -1e-12 <= short <= bins.gini_error()[at] + 1e-12
        for share in (0.01, 0.1, 0.5):
            exact = np.interp(share * len(x), np.arange(len(x) + 1), np.r_[0, np.cumsum(x)] / x.sum())
            assert -1e-12 <= exact - bins.carried(share)[at] <= bins.carried_error()[at] + 1e-12
    assert bins.gini_error().max() < (1e-3 if most == 512 else 0.05)
