"""Position: against histograms, and intervals against resamples whose top set is found token by token."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from tests.statistics.conftest import RESAMPLES, bootstrap, pooled, random_traces, rows, weighted_top, write_run


def parts(got, name):
    return [row for row in pooled(got) if row["part"] == name]


def test_golden(store, build):
    # The second token of every sample is the largest, 4 8 12 16; the two largest are the top 10 % of 20.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, values) for i, values in enumerate(ce)])
    got = rows(store, "position", metric="ce", bins=5, p=0.1, edges=[0.1, 0.2, 0.4])
    density = parts(got, "density")
    assert [(row["n_all"], row["n_top"], row["n_first"]) for row in density] == [
        (4, 2 * (b == 1), 2 * (b == 1)) for b in range(5)
    ]
    assert [row["density_top"] for row in density] == pytest.approx([0, 5, 0, 0, 0])
    assert [row["density_all"] for row in density] == pytest.approx([1] * 5)
    assert (density[1]["u_low"], density[1]["u_high"]) == pytest.approx((0.2, 0.4))
    (peak,) = parts(got, "peak")
    assert (peak["middle"], peak["density_top"]) == pytest.approx((0.3, 5))
    # u = 0.1, 0.3, 0.5, 0.7, 0.9: the middles of five tokens.
    assert [row["density_ratio"] for row in density] == pytest.approx([0, 5, 0, 0, 0])
    assert [row["share_top"] for row in parts(got, "within")] == [0, 0, 1]
    assert [row["share_first"] for row in parts(got, "beyond")] == [1, 1, 0]
    assert [row["share_all"] for row in parts(got, "beyond")] == pytest.approx([1, 0.8, 0.6])


def test_a_bin_is_about_the_papers_peak(store, build):
    """u = 0.05 was the edge of two bins of 20."""
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, np.r_[0, 5.0, np.zeros(28)]) for i in range(6)])
    got = rows(store, "position", metric="ce")
    assert 0.05 in [pytest.approx(row["middle"]) for row in parts(got, "density")]
    (peak,) = parts(got, "peak")
    assert (peak["middle"], peak["density_ratio"]) == (pytest.approx(0.05), pytest.approx(30))


def test_short_samples_do_not_make_a_peak(store, build):
    """Where all tokens are dense, so are top tokens: samples of two tokens have none but at 1/4 and 3/4."""
    rng = np.random.default_rng(0)
    traces = [build["trace"]("g", f"p{i:03d}", 0, rng.random(2 if i % 2 else 40)) for i in range(200)]
    write_run(store, "g", traces)
    found = run_query(store, "position", metric="ce", p=0.2, bins=20).to_pylist()
    quarter = next(row for row in parts(found, "density") if row["u_low"] == 0.25)
    assert quarter["density_all"] > 1.3
    x, n, u = zip(
        *((t.tokens.ce, t.sample.n_tokens, (np.arange(t.sample.n_tokens) + 0.5) / t.sample.n_tokens) for t in traces),
        strict=True,
    )
    inside = [each >= np.quantile(np.concatenate(x), 0.8) for each in x]
    there = [(each >= 0.25) & (each < 0.3) for each in u]
    top_in, top, all_in, every = (
        np.array([each.sum() for each in of], dtype=float)
        for of in ([a & b for a, b in zip(inside, there, strict=True)], inside, there, [np.ones(k) for k in n])
    )
    assert quarter["density_ratio"] == pytest.approx(top_in.sum() / top.sum() / (all_in.sum() / every.sum()))


@pytest.mark.parametrize("seed", range(3))
def test_top_sets_within_samples(store, seed):
    traces = random_traces(np.random.default_rng(seed), "r", problems=8, longest=40)
    write_run(store, "r", traces)
    found = run_query(store, "position", metric="ce", p=0.1, bins=4, resamples=RESAMPLES).to_pylist()
    within = [row for row in found if row["within"] == "sample"]
    assert len(within) == len(found) / 2
    top = [t.tokens.ce >= np.quantile(t.tokens.ce, 0.9) * (1 - 1e-12) for t in traces]
    u = [(np.arange(len(each)) + 0.5) / len(each) for each in top]
    counts = np.histogram(np.concatenate([a[b] for a, b in zip(u, top, strict=True)]), bins=4, range=(0, 1))[0]
    all_of = np.histogram(np.concatenate(u), bins=4, range=(0, 1))[0]
    density = [row for row in within if row["part"] == "density"]
    assert [row["n_top"] for row in density] == counts.tolist()
    assert [row["density_ratio"] for row in density] == pytest.approx(counts / counts.sum() / (all_of / all_of.sum()))
    firsts = [a[b][0] for a, b in zip(u, top, strict=True)]
    late = next(row for row in within if row["part"] == "beyond" and row["u_low"] == 0.2)
    assert late["share_first"] == pytest.approx(np.mean(np.array(firsts) >= 0.2))
    problem = [int(t.sample.problem_id[1:]) for t in traces]
    late_top = [(places[inside] >= 0.2).sum() for places, inside in zip(u, top, strict=True)]
    hits, trials = (np.bincount(problem, each) for each in (late_top, [inside.sum() for inside in top]))
    low, high = bootstrap(8).shares(hits[:, None], trials[:, None])
    assert (late["share_top_low"], late["share_top_high"]) == pytest.approx((low[0], high[0]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [0.02, 0.3])
def test_equal_to_an_independent_computation(store, seed, p):
    traces = random_traces(np.random.default_rng(seed), "r")
    write_run(store, "r", traces)
    x = np.concatenate([t.tokens.ce for t in traces])
    threshold = np.quantile(x, 1 - p)
    top = [
        np.flatnonzero(t.tokens.ce >= threshold - 1e-12 * threshold) / t.sample.n_tokens + 0.5 / t.sample.n_tokens
        for t in traces
    ]
    u = np.concatenate(top)
    first = np.array([places[0] for places in top if len(places)])
    got = rows(store, "position", metric="ce", p=p, bins=4)
    expected = np.histogram(u + 1e-12, bins=4, range=(0, 1), density=True)[0]
    every = np.concatenate([(np.arange(t.sample.n_tokens) + 0.5) / t.sample.n_tokens for t in traces])
    ratio = expected / np.histogram(every + 1e-12, bins=4, range=(0, 1), density=True)[0]
    assert [row["density_top"] for row in parts(got, "density")] == pytest.approx(expected, abs=1e-9)
    (peak,) = parts(got, "peak")
    assert [row["density_ratio"] for row in parts(got, "density")] == pytest.approx(ratio, abs=1e-9)
    assert (peak["density_ratio"], peak["middle"]) == pytest.approx((ratio.max(), (np.argmax(ratio) + 0.5) / 4))
    for name, inside in (("within", lambda places, x: places < x), ("beyond", lambda places, x: places >= x)):
        for row, edge in zip(parts(got, name), (0.05, 0.1, 0.2), strict=True):
            assert row["share_top"] == pytest.approx(inside(u, edge).mean(), abs=1e-9)
            assert row["share_first"] == pytest.approx(inside(first, edge).mean(), abs=1e-9)


def test_intervals_follow_the_threshold_of_the_resample(store, build):
    """Few problems of very different level: a fixed threshold would be far off."""
    rng = np.random.default_rng(3)
    problems, length, p = 12, 400, 0.05
    values = []
    for _ in range(problems):
        late = np.arange(length) / length
        values.append(rng.exponential(1.0, length) * np.exp(rng.normal(0, 0.5)) * (2 - 1.5 * late))
    write_run(store, "r", [build["trace"]("r", f"p{i:02d}", 0, x) for i, x in enumerate(values)])
    got = parts(run_query(store, "position", metric="ce", p=p, resamples=RESAMPLES).to_pylist(), "beyond")[-1]
    x, problem = np.concatenate(values), np.repeat(np.arange(problems), length)
    u = np.tile((np.arange(length) + 0.5) / length, problems)
    drawn = bootstrap(problems)
    ends = {"top": [], "first": []}
    one_more = drawn.imaginary(np.ones((problems, 1)))[:, 0]  # every problem has top tokens
    for weights, one in zip(drawn.weights, one_more, strict=True):
        inside = weighted_top(x, weights[problem], p)
        weight = inside * weights[problem]
        late, all_of = (weight * (u >= 0.2)).sum(), weight.sum()
        ends["top"].append((late / (all_of + one), (late + one) / (all_of + one)))
        # The token at the threshold is in by a part of its weight; what it is the first of, it is so by that part.
        later, samples = 0.0, 0.0
        for i in range(problems):
            places = np.flatnonzero((problem == i) & (inside > 0))
            by_part = places[inside[places] < 1]
            whole = places[inside[places] == 1]
            part = inside[by_part][0] if len(by_part) else 0.0
            for chosen, share in ((places, part), (whole, 1 - part)):
                if len(chosen):
                    samples += share * weights[i]
                    later += share * weights[i] * (u[chosen].min() >= 0.2)
        ends["first"].append((later / (samples + one), (later + one) / (samples + one)))
    for kind, found in ends.items():
        low, high = (np.quantile(each, place) for each, place in zip(np.transpose(found), (0.025, 0.975), strict=True))
        assert (got[f"share_{kind}_low"], got[f"share_{kind}_high"]) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_a_bin_without_top_tokens_is_not_certainly_empty(store, build):
    ce = [[9.0, 0.0, 0.0, 0.0]] * 5
    write_run(store, "g", [build["trace"]("g", f"p{i}", 0, values) for i, values in enumerate(ce)])
    last = parts(run_query(store, "position", metric="ce", bins=4, p=0.2).to_pylist(), "density")[-1]
    assert (last["density_top_low"], last["density_top_high"]) == pytest.approx((0, 4 * (1 - 0.025 ** (1 / 5))), rel=1e-3)
