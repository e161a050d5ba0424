"""Calibration: thresholds of nested subsets equal those of the gate's own code, and the spread of budgets."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.science.calibration import calibrate
from tests.statistics.conftest import RESAMPLES, bootstrap, random_traces, rows, share_ends, write_run


def base_rollouts(rng, run_id, **sizes):
    traces = random_traces(rng, run_id, fires=0.0, **sizes)
    for trace in traces:
        trace.tokens.ce[:] = rng.exponential(1.0, len(trace.tokens.ce)).astype(np.float32)  # as the store keeps it
    return traces


def test_golden(store, build):
    write_run(
        store, "d", [build["trace"]("d", "p1", 0, [1.0, 2, 3, 4]), build["trace"]("d", "p2", 0, [5.0, 6, 7, 8, 9, 10])]
    )
    store.add_calibration(build["calibration"](run_id="d"))
    fired = [np.array([True, False]), np.array([True, True, False, False])]
    taken = [build["trace"]("g", f"p{i}", 0, np.ones(len(f)), tokens={"fired": f}) for i, f in enumerate(fired)]
    write_run(store, "g", [*taken, build["trace"]("g", "p2", 0, np.ones(4))], program="guided")
    found = rows(store, "calibration", spike_ratio=0.3, shares=[0.5], seeds=2)
    stored = [row for row in found if row["part"] == "stored"]
    assert [(row["run_id"], row["quantity"], row["value"], row["spike_ratio"]) for row in stored] == [
        ("d", "tau", 1.5, 0.05),
        ("d", "lambda", 7.25, 0.05),
    ]
    whole = {row["quantity"]: row for row in found if row["part"] == "recomputed" and row["share"] == 1}
    # 3 of 10 scores may lie above tau: 8, 9 and 10, whose mean is 9; the mean of all is 5.5.
    assert whole["tau"]["value"] == 7.0
    assert whole["lambda"]["value"] == pytest.approx(9 / 5.5)
    assert (whole["tau"]["n_samples"], whole["tau"]["n_tokens"], whole["tau"]["n_values"]) == (2, 10, 1)
    (rho,) = [row for row in found if row["part"] == "rho"]
    assert (rho["run_id"], rho["n_values"], rho["n_samples"], rho["n_tokens"]) == ("g", 3, 3, 10)
    assert (rho["value"], rho["sd"]) == pytest.approx((1 / 3, np.std([0.5, 0.5, 0], ddof=1)))
    assert (rho["smallest"], rho["q25"], rho["median"], rho["largest"]) == pytest.approx((0, 0.25, 0.5, 0.5))


@pytest.mark.parametrize("ratio", [0.05, 0.29, 0.3])
@pytest.mark.parametrize("seed", range(2))
def test_subsets_equal_the_calibration_of_their_scores(store, ratio, seed):
    rng = np.random.default_rng(seed)
    traces = base_rollouts(rng, "d", problems=8, samples=2, longest=30)
    write_run(store, "d", traces)
    found = rows(store, "calibration", spike_ratio=ratio, shares=[0.25, 0.5], seeds=3)
    for share in (0.25, 0.5, 1.0):
        taus, lambdas = [], []
        for draw in (1, 2, 3) if share < 1 else (1,):
            order = sorted(traces, key=lambda trace: hashlib.md5(f"{trace.sample.sample_id} {draw}".encode()).hexdigest())
            scores = np.concatenate([trace.tokens.ce for trace in order[: int(np.ceil(share * len(order)))]])
            thresholds = calibrate(scores, ratio)
            taus.append(thresholds.tau)
            lambdas.append(thresholds.lambda_)
        for quantity, values in (("tau", taus), ("lambda", lambdas)):
            (row,) = [row for row in found if (row["quantity"], row["share"]) == (quantity, share)]
            assert row["value"] == pytest.approx(np.mean(values), abs=1e-9)
            assert [row["smallest"], row["largest"]] == pytest.approx([min(values), max(values)], abs=1e-9)
            if len(values) > 1:
                assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_rho_between_problems(store, seed):
    rng = np.random.default_rng(seed)
    traces = random_traces(rng, "g", problems=6)
    write_run(store, "g", traces)
    (row,) = run_query(store, "calibration", resamples=RESAMPLES).to_pylist()
    groups = [[t.sample for t in traces if t.sample.problem_id == f"p{p}"] for p in range(6)]
    rho = [sum(s.n_takeovers for s in group) / sum(s.n_tokens for s in group) for group in groups]
    assert (row["value"], row["sd"]) == pytest.approx((np.mean(rho), np.std(rho, ddof=1)), abs=1e-9)
    assert [row["q25"], row["median"], row["q75"]] == pytest.approx(np.quantile(rho, [0.25, 0.5, 0.75]), abs=1e-9)
    tokens = sum(t.sample.n_tokens for t in traces)
    assert [row["value_low"], row["value_high"]] == pytest.approx(share_ends(rho, [1] * 6, unit=6 / tokens), abs=1e-9)


def test_intervals_of_thresholds_are_those_of_all_scores(store):
    rng = np.random.default_rng(0)
    traces = base_rollouts(rng, "d", problems=20, samples=1, longest=40)
    write_run(store, "d", traces)
    found = run_query(store, "calibration", spike_ratio=0.1, resamples=RESAMPLES).to_pylist()
    ordered = sorted(traces, key=lambda trace: trace.sample.problem_id)
    taus, lambdas = [], []
    scores = np.concatenate([trace.tokens.ce for trace in ordered])
    order = np.argsort(-scores)
    for weights in bootstrap(20).weights:
        weight = np.repeat(weights, [len(trace.tokens.ce) for trace in ordered])[order]
        above = np.cumsum(weight) - weight
        at = int(np.flatnonzero(above <= 0.1 * weight.sum())[-1])
        taus.append(scores[order][at])
        spikes = np.dot(weight[:at], scores[order][:at]) / weight[:at].sum()
        lambdas.append(spikes / (np.dot(weight, scores[order]) / weight.sum()))
    whole = {row["quantity"]: row for row in found if row["share"] == 1}
    for quantity, values in (("tau", taus), ("lambda", lambdas)):
        bounds = [whole[quantity]["value_low"], whole[quantity]["value_high"]]
        assert bounds == pytest.approx(np.quantile(values, [0.025, 0.975]), rel=2e-2)


def test_equal_scores_have_no_threshold(store, build):
    write_run(store, "d", [build["trace"]("d", "p1", 0, np.ones(20))])
    with pytest.raises(UsageError, match="no rows for runs d"):
        run_query(store, "calibration")


def test_a_run_without_anything_is_refused(store, build):
    trace = build["trace"]("d")
    missing = replace(trace.tokens, metrics={**trace.tokens.metrics, "ce": np.full(3, np.nan)})
    write_run(store, "d", [replace(trace, tokens=missing)])
    with pytest.raises(UsageError, match="nothing to calibrate from in d: no calibration, no takeover, and ce is NULL"):
        run_query(store, "calibration")
