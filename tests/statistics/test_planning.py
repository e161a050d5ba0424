"""Planning words: against counts, scipy's odds ratio, and intervals against resamples token by token."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import odds_ratio

from rrti_sgl.db.queries import run_query
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import RESAMPLES, bootstrap, pooled, random_traces, rows, weighted_top, write_run

SETS = ("all", "top_metric", "top_entropy", "takeovers")
TAGS = np.array([None, None, "goal", "revision"])
WORDS = np.array([" So", "so", "x", "y ", "\n"])


def traces_with_words(rng, run_id, **options):
    traces = random_traces(rng, run_id, **options)
    for trace in traces:
        length = trace.sample.n_tokens
        trace.tokens.planning_tag[:] = rng.choice(TAGS, length).tolist()
        trace.tokens.token_text[:] = rng.choice(WORDS, length).tolist()
    return traces


def top(values, p):
    threshold = np.quantile(values, 1 - p)
    return values >= threshold - 1e-12 * abs(threshold)


def test_golden(store, build):
    # 20 tokens, 5 of them planning words; the four largest, one a sample, are all planning words.
    ce = [[0.0, 4.0 * (i + 1), 1.0, 0.0, 1.0] for i in range(4)]
    traces = []
    for i, values in enumerate(ce):
        tags = [None, "goal", None, None, "plan" if i == 3 else None]
        fired = np.array([False, i == 1, False, False, i >= 2])
        traces.append(build["trace"]("g", f"p{i}", 0, values, tokens={"planning_tag": tags, "fired": fired}))
    write_run(store, "g", traces)
    got = {(row["label"], row["tokens"]): row for row in pooled(rows(store, "planning", metric="ce", p=0.2, least=4))}
    assert (got[None, "all"]["n_tokens"], got[None, "all"]["n_matching"]) == (20, 5)
    assert (got[None, "top_metric"]["n_tokens"], got[None, "top_metric"]["n_matching"]) == (4, 4)
    assert got[None, "top_metric"]["enrichment"] == pytest.approx(4.0)
    assert got[None, "top_metric"]["odds_ratio"] is None
    assert got["goal", "top_metric"]["enrichment"] == pytest.approx(5.0)
    assert got["plan", "takeovers"]["share"] == pytest.approx(1 / 3)
    # 2 of 3 takeovers against 3 of the other 17.
    assert got[None, "takeovers"]["odds_ratio"] == pytest.approx(2 / (3 / 14))
    # t1 is every token of the set and 4 of all 20: 2 (4 ln 5 + 16 ln(20 / 16)).
    assert got["t1", "top_metric"]["keyness"] == pytest.approx(2 * (4 * np.log(5) + 16 * np.log(1.25)))


def test_an_empty_set_has_no_share(store, build):
    write_run(store, "r", [build["trace"]("r", p, tokens={"planning_tag": ["goal", None, None]}) for p in ("p1", "p2")])
    row = next(row for row in pooled(run_query(store, "planning", metric="ce").to_pylist()) if row["tokens"] == "takeovers")
    assert {row[name] for name in ("share", "share_low", "enrichment", "odds_ratio", "odds_ratio_high")} == {None}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [0.05, 0.3])
def test_equal_to_an_independent_computation(store, seed, p):
    traces = traces_with_words(np.random.default_rng(seed), "r")
    write_run(store, "r", traces)
    x, h, fired = (np.concatenate([getattr(t.tokens, name) for t in traces]) for name in ("ce", "entropy_base", "fired"))
    tags = np.array([tag for t in traces for tag in t.tokens.planning_tag], dtype=object)
    words = np.array([text.strip().lower() for t in traces for text in t.tokens.token_text])
    chosen = dict(zip(SETS, (x >= 0, top(x, p), top(h, p), fired), strict=True))
    got = pooled(rows(store, "planning", metric="ce", p=p, least=1))
    for row in got:
        inside = chosen[row["tokens"]]
        matching = words == row["label"] if row["part"] == "word" else tags != None  # noqa: E711 - elementwise
        matching = tags == row["label"] if row["part"] == "category" else matching
        assert (row["n_tokens"], row["n_matching"]) == (inside.sum(), (inside & matching).sum())
        assert row["enrichment"] == pytest.approx(matching[inside].mean() / matching.mean(), abs=1e-9)
        table = np.array([[(inside & matching).sum(), (inside & ~matching).sum()],
                          [(~inside & matching).sum(), (~inside & ~matching).sum()]])  # fmt: skip
        if table.all():
            assert row["odds_ratio"] == pytest.approx(odds_ratio(table, kind="sample").statistic, abs=1e-9)
        else:
            assert row["odds_ratio"] is None
        if row["part"] == "word":
            ratio = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
            assert row["keyness"] == pytest.approx(ratio, abs=1e-9)
    listed = [row["label"] for row in got if row["part"] == "word"]
    expected = {word for word in words if word and (words[top(x, p)] == word).mean() > (words == word).mean()}
    assert set(listed) == expected


def test_intervals_follow_the_threshold_of_the_resample(store, build):
    rng = np.random.default_rng(9)
    problems, length, p = 60, 150, 0.05
    data = []
    for _ in range(problems):
        x = rng.exponential(1.0, length) * np.exp(rng.normal(0, 0.5))
        data.append((x, rng.random(length) < np.clip(x / 8, 0.05, 0.9)))
    tags = [{"planning_tag": ["goal" if flag else None for flag in plan]} for _, plan in data]
    write_run(store, "r", [build["trace"]("r", f"p{i:02d}", 0, x, tokens=tags[i]) for i, (x, _) in enumerate(data)])
    got = pooled(run_query(store, "planning", metric="ce", p=p, resamples=RESAMPLES).to_pylist())
    got = next(row for row in got if row["tokens"] == "top_metric")
    x, plan = (np.concatenate([each[side] for each in data]) for side in (0, 1))
    problem = np.repeat(np.arange(problems), length)
    drawn = bootstrap(problems)
    one_more = drawn.imaginary(np.bincount(problem, top(x, p), problems)[:, None])[:, 0]
    ends = {name: [] for name in ("share", "enrichment", "odds_ratio")}
    for weights, one in zip(drawn.weights, one_more, strict=True):
        weight = weights[problem]
        inside = weight * weighted_top(x, weight, p)
        a, b, c, d = (float((part * mask).sum()) for part in (inside, weight - inside) for mask in (plan, ~plan))
        ends["share"].append((a / (a + b + one), (a + one) / (a + b + one)))
        low = a / (a + b + one) / ((a + c + one) / (a + b + c + d + 2 * one))
        ends["enrichment"].append((low, (a + one) / (a + b + one) / ((a + c + one) / (a + b + c + d + one))))
        ends["odds_ratio"].append((a * d / ((b + one) * (c + one)), (a + one) * d / (b * c)))
    for name, found in ends.items():
        low, high = (np.quantile(each, place) for each, place in zip(np.transpose(found), (0.025, 0.975), strict=True))
        assert (got[f"{name}_low"], got[f"{name}_high"]) == pytest.approx((low, high), abs=0.02 * (high - low))


def test_a_word_that_is_nearly_all_of_a_set_has_possible_bounds(store, build):
    """`add` of an early run: share_high was 1.037, the odds ratio 491.6 [-4920, 5485]."""
    rng = np.random.default_rng(0)
    for i in range(200):
        words, values = rng.choice(["add", "take", "9"], 12, p=[0.05, 0.3, 0.65]), rng.random(12)
        if i % 8 == 0:
            words[0], values[0] = "add" if i else "take", 9.0
        tokens = {"token_text": words.tolist(), "planning_tag": ["goal", *[None] * 11]}
        store_traces = [build["trace"]("r", f"p{i:03d}", 0, values, tokens=tokens)]
        if i == 0:
            write_run(store, "r", store_traces)
        else:
            store.write_samples(store_traces)
    [got] = [row for row in pooled(run_query(store, "planning", metric="ce", p=0.0105).to_pylist()) if row["label"] == "add"]
    assert (got["n_tokens"], got["n_matching"]) == (26, 24)
    assert 0 < got["share_low"] < got["share"] < got["share_high"] <= 1
    assert 0 < got["odds_ratio_low"] < got["odds_ratio"] < got["odds_ratio_high"]
    assert 1 < got["enrichment_low"] < got["enrichment"] < got["enrichment_high"]


def test_no_planning_word_in_the_set_bounds_its_share(store, build):
    tokens = {"planning_tag": ["goal", None, None, None]}
    write_run(store, "r", [build["trace"]("r", f"p{i}", 0, [0.0, 1.0, 2.0, 9.0], tokens=tokens) for i in range(5)])
    got = pooled(run_query(store, "planning", metric="ce", p=0.2).to_pylist())[1]
    bound = 1 - 0.025 ** (1 / 5)
    assert (got["share"], got["share_low"], got["share_high"]) == pytest.approx((0, 0, bound), rel=1e-3)
    # One of the four tokens of each problem is a planning word, and so is the one more, of such a weight beside a problem's.
    weight = bound / (1 - bound)
    assert got["enrichment_high"] == pytest.approx(bound / ((1 + weight) / (4 + weight)), rel=1e-3)


def test_odds_have_no_cap_where_enrichment_has_one(store, build):
    """33.3 % against 1.9 % is 17.6 times, and odds of 25.8; of 12.8 % planning words 7.8 times is the most."""
    tags = ["plan" if i < 19 else None for i in range(1000)]
    fired = np.isin(np.arange(1000), [*range(10), *range(500, 520)])
    write_run(store, "r", [build["trace"]("r", "p1", 0, np.zeros(1000), tokens={"planning_tag": tags, "fired": fired})])
    found = {row["tokens"]: row for row in rows(store, "planning", metric="ce") if row["part"] == "planning"}
    assert found["takeovers"]["enrichment"] == pytest.approx(17.5, abs=0.1)
    assert found["takeovers"]["odds_over_all"] == pytest.approx((10 / 20) / (19 / 981)) == pytest.approx(25.8, abs=0.05)
    assert found["takeovers"]["odds_ratio"] == pytest.approx((10 / 20) / (9 / 961))
    assert "every token" in found["top_metric"]["note"]


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_top_sets_within_samples(store, p):
    traces = random_traces(np.random.default_rng(3), "r", problems=8, longest=40)
    for trace in traces:
        trace.tokens.planning_tag[:] = ["plan" if x < 3 else None for x in trace.tokens.kl]
    write_run(store, "r", traces)
    found = run_query(store, "planning", metric="ce", p=p).to_pylist()
    planned = [np.array([tag is not None for tag in t.tokens.planning_tag]) for t in traces]
    problem = [int(t.sample.problem_id[1:]) for t in traces]
    for tokens, name in (("top_metric", "ce"), ("top_entropy", "entropy_base")):
        [row] = [r for r in found if (r["part"], r["tokens"], r["within"]) == ("planning", tokens, "sample")]
        inside = [x >= np.quantile(x, 1 - p) * (1 - 1e-12) for x in (getattr(t.tokens, name) for t in traces)]
        n, matching = ([each.sum() for each in of] for of in (inside, [a & b for a, b in zip(inside, planned, strict=True)]))
        assert (row["n_tokens"], row["n_matching"]) == (sum(n), sum(matching))
        low, high = ProblemBootstrap(8).shares(np.bincount(problem, matching)[:, None], np.bincount(problem, n)[:, None])
        assert (row["share_low"], row["share_high"]) == pytest.approx((low[0], high[0]))
