"""What a gate keeps of drafts equals what it decides token by token, for every gate and however the drafts are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.fused.acceptance import Guidance
from rrti_sgl.fused.protocol import Steering
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import AlwaysGate, EarlyGate, EntropyGate, Gate, NeverGate, RandomGate, Steps
from rrti_sgl.science.threshold import ThresholdRule, ThresholdState

SCORES = st.lists(st.floats(0, 4, width=32), min_size=1, max_size=60)


def token_by_token(state, scores, agree, *, relay=1, most=None):
    """The method as written: (source, fired) of every token, the relayed ones included."""
    found, taken, left = [], 0, 0
    for position, score in enumerate(scores):
        if left:
            left -= 1
            found.append((True, False))
            continue
        fired = state.decide(position, score).fired and (most is None or taken < most)
        taken += fired
        left = relay - 1 if fired else 0
        found.append((fired, fired))
    return found


def in_drafts(guidance, scores, agree, lengths):
    """The same through drafts of given lengths: what the gate does not keep is drafted again."""
    found, at, turn = [], 0, 0
    while at < len(scores):
        length = guidance.draft_limit or lengths[turn % len(lengths)]
        turn += 1
        drafted = np.zeros(min(length, len(scores) - at), np.int32)
        drawn = np.where(agree[at : at + len(drafted)], 0, 1).astype(np.int32)
        kept = guidance.decide(at, np.asarray(scores[at : at + len(drafted)]), drafted, drawn)
        assert 1 <= kept.n <= len(drafted)
        found += [(bool(fired) or kept.relayed, bool(fired)) for fired in kept.fired[: kept.n]]
        assert kept.took == (found[-1][0] and drawn[kept.n - 1] == 1) or guidance.steering.takeover_tokens > 1
        at += kept.n
    return found


@given(
    SCORES,
    st.data(),
    st.floats(0, 4),
    st.none() | st.floats(0.25, 3),
    st.integers(1, 6),
    st.sampled_from(["tau", "partial", "never"]),
    st.integers(1, 3),
    st.none() | st.integers(0, 4),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([0, 0, 1, 5]),
    st.sampled_from([1, 1, 2, 5]),
)
def test_drafts_are_decided_as_single_tokens(
    scores, data, tau, lambda_, window, warmup, relay, most, lengths, cooldown, rolling
):
    lambda_ = lambda_ if rolling == 1 else None
    agree = np.asarray(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    params = {"tau": tau, "lambda": lambda_, "window": window, "warmup": warmup, "cooldown": cooldown, "rolling": rolling}
    steering = Steering(gate_params=params, takeover_tokens=relay, max_takeovers=most)
    state = ThresholdState(ThresholdRule(tau, lambda_, window, warmup, cooldown, rolling))
    expected = token_by_token(state, scores, agree, relay=relay, most=most)
    assert in_drafts(Guidance(steering, steering.make_gate()), scores, agree, lengths) == expected


class Every(Gate):
    """A gate with a memory of its own: every third position that it is asked about."""

    name, needs_reasoning = "every", False

    def params(self):
        return {}

    def signal(self, steps: Steps):
        return np.ones(len(steps.positions))

    def begin(self):
        return _Counting()


class _Counting:
    def __init__(self):
        self.asked = []

    def decide(self, position, score):
        from rrti_sgl.science.threshold import Decision

        self.asked.append(position)
        fired = len(self.asked) % 3 == 0
        return Decision(fired, score, 0.0, None, "fired" if fired else "below_tau")


@given(
    st.lists(st.booleans(), min_size=1, max_size=40),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 3),
    st.none() | st.integers(0, 4),
)
def test_a_gate_with_a_memory_is_asked_about_kept_positions_alone(agree, lengths, relay, most):
    scores = np.ones(len(agree))
    steering = Steering(takeover_tokens=relay, max_takeovers=most)
    expected = token_by_token(_Counting(), scores, agree, relay=relay, most=most)
    assert in_drafts(Guidance(steering, Every()), scores, np.asarray(agree), lengths) == expected


def test_a_given_beginning_is_remembered():
    params = {"tau": 0.0, "lambda": 1.0, "window": 2, "warmup": "never"}
    fresh, knowing = (Guidance(Steering(gate_params=params, history=history), Steering(gate_params=params).make_gate())
                      for history in ((), (1.0, 3.0)))  # fmt: skip
    scores, drafted, drawn = np.asarray([2.5]), np.zeros(1, np.int32), np.ones(1, np.int32)
    assert [guidance.decide(2, scores, drafted, drawn).took for guidance in (fresh, knowing)] == [False, True]


@pytest.mark.parametrize("gate", [RandomGate(0.3), EarlyGate(5.5)])
def test_gates_of_positions_signal_the_same_in_every_draft(gate):
    guidance = Guidance(Steering(gate=gate.name, gate_params=gate.params(), seed=7), gate)
    none = Distributions.empty(1, 4)

    def signal(begin, end):
        return guidance.gate.signal(Steps(np.arange(begin, end, dtype=np.int32), none, None, 7))

    assert np.array_equal(signal(0, 12), np.concatenate([signal(0, 5), signal(5, 12)]))


def test_what_is_kept_of_a_draft_is_foregone_where_no_gate_decides() -> None:
    gates = NeverGate(), AlwaysGate(), EntropyGate(ThresholdRule(1.0))
    assert [Guidance(Steering(), gate).gate.foregone for gate in gates] == [True, True, False]


@pytest.mark.parametrize("options", [{}, {"lambda_": 1.0}, {"cooldown": 1}, {"rolling": 2}], ids=str)
def test_a_score_that_is_no_number_is_refused_as_by_a_gate_s_state(options: dict[str, float]) -> None:
    rule = ThresholdRule(0.5, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="position 3"):
        ThresholdState(rule).decide(3, np.nan)
    drafted, drawn = np.zeros(2, np.int32), np.ones(2, np.int32)
    with pytest.raises(ValueError, match=r"NaN|nan"):
        Guidance(Steering(), EntropyGate(rule)).decide(2, np.asarray([0.1, np.nan]), drafted, drawn)
    if not options:  # what is thrown away decides nothing
        assert Guidance(Steering(), EntropyGate(rule)).decide(2, np.asarray([0.9, np.nan]), drafted, drawn).n == 1
