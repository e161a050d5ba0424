"""Intervals over problems: exact ones for right and wrong answers, Student's for means, honest ones at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, t

from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.resampling import MIN_PROBLEMS, ProblemBootstrap, quantile, student_shape

SETTINGS = settings(derandomize=True, deadline=None, max_examples=80)


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    return low, beta.ppf(0.975, k + 1, n - k) if k < n else 1.0


def counts(k: int, n: int) -> tuple[float, float]:
    """The interval of k right among n problems, one sample each."""
    interval = ProblemBootstrap(n, exact=True).share(np.arange(n) < k, 1.0)
    return interval.low, interval.high


@pytest.mark.parametrize("n", [1, 2, 20, 41, 1000])
@pytest.mark.parametrize("place", [0.0, 0.025, 0.5, 0.975, 1.0])
def test_a_quantile_is_numpys_to_the_last_digit(n, place):
    values = np.random.default_rng(n).normal(size=(n, 50))
    values[:, :10] = np.round(values[:, :10])  # many are equal
    np.testing.assert_array_equal(quantile(values, place), np.quantile(values, place, axis=0))
    np.testing.assert_array_equal(quantile(values[:, 0], place), np.quantile(values[:, 0], place))


@pytest.mark.parametrize("n", [2, 5, 10, 30, 200])
def test_all_or_none_is_the_exact_bound_of_the_problems(n):
    assert counts(0, n) == pytest.approx((0.0, 1 - 0.025 ** (1 / n)), rel=1e-3)
    assert counts(n, n) == pytest.approx((0.025 ** (1 / n), 1.0), rel=1e-3)


@pytest.mark.parametrize(("k", "n"), [(1, 10), (5, 10), (29, 30), (3, 200), (43, 200), (195, 200), (199, 200)])
def test_counts_of_problems_have_the_interval_of_clopper_and_pearson(k, n):
    low, high = clopper_pearson(k, n)
    found = counts(k, n)
    assert found == pytest.approx((low, high), abs=0.06 * (high - low))  # the noise of 1,000 resamples


@pytest.mark.parametrize(("n", "samples"), [(200, 1), (30, 1), (200, 8), (30, 8)])
def test_the_bound_of_all_right_is_not_below_that_of_all_but_one(n, samples):
    """200 of 200, and 1,600 of 1,600 samples of 200 problems."""
    right = np.full(n, float(samples))
    fewer = np.r_[samples - 1.0, right[1:]]
    exact = ProblemBootstrap(n, exact=True)
    all_right, all_but_one = (exact.share(each / samples, 1.0) for each in (right, fewer))
    assert all_right.low > all_but_one.low
    assert all_right.high == 1.0 >= all_but_one.high


def test_no_token_of_a_few_has_the_exact_bound_of_those_that_can_contribute():
    """0 of 8 tokens, one in each of 8 of 200 problems: .369 and not .018, the bound of 200."""
    trials = (np.arange(200) < 8).astype(float)
    interval = ProblemBootstrap(200).share(np.zeros(200), trials)
    assert (interval.low, interval.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / 8)), rel=1e-3)
    assert interval.high == pytest.approx(0.369, abs=1e-3)


def test_no_token_is_not_bounded_below_one_token():
    """0 of 94 top tokens in a bin of 20: the density ends above .21, which one token would have, and below one token's."""
    rng = np.random.default_rng(0)
    trials = np.bincount(rng.integers(0, 200, 94), minlength=200).astype(float)
    one = np.zeros(200)
    one[np.flatnonzero(trials)[0]] = 1.0
    none_of, one_of = (ProblemBootstrap(200).share(hits, trials) for hits in (np.zeros(200), one))
    exact = 1 - 0.025 ** (1 / 94)
    assert 20 * none_of.high > 20 * exact > 0.21
    assert none_of.high == pytest.approx(exact, rel=0.1)
    assert none_of.high < one_of.high
    assert none_of.low == 0.0 < one_of.low


@SETTINGS
@given(data=st.data())
def test_shares_stay_in_their_range_and_grow_with_every_hit(data):
    n = data.draw(st.integers(MIN_PROBLEMS, 20))
    trials = np.array(data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=n)), dtype=float)
    hits = np.array([data.draw(st.integers(0, int(each))) for each in trials], dtype=float)
    more = np.minimum(hits + np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))), trials)
    bootstrap = ProblemBootstrap(n, n=200)
    few, many = (bootstrap.share(each, trials) for each in (hits, more))
    for each in (few, many):
        assert 0 <= each.low < each.high <= 1
    assert few.low <= many.low + 1e-12
    assert few.high <= many.high + 1e-12


