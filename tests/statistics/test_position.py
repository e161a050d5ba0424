"""Position: against histograms, and intervals against resamples whose top set is found token by token."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from tests.statistics.conftest import RESAMPLES, bootstrap, random_traces, rows, weighted_top, write_run


def parts(got, name):
    return [row for row in got if row["part"] == name]


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
    assert [row["share_top"] for row in parts(got, "within")] == [0, 0, 1]
    assert [row["share_first"] for row in parts(got, "beyond")] == [1, 1, 0]
    assert [row["share_all"] for row in parts(got, "beyond")] == pytest.approx([0.8, 0.8, 0.6])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [0.02, 0.3])
def test_equal_to_an_independent_computation(store, seed, p):
    traces = random_traces(np.random.default_rng(seed), "r")
    write_run(store, "r", traces)
    x = np.concatenate([t.tokens.ce for t in traces])
    threshold = np.quantile(x, 1 - p)
    top = [np.flatnonzero(t.tokens.ce >= threshold - 1e-12 * threshold) / t.sample.n_tokens for t in traces]
    u = np.concatenate(top)
    first = np.array([places[0] for places in top if len(places)])
    got = rows(store, "position", metric="ce", p=p, bins=4)
    expected = np.histogram(u + 1e-12, bins=4, range=(0, 1), density=True)[0]
    assert [row["density_top"] for row in parts(got, "density")] == pytest.approx(expected, abs=1e-9)
    (peak,) = parts(got, "peak")
    assert (peak["density_top"], peak["middle"]) == pytest.approx((expected.max(), (np.argmax(expected) + 0.5) / 4))
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
    u = np.tile(np.arange(length) / length, problems)
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
