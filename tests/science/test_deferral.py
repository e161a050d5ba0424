"""Deferral rules of speculative cascades, and the control that is matched by tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.deferral import PROGRAM
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.science.deferral import LEAST_DISTANCE, DeferralGate
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Steps, gate_of
from rrti_sgl.science.matched import TokenGate

VOCAB = 6
PROBABILITIES = npst.arrays(np.float64, (4, VOCAB), elements=st.floats(0.01, 1.0)).map(
    lambda weights: weights / weights.sum(axis=1, keepdims=True)
)


def steps(p_base: np.ndarray, p_reasoning: np.ndarray, drafted: list[int], k: int = VOCAB) -> Steps:
    sides = [Distributions.from_full(np.log(p), k) for p in (p_base, p_reasoning)]
    return Steps(np.arange(len(drafted), dtype=np.int32), *sides, sample_seed=3, drafted=drafted)


def test_golden() -> None:
    base, reasoning = np.array([[0.6, 0.3, 0.1]]), np.array([[0.1, 0.8, 0.1]])
    given_steps = steps(base, reasoning, [0], 3)
    # TV = (0.5 + 0.5) / 2; of the drawn token, the reasoning model gives an eighth of its largest probability.
    wanted = {"chow": 0.4, "difference": 0.2, "opt": 0.2 / 0.5, "token": 1 - 0.1 / 0.8}
    for rule, value in wanted.items():
        assert DeferralGate(rule, 0.0).signal(given_steps) == pytest.approx([value], rel=1e-5)


@given(PROBABILITIES, PROBABILITIES, st.floats(-0.9, 0.9), st.lists(st.integers(0, VOCAB - 1), min_size=4, max_size=4))
def test_the_signal_is_above_tau_where_the_rule_defers(
    p_base: np.ndarray, p_reasoning: np.ndarray, a: float, drafted: list[int]
) -> None:
    """By the inequalities of the paper, away from equality, where float32 lists may round either way."""
    largest_b, largest_r = p_base.max(axis=1), p_reasoning.max(axis=1)
    distance = np.abs(p_base - p_reasoning).sum(axis=1) / 2
    of_drawn = p_reasoning[np.arange(4), drafted]
    excess = {
        "chow": (1 - a) - largest_b,
        "difference": largest_r - a - largest_b,
        "opt": largest_r - a * distance - largest_b,
        "token": (1 - a) * largest_r - of_drawn,
    }
    for rule, beyond in excess.items():
        signal = DeferralGate(rule, a).signal(steps(p_base, p_reasoning, drafted))
        clear = np.abs(beyond) > (LEAST_DISTANCE if rule == "opt" else 1e-4)
        np.testing.assert_array_equal((signal > a)[clear], (beyond > 0)[clear], err_msg=rule)
        assert (np.abs(signal) <= 1 + 1e-6).all()


@given(PROBABILITIES, PROBABILITIES, st.integers(1, VOCAB - 1), st.lists(st.integers(0, VOCAB - 1), min_size=4, max_size=4))
def test_lists_bound_whole_distributions(p_base: np.ndarray, p_reasoning: np.ndarray, k: int, drafted: list[int]) -> None:
    whole, cut = steps(p_base, p_reasoning, drafted), steps(p_base, p_reasoning, drafted, k)
    for rule in ("chow", "difference"):
        np.testing.assert_array_equal(DeferralGate(rule, 0.0).signal(cut), DeferralGate(rule, 0.0).signal(whole))
    assert (DeferralGate("token", 0.0).signal(cut) <= DeferralGate("token", 0.0).signal(whole) + 1e-6).all()
    both = DeferralGate("opt", 0.0).signal(whole)
    rising = both > 0
    assert (DeferralGate("opt", 0.0).signal(cut)[rising] >= both[rising] - 1e-6).all()


def test_models_that_agree_defer_nothing() -> None:
    same = np.full((2, VOCAB), 1 / VOCAB)
    assert DeferralGate("opt", 0.0).signal(steps(same, same, [0, 1])).tolist() == [-1, -1]


@given(PROBABILITIES, st.integers(0, 99))
def test_models_that_agree_but_for_rounding_defer_nothing(p: np.ndarray, seed: int) -> None:
    rounded = p * (1 + 1e-6 * np.random.default_rng(seed).standard_normal(p.shape))
    assert (DeferralGate("opt", 0.1).signal(steps(p, rounded, [0, 1, 2, 3])) < 0.02).all()


def test_tokens_are_taken_at_their_rates() -> None:
    gate = TokenGate([5, 2], [0.25, 1.0])
    drafted = [2, 5, 3] * 4000
    taken = gate.signal(steps(np.full((12000, VOCAB), 1 / VOCAB), np.full((12000, VOCAB), 1 / VOCAB), drafted)) > 0
    rates = {token: taken[np.asarray(drafted) == token].mean() for token in (2, 5, 3)}
    assert (rates[2], rates[3]) == (1, 0)
    assert rates[5] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("name", "params", "wrong"),
    [
        ("deferral", {"rule": "best", "tau": 0.1}, "rule = 'best'"),
        ("deferral", {"rule": "opt", "tau": float("nan")}, "tau = nan"),
        ("deferral", {"tau": 0.1}, "cannot be made"),
        ("token", {"ids": [], "rates": []}, "ids holds 0 tokens"),
        ("token", {"ids": [1, 1], "rates": [0.1, 0.2]}, "ids holds 2 tokens"),
        ("token", {"ids": [1], "rates": [1.5]}, "no probabilities"),
    ],
)
def test_what_does_not_fit_is_named(name: str, params: dict[str, object], wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        gate_of(name, params)


@pytest.mark.parametrize(("rho", "above"), [(0.29, 29), (0.0, 0), (1.0, 100)])
def test_the_threshold_lets_as_many_above_as_the_followed_run_took(rho: float, above: int) -> None:
    """The product 0.29 * 100 is rounded below 29."""
    signals = np.random.default_rng(0).permutation(np.arange(100.0))
    followed = SimpleNamespace(rho=rho, signals=lambda gate: signals)
    context: Any = SimpleNamespace(follow=lambda options: followed)
    gate = PROGRAM.make_gate(GateOptions(like="run"), context)
    assert isinstance(gate, DeferralGate)
    assert (signals > gate.rule.tau).sum() == above