@pytest.mark.parametrize("n", [5, 8, 30, 200])
def test_weights_are_as_wide_as_student(n):
    """n a + 1 degrees of the weights give the variance that Student's t has beside the normal."""
    z, quantile = 1.959963984540054, t.ppf(0.975, n - 1)
    assert n * student_shape(n) + 1 == pytest.approx((n - 1) * (z / quantile) ** 2, rel=2e-3)


@pytest.mark.parametrize("n", [8, 30, 200])
def test_means_have_the_interval_of_student(n):
    values = np.random.default_rng(1).normal(size=n)
    bootstrap = ProblemBootstrap(n, n=20_000)
    low, high = bootstrap.percentiles(bootstrap.sums(values[:, None]) / n)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    assert high[0] - low[0] == pytest.approx(2 * half, rel=0.05)
    assert low[0] < values.mean() < high[0]


def test_ten_agreeing_problems_may_yet_differ():
    agreeing = ProblemBootstrap(10).differences(np.zeros((10, 1)), np.ones((10, 1)))
    assert (agreeing[0][0], agreeing[1][0]) == pytest.approx((-(1 - 0.025 ** (1 / 10)), 1 - 0.025 ** (1 / 10)), rel=1e-3)
    gains = np.r_[np.ones(9), -1.0][:, None]
    low, high = ProblemBootstrap(10).differences(gains, np.ones((10, 1)))
    assert -1 <= low[0] < 0.8 < high[0] <= 1


def recovery(base: np.ndarray, run: np.ndarray, reasoning: np.ndarray) -> tuple[float, float]:
    bootstrap = ProblemBootstrap(len(base))
    gain, lead = (bootstrap.sums(each - base) for each in (run, reasoning))
    return bootstrap.parts_of_lead(gain, lead, bootstrap.imaginary(np.ones((len(base), 1)))[:, 0])


def test_recovery_between_two_perfect_runs_is_not_certainly_all():
    """Both pass on all of 30 problems, [88.4, 100] each, where the base model passes on 19: the lead is 11 problems.

    One more problem weighs up to 0.1157 / 0.8843 of 30 in a resample, 0.36 of the lead; more where that has less weight.
    """
    low, high = recovery(np.arange(30) < 19, np.ones(30), np.ones(30))
    assert 0.5 < low < 1 - 0.1157 / 0.8843 * 30 / 11
    assert high == pytest.approx(2 - low)


def test_no_part_of_an_uncertain_lead_is_told():
    base, even = np.arange(30) < 15, np.arange(30) < 16
    assert np.isnan(recovery(base.astype(float), np.ones(30), even.astype(float))).all()
    behind = recovery(np.ones(30), np.arange(30) < 15, np.zeros(30))
    assert behind[0] < 0.5 < behind[1]


@pytest.mark.parametrize("n", [1, MIN_PROBLEMS - 1])
def test_few_problems_have_no_interval(n):
    """Two problems that agree on .175 of their tokens say nothing of a third."""
    interval = ProblemBootstrap(n).share(np.full(n, 7.0), np.full(n, 40.0))
    assert interval.estimate == 0.175
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan(ProblemBootstrap(1, exact=True).share([1.0], 1.0).low)


def test_few_contributing_problems_have_no_interval_between_the_ends():
    trials = np.r_[np.full(MIN_PROBLEMS - 1, 40.0), np.zeros(200)]
    assert np.isnan(ProblemBootstrap(len(trials)).share(trials / 4, trials).low)
    assert ProblemBootstrap(len(trials)).share(0 * trials, trials).high > 1 - 0.025 ** (1 / 160)


def test_what_does_not_vary_or_is_mostly_undefined_has_no_interval():
    bootstrap = ProblemBootstrap(10)
    some = np.linspace(0, 1, bootstrap.n)
    table = np.stack(
        [np.ones(bootstrap.n), np.where(some < 0.02, np.nan, some), np.where(some < 0.03, np.inf, some), some], axis=1
    )
    low, high = bootstrap.percentiles(table)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True, False]
    assert (low[3], high[3]) == pytest.approx((0.025, 0.975))


def test_the_same_seed_draws_the_same_weights():
    first, again, other = (ProblemBootstrap(30, seed=seed).weights for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first.mean(axis=1), 1.0)
    assert (first > 0).all()


@pytest.mark.parametrize("arguments", [{"n_problems": 0}, {"n_problems": 3, "n": 1}])
def test_what_cannot_be_resampled_is_refused(arguments):
    with pytest.raises(UsageError):
        ProblemBootstrap(**arguments)
