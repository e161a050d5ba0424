"""Transfer: a threshold of one problem set on the tokens of another, with intervals over the problems of both."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import RESAMPLES, random_traces, rows, write_run


def by_pair(found):
    return {(row["from_run_id"], row["run_id"], row["spike_ratio"]): row for row in found}


def test_golden(store, build):
    write_run(store, "a", [build["trace"]("a", "p1", 0, [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])], problem_set="small")
    write_run(store, "b", [build["trace"]("b", "q1", 0, [10.0, 20, 30, 40, 50])], problem_set="large")
    fired = {"fired": np.array([True, False, False, True])}
    write_run(store, "g", [build["trace"]("g", "q1", 0, [9.0, 1, 2, 30], tokens=fired)], program="guided")
    found = by_pair(rows(store, "transfer", spike_ratios=[0.2]))
    # a: 9 and 10 lie above 8; b: 50 above 40. The guided run gives none.
    assert {pair: (row["tau"], row["rate"], row["n_tokens"]) for pair, row in found.items()} == {
        ("a", "a", 0.2): (8, 0.2, 10),
        ("b", "a", 0.2): (40, 0, 10),
        ("a", "b", 0.2): (8, 1, 5),
        ("b", "b", 0.2): (40, 0.2, 5),
        ("a", "g", 0.2): (8, 0.5, 4),
        ("b", "g", 0.2): (40, 0, 4),
    }
    assert found["a", "b", 0.2]["orders"] == pytest.approx(np.log10(8 / 40))
    assert found["b", "a", 0.2]["orders"] == pytest.approx(np.log10(40 / 8))
    assert (found["a", "a", 0.2]["orders"], found["a", "g", 0.2]["orders"]) == (0, None)
    assert (found["a", "b", 0.2]["from_problem_set"], found["a", "b", 0.2]["problem_set"]) == ("small", "large")


def scores_of(traces):
    ordered = sorted(traces, key=lambda trace: trace.sample.problem_id)
    names = sorted({trace.sample.problem_id for trace in ordered})
    problem = [np.full(len(trace.tokens.ce), names.index(trace.sample.problem_id)) for trace in ordered]
    return np.concatenate([trace.tokens.ce for trace in ordered]), np.concatenate(problem)


def continuous(rng, run, **sizes):
    traces = random_traces(rng, run, fires=0.0, **sizes)
    for trace in traces:
        trace.tokens.ce[:] = rng.exponential(1.0, len(trace.tokens.ce)).astype(np.float32)
    return traces


@pytest.mark.parametrize("same", [False, True])
def test_intervals_are_over_the_problems_of_both(store, build, same):
    """Both runs resampled by hand, problem by problem: the weights are alike where the problems are."""
    rng = np.random.default_rng(2)
    source, target = (continuous(rng, run, problems=20, samples=1, longest=40) for run in "ab")
    if not same:
        target = [build["trace"]("b", f"q{t.sample.problem_id}", 0, t.tokens.ce) for t in target]
    write_run(store, "a", source)
    write_run(store, "b", target)
    row = by_pair(run_query(store, "transfer", spike_ratios=[0.1], resamples=RESAMPLES).to_pylist())["a", "b", 0.1]
    (theirs, of_theirs), (ours, of_ours) = scores_of(source), scores_of(target)
    boots = ProblemBootstrap(20, n=RESAMPLES), ProblemBootstrap(20, n=RESAMPLES, seed=0 if same else 1)
    taus, rates, orders = [], [], []
    for weights, mine in zip(boots[0].weights, boots[1].weights, strict=True):
        there, here = (
            threshold(scores, weight[problem], 0.1)
            for scores, weight, problem in ((theirs, weights, of_theirs), (ours, mine, of_ours))
        )
        taus.append(there)
        rates.append(np.dot(mine[of_ours], ours > there) / mine[of_ours].sum())
        orders.append(np.log10(there / here))
    assert row["tau"] == calibrate(theirs, 0.1).tau
    assert row["rate"] == np.mean(ours > row["tau"])
    # A threshold between two scores is interpolated, and the rate has one more token.
    for name, values, within in (("tau", taus, 0.05), ("rate", rates, 0.02), ("orders", orders, 0.02)):
        ends = [row[f"{name}_low"], row[f"{name}_high"]]
        assert ends == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=within), name


def threshold(scores, weights, ratio):
    order = np.argsort(-scores)
    above = np.cumsum(weights[order]) - weights[order]
    return scores[order][int(np.flatnonzero(above <= ratio * weights.sum())[-1])]


def test_scores_of_other_models_or_lists_are_not_compared(store, build):
    write_run(store, "a", [build["trace"]("a", "p1", 0, np.arange(1.0, 11))])
    write_run(store, "b", [build["trace"]("b", "p1", 0, np.arange(1.0, 11))], k=7)
    assert {(row["from_run_id"], row["run_id"]) for row in rows(store, "transfer", spike_ratios=[0.2])} == {
        ("a", "a"),
        ("b", "b"),
    }


def test_a_ratio_that_has_no_threshold_is_left_out(store, build):
    write_run(store, "a", [build["trace"]("a", "p1", 0, np.arange(1.0, 11))])
    assert {row["spike_ratio"] for row in rows(store, "transfer")} == {0.13}
