"""Calibration: tau as a quantile, lambda as a ratio of means, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import CalibrationMismatchError, UsageError
from rrti_sgl.records import CalibrationRecord
from rrti_sgl.science.calibration import calibrate, check_compatible, separating, sweep
from rrti_sgl.science.gates import ThresholdRule, replay

SETTINGS = settings(derandomize=True, deadline=None, max_examples=200)

RECORD = CalibrationRecord(
    calibration_id="c1",
    run_id="r1",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    base_model="base",
    reasoning_model="reasoning",
    tokenizer_hash="abc",
    metric="ce",
    score_kind="topk",
    k=20,
    spike_ratio=0.08,
    tau=1.0,
    lambda_=3.0,
    mean_score=0.5,
    n_tokens=100,
    n_samples=10,
    mean_length=10.0,
)
RUN = {
    "metric": "ce",
    "score_kind": "topk",
    "k": 20,
    "base_model": "base",
    "reasoning_model": "reasoning",
    "tokenizer_hash": "abc",
}


@SETTINGS
@given(
    scores=st.lists(st.one_of(st.floats(0, 10), st.integers(0, 4).map(float)), min_size=2, max_size=200),
    ratio=st.floats(0.01, 0.99),
)
def test_tau_is_the_lowest_score_that_keeps_the_ratio(scores: list[float], ratio: float) -> None:
    values = np.array(scores)
    candidates = [tau for tau in sorted(set(scores)) if 0 < np.mean(values > tau) <= ratio]
    assume(candidates)
    thresholds = calibrate(values, ratio)
    assert thresholds.tau == candidates[0]
    above = values > thresholds.tau
    assert thresholds.fired_share == np.mean(above)
    assert thresholds.lambda_ == pytest.approx(values[above].mean() / values.mean())
    assert thresholds.lambda_ >= 1.0 - 1e-12
    assert (thresholds.n_tokens, thresholds.spike_ratio) == (len(scores), ratio)


@pytest.mark.parametrize("ratio", [0.01, 0.07, 0.29, 0.57, 0.58])
def test_products_that_round_down_lose_no_token(ratio: float) -> None:
    thresholds = calibrate(np.arange(100.0), ratio)
    assert thresholds.fired_share == ratio


def test_the_rule_fires_at_the_calibrated_share() -> None:
    scores = np.random.default_rng(0).exponential(size=5000)
    thresholds = calibrate(scores, 0.08)
    fired, _ = replay(scores, ThresholdRule(thresholds.tau))
    assert fired.mean() == thresholds.fired_share == 0.08


def test_sweep_is_calibrate_for_each_ratio() -> None:
    scores = np.random.default_rng(1).exponential(size=500)
    ratios = [0.02, 0.25, 0.08]
    assert sweep(scores, ratios) == [calibrate(scores[::-1], ratio) for ratio in ratios]


SCORES = st.lists(st.one_of(st.floats(0, 10), st.integers(0, 4).map(float)), min_size=1, max_size=200)


@SETTINGS
@given(scores=SCORES, share=st.floats(0, 1))
def test_a_followed_threshold_is_no_score_and_keeps_the_share(scores: list[float], share: float) -> None:
    """And lies as far from the scores beside it as can be: greedy runs meet those tokens again, up to rounding."""
    values = np.array(scores)
    shares = [np.mean(values > tau) for tau in (*scores, -1.0)]
    best = max(found for found in shares if found <= share)
    if best == 0 and share * len(scores) >= 1:
        with pytest.raises(UsageError, match="are equal"):
            separating(values, share)
        return
    tau = separating(values, share)
    assert np.mean(values > tau) == best
    below, larger = values[values <= tau], values[values > tau]
    gap = min(larger, default=math.inf) - max(below, default=-math.inf)
    nearest = np.abs(values - tau).min()
    assert nearest == pytest.approx(gap / 2 if math.isfinite(gap) else 1, rel=1e-6, abs=1e-12)


def test_a_followed_threshold_lies_midway() -> None:
    assert separating(np.array([3.0, 1.0, 2.0, 5.0]), 0.5) == 2.5
    assert calibrate(np.array([3.0, 1.0, 2.0, 5.0]), 0.5).tau == 2.0


@pytest.mark.parametrize(
    ("scores", "ratio", "message"),
    [
        ([], 0.1, "empty"),
        ([1.0, math.nan, 2.0], 0.1, "1 NaN or infinite values, the first at index 1"),
        ([1.0, math.inf], 0.1, "js or tv"),
        ([1.0, 2.0], 0.0, "spike_ratio=0.0"),
        ([1.0, 2.0], 1.0, "spike_ratio=1.0"),
        ([1.0, 2.0], math.nan, "spike_ratio=nan"),
        ([1.0, 2.0, 3.0], 0.1, "at least 10 tokens"),
        ([1.0] * 20, 0.1, "3 largest of 20 are equal"),
        ([-2.0, -1.0], 0.5, "mean score"),
    ],
)
def test_refusals(scores: list[float], ratio: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        calibrate(np.array(scores), ratio)


def test_a_fitting_calibration_passes() -> None:
    check_compatible(RECORD, **RUN)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [*{**RUN, "k": 64, "metric": "js", "score_kind": "full"}.items()])
def test_each_difference_is_refused(name: str, value: object) -> None:
    other = f"{value}-other" if getattr(RECORD, name) == value else value
    with pytest.raises(CalibrationMismatchError, match=name) as caught:
        check_compatible(RECORD, **{**RUN, name: other})  # type: ignore[arg-type]
    assert repr(getattr(RECORD, name)) in str(caught.value)
    assert repr(other) in str(caught.value)
    assert "`calibrate(...)`" in caught.value.remedy


def test_all_differences_are_listed_at_once() -> None:
    with pytest.raises(CalibrationMismatchError, match=r"metric .*; k .*; base_model "):
        check_compatible(replace(RECORD, metric="tv", k=64, base_model="x"), **RUN)  # type: ignore[arg-type]
