"""Statistics against brute force and known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.statistics import estimates as statistics
from rrti_sgl.statistics.estimates import (
    bootstrap_interval,
    gini,
    paired_bootstrap_difference,
    pass_at_k,
    recovery,
    share_interval,
    share_of_tokens_carrying,
)

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
masses = st.lists(st.one_of(st.floats(0, 100), st.just(0.0)), min_size=1, max_size=40).filter(lambda x: sum(x) > 1e-3)


@pytest.mark.parametrize(("n", "c", "k"), [(n, c, k) for n in range(1, 7) for c in range(n + 1) for k in range(1, n + 1)])
def test_pass_at_k_counts_the_subsets(n: int, c: int, k: int) -> None:
    subsets = list(itertools.combinations(range(n), k))
    expected = sum(min(subset) < c for subset in subsets) / len(subsets)
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)
    assert pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)


def test_pass_at_k_is_vectorised() -> None:
    np.testing.assert_allclose(pass_at_k([8, 8, 4], [0, 8, 1], 4), [0.0, 1.0, 1.0])
    np.testing.assert_allclose(pass_at_k(200, np.array([3, 100]), 100)[0], 1 - math.comb(197, 100) / math.comb(200, 100))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses(n: int, c: int, k: int) -> None:
    with pytest.raises(UsageError):
        pass_at_k(n, c, k)


@SETTINGS
@given(values=masses)
def test_gini_is_the_mean_absolute_difference(values: list[float]) -> None:
    array = np.array(values)
    expected = np.abs(array[:, None] - array[None, :]).sum() / (2 * array.size * array.sum())
    assert gini(values) == pytest.approx(expected, abs=1e-9)


def test_gini_of_known_shapes() -> None:
    assert gini(np.ones(10)) == pytest.approx(0.0, abs=1e-12)
    assert gini([0.0] * 99 + [5.0]) == pytest.approx(0.99)


@SETTINGS
@given(values=masses, share=st.floats(0.01, 1.0))
def test_share_of_tokens_is_the_fewest_that_carry_it(values: list[float], share: float) -> None:
    descending = sorted(values, reverse=True)
    count = round(share_of_tokens_carrying(values, share) * len(values))
    assert sum(descending[:count]) >= share * sum(values) * (1 - 1e-9)
    assert sum(descending[: count - 1]) < share * sum(values) * (1 + 1e-9)


def test_share_of_tokens_is_not_the_gini() -> None:
    values = [0.0] * 90 + [1.0] * 10
    assert share_of_tokens_carrying(values, 0.8) == pytest.approx(0.08)
    assert share_of_tokens_carrying(values, 1.0) == pytest.approx(0.10)
    assert gini(values) == pytest.approx(0.90)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_concentration_refuses(values: list[float]) -> None:
    with pytest.raises(UsageError):
        gini(values)
    with pytest.raises(UsageError):
        share_of_tokens_carrying(values, 0.5)


@pytest.mark.parametrize("share", [0.0, 1.1, math.nan])
def test_share_out_of_range(share: float) -> None:
    with pytest.raises(UsageError, match="share"):
        share_of_tokens_carrying([1.0], share)


def test_bootstrap_interval_of_a_proportion() -> None:
    values = np.random.default_rng(0).random(1000) < 0.3
    interval = bootstrap_interval(values, seed=1)
    standard_error = math.sqrt(0.3 * 0.7 / 1000)
    assert interval.estimate == values.mean()
    assert interval.low == pytest.approx(interval.estimate - 1.96 * standard_error, abs=0.004)
    assert interval.high == pytest.approx(interval.estimate + 1.96 * standard_error, abs=0.004)
    assert interval == bootstrap_interval(values, seed=1)
    assert interval != bootstrap_interval(values, seed=2)


def test_bootstrap_agrees_with_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_CHUNK", 50)  # several chunks
    values = np.random.default_rng(3).random(12)
    rng = np.random.default_rng(9)
    means = [values[rng.integers(0, 12, 12)].mean() for _ in range(40)]
    interval = bootstrap_interval(values, seed=9, n=40, level=0.8)
    assert (interval.low, interval.high) == pytest.approx((np.quantile(means, 0.1), np.quantile(means, 0.9)))


def test_samples_of_one_problem_do_not_narrow_the_interval() -> None:
    by_problem = (np.random.default_rng(2).random(100) < 0.5).astype(float)
    repeated = np.repeat(by_problem[:, None], 8, axis=1)
    once, clustered = bootstrap_interval(by_problem, seed=0), bootstrap_interval(repeated, seed=0)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))


def test_pairing_removes_what_the_problems_share() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.random(300)
    a, b = difficulty + 0.05 + 0.01 * rng.normal(size=300), difficulty
    paired = paired_bootstrap_difference(a, b, seed=0)
    assert paired.estimate == pytest.approx(0.05, abs=0.002)
    assert paired.high - paired.low < 0.1 * (bootstrap_interval(a, seed=0).high - bootstrap_interval(a, seed=0).low)
    assert paired_bootstrap_difference(a[:, None], np.repeat(b[:, None], 3, axis=1), seed=0).low == pytest.approx(paired.low)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_interval([], seed=0),
        lambda: bootstrap_interval([1.0, math.nan], seed=0),
        lambda: bootstrap_interval([1.0], seed=0, level=1.0),
        lambda: bootstrap_interval([1.0], seed=0, n=0),
        lambda: paired_bootstrap_difference([1.0, 2.0], [1.0], seed=0),
    ],
)
def test_bootstrap_refuses(call: object) -> None:
    with pytest.raises(UsageError):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("guided", "base", "reasoning", "expected"),
    [
        (0.5, 0.2, 0.8, 0.5),
        (0.2, 0.2, 0.8, 0.0),
        (1.1, 0.2, 0.8, 1.5),
        (None, 0.2, 0.8, None),
        (0.5, math.nan, 0.8, None),
    ],
)
def test_recovery(guided: float | None, base: float, reasoning: float, expected: float | None) -> None:
    assert recovery(guided, base, reasoning) == (None if expected is None else pytest.approx(expected))


def test_recovery_of_no_gap_is_undefined() -> None:
    with pytest.raises(UsageError, match=r"both at 0\.3"):
        recovery(0.5, 0.3, 0.3)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.025 ** (1 / 50), 1.0), (0.0, 0.0, 1 - 0.025 ** (1 / 50))])
def test_share_interval_of_unanimous_problems_is_the_exact_bound(value, low, high):
    interval = share_interval(np.full(50, value), seed=0)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_share_interval_is_the_bootstrap_elsewhere():
    values = np.arange(40) % 3 == 0
    assert share_interval(values, seed=3) == bootstrap_interval(values, seed=3)
