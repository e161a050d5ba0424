"""Re-gating decides as the gate objects do, position by position, and its numbers are those of their definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.science import regating
from rrti_sgl.science.calibration import calibrate, sweep
from rrti_sgl.science.gates import DivergenceGate, EntropyGate
from rrti_sgl.science.regating import Regating, ScoredTokens, local_means, ratio_for_budget
from rrti_sgl.science.threshold import ThresholdRule, replay
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.science.threshold_rules import threshold_rules

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
score = st.one_of(st.floats(0, 20), st.sampled_from([0.0, 0.1, 1.0, 2.0, np.inf]))
samples_of_scores = st.lists(st.lists(score, min_size=1, max_size=45), min_size=1, max_size=6)
rules = threshold_rules(50)


def tokens_of(samples: list[list[float]], problems: list[int] | None = None, **changes: object) -> ScoredTokens:
    scores = np.concatenate([np.asarray(one, dtype=np.float64) for one in samples])
    values = {
        "scores": scores,
        "lengths": np.array([len(one) for one in samples], dtype=np.int32),
        "problems": np.array(problems or range(len(samples)), dtype=np.int32),
        "disagreement": None,
        "fired": np.zeros(len(scores), dtype=bool),
    }
    return ScoredTokens(**(values | changes))  # type: ignore[arg-type]


def heavy_tailed(seed: int, n_samples: int = 40, n_problems: int = 20) -> ScoredTokens:
    rng = np.random.default_rng(seed)
    samples = [list(rng.lognormal(-2, 2, rng.integers(1, 80))) for _ in range(n_samples)]
    flat = np.concatenate(samples)
    return tokens_of(samples, [i % n_problems for i in range(n_samples)], disagreement=flat * rng.uniform(0, 1, len(flat)))


@SETTINGS
@given(samples=samples_of_scores, rule=rules, block=st.sampled_from([1, 7, 64, 1 << 20]))
def test_many_samples_at_once_decide_as_the_gate_does_step_by_step(
    samples: list[list[float]], rule: ThresholdRule, block: int
) -> None:
    tokens = tokens_of(samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regating, "_BLOCK", block)
        fired = Regating(tokens).fires(rule)
        means = local_means(tokens, rule.local_window)
    for gate in (DivergenceGate("ce", rule), EntropyGate(rule)):
        decisions = []
        for one in samples:
            state = gate.begin()
            decisions += [state.decide(position, value) for position, value in enumerate(one)]
        assert fired.tolist() == [decision.fired for decision in decisions]
        expected = [np.nan if decision.local_mean is None else decision.local_mean for decision in decisions]
        np.testing.assert_array_equal(means, expected)  # to the last bit
    np.testing.assert_array_equal(fired, np.concatenate([replay(np.array(one), rule)[0] for one in samples]))


@pytest.mark.parametrize("window", [1, 2, 7, 8, 9, 16, 127, 128, 129, 300])
def test_local_means_agree_to_the_last_bit_for_every_way_numpy_adds(window: int) -> None:
    rng = np.random.default_rng(window)
    samples = [list(rng.lognormal(0, 3, n)) for n in (1, 400, 130, 8, 700)]
    rule = ThresholdRule(0.5, 1.1, window, "partial")
    expected = np.concatenate([replay(np.array(one), rule)[1] for one in samples])
    np.testing.assert_array_equal(local_means(tokens_of(samples), window), expected)


def test_budget_and_coverage_are_ratios_of_sums_with_the_bootstrap_over_problems() -> None:
    tokens = heavy_tailed(1)
    rule = ThresholdRule(0.4, 1.5, 8, "partial")
    outcome = Regating(tokens, seed=3).outcome(rule)
    assert tokens.disagreement is not None
    of_token = np.repeat(tokens.problems, tokens.lengths)
    taken = np.array([outcome.fired[of_token == problem].sum() for problem in range(20)])
    there = np.array([(of_token == problem).sum() for problem in range(20)])
    mass = np.array([tokens.disagreement[of_token == problem].sum() for problem in range(20)])
    covered = np.array([tokens.disagreement[(of_token == problem) & outcome.fired].sum() for problem in range(20)])
    bootstrap = ProblemBootstrap(20, seed=3)
    assert outcome.budget == bootstrap.share(taken, there)
    assert outcome.budget.estimate == outcome.n_fired / len(tokens.scores)
    assert outcome.coverage is not None
    expected = bootstrap.share(covered, mass, unit=mass.sum() / len(tokens.scores))
    for name in ("estimate", "low", "high"):
        assert getattr(outcome.coverage, name) == pytest.approx(getattr(expected, name), rel=1e-12)
    np.testing.assert_allclose(outcome.by_problem, taken / there)
    best = np.sort(tokens.disagreement)[::-1][: outcome.n_fired].sum() / tokens.disagreement.sum()
    assert outcome.best_coverage == pytest.approx(best, rel=1e-12)
    assert outcome.coverage.estimate < outcome.best_coverage


def test_the_difference_from_the_stored_gate_is_counted_on_both_sides() -> None:
    tokens = tokens_of([[1.0, 3.0, 0.0, 5.0]], fired=np.array([True, True, False, False]))
    outcome = Regating(tokens).outcome(ThresholdRule(2.0))
    assert (outcome.n_fired, outcome.n_added, outcome.n_dropped) == (2, 1, 1)


def tau_alone(tau: float, lambda_: float) -> ThresholdRule:
    return ThresholdRule(tau)


def calibrated(tau: float, lambda_: float) -> ThresholdRule:
    return ThresholdRule(tau, lambda_, 8, "partial")


def factor_of_two(tau: float, lambda_: float) -> ThresholdRule:
    return ThresholdRule(tau, 2.0, 8, "partial")


@pytest.mark.parametrize("rule", [tau_alone, calibrated, factor_of_two])
@pytest.mark.parametrize("rounding", [None, 1])
def test_the_ratio_for_a_budget_is_the_smallest_that_reaches_it(
    rule: Callable[[float, float], ThresholdRule], rounding: int | None
) -> None:
    tokens = heavy_tailed(2)
    if rounding is not None:  # ties: not every number of positions can be had
        tokens = tokens_of(
            [list(part) for part in np.split(tokens.scores.round(rounding), tokens.starts[1:])], list(tokens.problems)
        )
    tried = Regating(tokens)
    ratio = ratio_for_budget(tried, tokens.scores, rule, 0.05)
    n = len(tokens.scores)

    def budget(share: float) -> float:
        found = calibrate(tokens.scores, share)
        return float(tried.fires(rule(found.tau, found.lambda_)).mean())

    assert budget(ratio) >= 0.05
    values = np.unique(tokens.scores)[::-1]
    smaller = [(tokens.scores > value).sum() / n for value in values[1:]]
    assert all(budget(share) < 0.05 for share in smaller if share < ratio * (1 - 1e-9))


def test_the_budget_grows_with_the_ratio_also_with_lambda() -> None:
    tokens = heavy_tailed(5)
    tried = Regating(tokens)
    for cooldown in (0, 2):
        found = sweep(tokens.scores, np.linspace(0.01, 0.9, 60).tolist())
        budgets = [tried.fires(ThresholdRule(each.tau, each.lambda_, 8, "partial", cooldown)).mean() for each in found]
        assert all(np.diff(budgets) >= 0)


@pytest.mark.parametrize("budget", [0.0, 1.0, -0.1, np.nan])
def test_budgets_that_are_no_shares_are_refused(budget: float) -> None:
    tokens = heavy_tailed(2)
    with pytest.raises(UsageError, match="budget = "):
        ratio_for_budget(Regating(tokens), tokens.scores, tau_alone, budget)


def test_a_budget_out_of_reach_says_what_can_be_had() -> None:
    tokens = tokens_of([[1.0, 1.0, 1.0, 2.0]])
    with pytest.raises(UsageError, match=r"at most 0\.25 of the positions"):
        ratio_for_budget(Regating(tokens), tokens.scores, tau_alone, 0.5)
    equal = tokens_of([[1.0, 1.0]])
    with pytest.raises(UsageError, match="at most 0 of the positions"):
        ratio_for_budget(Regating(equal), equal.scores, tau_alone, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.array([1.0, np.nan])}, "index 1 is nan"),
        ({"scores": np.array([-np.inf, 1.0])}, "index 0 is -inf"),
        ({"scores": np.array([])}, "no position"),
        ({"disagreement": np.array([1.0, -1.0])}, "disagreement is negative"),
        ({"disagreement": np.array([1.0, np.inf])}, "infinite"),
        ({"disagreement": np.zeros(2)}, "0 throughout"),
    ],
)
def test_tokens_that_no_gate_can_decide_on_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tokens_of([[1.0, 2.0]], **changes)
