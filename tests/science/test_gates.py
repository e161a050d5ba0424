"""Gates: the rule step by step and replayed, the controls, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.doubt import DoubtGate
from rrti_sgl.science.gates import (
    AlwaysGate,
    Decision,
    DivergenceGate,
    EarlyGate,
    EntropyGate,
    Gate,
    NeverGate,
    RandomGate,
    Steps,
    ThresholdGate,
    ThresholdRule,
    ThresholdState,
    Warmup,
    counter_uniform,
    gate_of,
    load_gate,
    replay,
)
from rrti_sgl.science.matched import PositionGate
from rrti_sgl.science.metrics import all_metrics, divergence_names
from tests.science.threshold_rules import threshold_rules

SETTINGS = settings(derandomize=True, deadline=None, max_examples=200)


class HalfGate(ThresholdGate):
    """A user's gate: fires at every other position, whatever the models say."""

    needs_reasoning = False

    def __init__(self, offset: int = 0) -> None:
        if offset < 0:
            raise ValueError("offset is negative")
        super().__init__(ThresholdRule(0.5))
        self.offset = (0, 1)[offset]

    def signal(self, steps: Steps) -> np.ndarray:
        return ((steps.positions + self.offset) % 2).astype(np.float64)


class NotAGate:
    """Has no part in the protocol."""


def make_steps(n: int, *, seed: int = 0, reasoning: bool = True, start: int = 0, sample_seed: int = 7) -> Steps:
    logits = np.random.default_rng(seed).normal(size=(2, n, 30)) * 3
    base, other = (Distributions.from_logits(one, 10) for one in logits)
    return Steps(np.arange(start, start + n, dtype=np.int32), base, other if reasoning else None, sample_seed)


def decide_all(gate: Gate, scores: np.ndarray) -> list[Decision]:
    state = gate.begin()
    return [state.decide(position, float(score)) for position, score in enumerate(scores)]


def brute_force(scores: list[float], rule: ThresholdRule) -> tuple[list[bool], list[float]]:
    """The rule as the papers write it, with numpy's mean over the scores before each one."""
    fired, means = [], []
    for t, score in enumerate(scores):
        window = np.array(scores[max(0, t - (rule.rolling - 1 if rule.rolling > 1 else rule.window)) : t])
        mean = float(window.mean()) if t else math.nan
        level = score if not len(window) or rule.rolling == 1 else (score + len(window) * mean) / (len(window) + 1)
        local = rule.lambda_ is None or score > rule.lambda_ * mean
        if rule.lambda_ is not None and t < rule.window:
            local = {"tau": True, "partial": t == 0 or local, "never": False}[rule.warmup]
        rested = not any(fired[max(0, t - rule.cooldown) : t])
        fired.append(level > rule.tau and local and rested)
        means.append(mean)
    return fired, means


scores_of_a_sample = st.lists(
    st.one_of(st.floats(0, 20), st.sampled_from([0.0, 0.1, 1.0, 2.0, math.inf])), min_size=0, max_size=60
)
rules = threshold_rules(20)


@SETTINGS
@given(scores=scores_of_a_sample, rule=rules)
def test_replay_equals_the_sequential_state(scores: list[float], rule: ThresholdRule) -> None:
    state = ThresholdState(rule)
    decisions = [state.decide(position, score) for position, score in enumerate(scores)]
    fired, local_mean = replay(np.array(scores), rule)
    assert [decision.fired for decision in decisions] == fired.tolist()
    stepwise = [math.nan if decision.local_mean is None else decision.local_mean for decision in decisions]
    np.testing.assert_array_equal(stepwise, local_mean)
    expected, means = brute_force(scores, rule)
    assert fired.tolist() == expected
    np.testing.assert_array_equal(local_mean, means)


@SETTINGS
@given(scores=scores_of_a_sample, rule=rules)
def test_decisions_carry_their_evidence(scores: list[float], rule: ThresholdRule) -> None:
    state, last = ThresholdState(rule), -math.inf
    for position, score in enumerate(scores):
        decision = state.decide(position, score)
        recent = position - last <= rule.cooldown
        last = position if decision.fired else last
        assert (decision.score, decision.threshold) == (score, rule.tau)
        assert (decision.local_mean is None) == (position == 0)
        above = rule.level(score, decision.local_mean, position) > rule.tau
        expected = {
            "fired": decision.fired,
            "below_tau": not above,
            "warmup": above and position < rule.window and rule.warmup == "never",
            "below_local": above and rule.lambda_ is not None and not decision.fired,
            "cooldown": above and recent and not decision.fired,
        }
        assert expected[decision.reason]


@pytest.mark.parametrize(
    ("warmup", "fired"),
    [("tau", [1, 1, 1, 0, 1]), ("partial", [1, 0, 0, 0, 1]), ("never", [0, 0, 0, 0, 1])],
)
def test_warmup_decides_what_a_large_first_score_does(warmup: Warmup, fired: list[int]) -> None:
    """A first spike of 9 makes the mean over what there is too high for the spikes of 3 after it."""
    rule = ThresholdRule(tau=1.0, lambda_=1.5, window=3, warmup=warmup)
    scores = np.array([9.0, 3.0, 3.0, 2.0, 5.0])
    assert replay(scores, rule)[0].tolist() == [bool(one) for one in fired]


def test_a_rolling_mean_has_the_current_score_and_fewer_at_the_beginning() -> None:
    rule = ThresholdRule(tau=2.0, rolling=3)
    scores = np.array([3.0, 0.0, 4.0, 2.5, 0.0, 9.0])  # means 3, 1.5, 7/3, 6.5/3, 6.5/3, 11.5/3
    fired, local_mean = replay(scores, rule)
    assert fired.tolist() == [True, False, True, True, True, True]
    assert local_mean.tolist()[1:] == [3.0, 1.5, 2.0, 3.25, 1.25]


def test_where_the_base_model_does_not_doubt_a_divergence_does_not_count() -> None:
    steps = make_steps(40)
    assert steps.reasoning is not None
    values = all_metrics(steps.base, steps.reasoning)
    gate = DoubtGate("js", 0.8, ThresholdRule(0.3))
    scores = gate.signal(steps)
    both = (values["entropy_base"] > 0.8) & (values["js"] > 0.3)
    assert 0 < both.sum() < min((values["entropy_base"] > 0.8).sum(), (values["js"] > 0.3).sum())
    assert (scores > 0.3).tolist() == both.tolist()
    assert (scores == np.where(values["entropy_base"] > 0.8, values["js"], 0)).all()
    assert (gate.metric, gate.measures, gate.needs_reasoning) == ("js", False, True)
    assert gate_of(gate.name, gate.identity).identity == gate.identity
    for tau, entropy_tau, message in ((-0.1, 0.5, "tau = -0.1"), (0.1, -1, "entropy_tau = -1"), (0.1, math.inf, "= inf")):
        with pytest.raises(UsageError, match=message):
            DoubtGate("js", entropy_tau, ThresholdRule(tau))


def test_the_current_score_is_not_in_the_mean_and_fired_ones_are() -> None:
    state = ThresholdState(ThresholdRule(tau=1.0, lambda_=2.0, window=2))
    decisions = [state.decide(position, score) for position, score in enumerate([4.0, 4.0, 7.9, 20.0])]
    assert [decision.local_mean for decision in decisions] == [None, 4.0, 4.0, 5.95]
    assert [decision.reason for decision in decisions] == ["fired", "fired", "below_local", "fired"]


@pytest.mark.parametrize("score", [math.nan, -math.inf])
def test_scores_that_are_no_numbers_are_refused(score: float) -> None:
    rule = ThresholdRule(1.0)
    with pytest.raises(ValueError, match="position 0"):
        ThresholdState(rule).decide(0, score)
    with pytest.raises(ValueError, match="position 1"):
        replay(np.array([0.0, score]), rule)


def test_positions_must_come_in_order() -> None:
    state = ThresholdState(ThresholdRule(1.0))
    state.decide(0, 1.0)
    with pytest.raises(ValueError, match="after position 0"):
        state.decide(0, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": math.nan}, "tau = nan"),
        ({"tau": "high"}, "tau = 'high'"),
        ({"tau": 1.0, "lambda_": 0.0}, "lambda = 0.0"),
        ({"tau": 1.0, "lambda_": math.inf}, "lambda = inf"),
        ({"tau": 1.0, "window": 0}, "window = 0"),
        ({"tau": 1.0, "window": 2.0}, r"window = 2\.0"),
        ({"tau": 1.0, "warmup": "mean"}, "warmup = 'mean'.*partial"),
        ({"tau": 1.0, "cooldown": -1}, "cooldown = -1"),
        ({"tau": 1.0, "cooldown": True}, "cooldown = True"),
        ({"tau": 1.0, "rolling": 0}, "rolling = 0"),
        ({"tau": 1.0, "rolling": 4, "lambda_": 2.0}, "rolling = 4 and lambda = 2 both need the local mean"),
    ],
)
def test_bad_rules_name_the_field_and_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ThresholdRule(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", divergence_names())
def test_divergence_gate_scores_by_its_metric(metric: str) -> None:
    steps = make_steps(12)
    rule = ThresholdRule(0.3, 1.5)
    gate = DivergenceGate(metric, rule)
    assert steps.reasoning is not None
    np.testing.assert_array_equal(gate.signal(steps), all_metrics(steps.base, steps.reasoning)[metric])
    assert (gate.needs_reasoning, gate.metric, gate.rule) == (True, metric, rule)
    assert gate.params() == {"metric": metric, "tau": 0.3, "lambda": 1.5, "window": 16, "warmup": "tau"}
    with pytest.raises(ValueError, match="needs the reasoning model"):
        gate.signal(make_steps(1, reasoning=False))


@pytest.mark.parametrize("metric", ["entropy_base", "cross_entropy"])
def test_divergence_gate_refuses_other_metrics(metric: str) -> None:
    with pytest.raises(UsageError, match=f"metric = '{metric}'"):
        DivergenceGate(metric, ThresholdRule(1.0))


def test_entropy_gate_needs_no_reasoning_model() -> None:
    steps = make_steps(12, reasoning=False)
    gate = EntropyGate(ThresholdRule(1.0))
    np.testing.assert_array_equal(gate.signal(steps), all_metrics(steps.base, steps.base)["entropy_base"])
    assert (gate.needs_reasoning, gate.metric) == (False, "entropy_base")


@SETTINGS
@given(seed=st.integers(0, 2**63), start=st.integers(0, 10**6), n=st.integers(1, 50))
def test_random_signal_depends_on_seed_and_position_alone(seed: int, start: int, n: int) -> None:
    whole = counter_uniform(seed, np.arange(start, start + n))
    assert ((whole > 0) & (whole < 1)).all()
    single = [counter_uniform(seed, np.array([position], np.int32))[0] for position in range(start, start + n)]
    np.testing.assert_array_equal(whole, single)


def test_random_signal_is_uniform_along_positions_and_seeds() -> None:
    along = counter_uniform(1, np.arange(50_000))
    across = np.array([counter_uniform(seed, np.array([3]))[0] for seed in range(20_000)])
    for sample in (along, across):
        assert scipy.stats.kstest(sample, "uniform").pvalue > 0.01
        assert abs(np.corrcoef(sample[1:], sample[:-1])[0, 1]) < 0.02


@pytest.mark.parametrize("rho", [0.0, 0.08, 0.25, 1.0])
def test_random_gate_fires_at_its_share(rho: float) -> None:
    gate = RandomGate(rho)
    steps = make_steps(20_000, reasoning=False)
    share = float(np.mean(gate.signal(steps) > gate.rule.tau))
    assert share == pytest.approx(rho, abs=0.0 if rho in (0.0, 1.0) else 0.01)
    assert gate.params() == {"rho": rho}
    assert gate.metric is None


@pytest.mark.parametrize("horizon", [0, 1, 4, 9])
def test_early_gate_fires_below_its_horizon(horizon: int) -> None:
    gate = EarlyGate(horizon)
    steps = make_steps(8, reasoning=False)
    fired = [decision.fired for decision in decide_all(gate, gate.signal(steps))]
    assert fired == [position < horizon for position in range(8)]


def test_a_horizon_between_two_numbers_is_one_of_them_in_each_sample() -> None:
    gate = EarlyGate(2.25)
    horizons = []
    for seed in range(4_000):
        steps = replace(make_steps(8, reasoning=False), sample_seed=seed)
        fired = gate.signal(steps) > gate.rule.tau
        horizons.append(int(fired.sum()))
        assert fired.tolist() == [position < horizons[-1] for position in range(8)]
    assert set(horizons) == {2, 3}
    assert np.mean(horizons) == pytest.approx(2.25, abs=0.03)
    assert gate.params() == {"horizon": 2.25}


def test_position_gate_fires_at_the_rate_of_its_bin() -> None:
    gate = PositionGate([0, 1, 3], [1.0, 0.0, 0.25])
    steps = make_steps(20_000, reasoning=False)
    fired = gate.signal(steps) > gate.rule.tau
    assert fired[:3].tolist() == [True, False, False]
    assert np.mean(fired[3:]) == pytest.approx(0.25, abs=0.01)
    assert gate.params() == {"edges": [0, 1, 3], "rates": [1.0, 0.0, 0.25]}
    # A draft that begins later decides the same.
    later = replace(steps, positions=steps.positions[7:])
    np.testing.assert_array_equal(gate.signal(later), gate.signal(steps)[7:])


def test_always_gate_fires_everywhere() -> None:
    gate = AlwaysGate()
    steps = make_steps(5, reasoning=False)
    assert all(decision.fired for decision in decide_all(gate, gate.signal(steps)))
    assert not gate.needs_reasoning


@pytest.mark.parametrize("metric", [None, "js", "entropy_base", "entropy_reasoning"])
def test_never_gate_records_its_metric(metric: str | None) -> None:
    gate = NeverGate(metric)
    steps = make_steps(6, reasoning=gate.needs_reasoning)
    scores = gate.signal(steps)
    assert gate.needs_reasoning == (metric in ("js", "entropy_reasoning"))
    assert np.isnan(scores).all() == (metric is None)
    decisions = decide_all(gate, scores)
    assert not any(decision.fired for decision in decisions)
    assert gate.rule.tau == decisions[0].threshold == math.inf
    assert (decisions[-1].local_mean is None) == (metric is None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomGate(1.5), "rho = 1.5"),
        (lambda: RandomGate(math.nan), "rho = nan"),
        (lambda: EarlyGate(-1), "horizon = -1"),
        (lambda: EarlyGate(math.inf), "horizon = inf"),
        (lambda: PositionGate([1], [0.5]), r"edges = \[1\]"),
        (lambda: PositionGate([0, 0], [0.5, 0.5]), r"edges = \[0, 0\]"),
        (lambda: PositionGate([0], [1.5]), r"rates = \[1.5\]"),
        (lambda: PositionGate([0], [[0.5]]), r"rates = \[\[0.5\]\]"),  # type: ignore[list-item]
        (lambda: PositionGate([0, 1.5], [0.5, 0.5]), r"edges = \[0, 1.5\]"),  # type: ignore[list-item]
        (lambda: gate_of("token", {"ids": [[1, 2]], "rates": [[0.5, 0.5]]}), r"ids = \[\[1, 2\]\] are no whole numbers"),
        (lambda: gate_of("token", {"ids": [1.7], "rates": [0.5]}), r"ids = \[1.7\] are no whole numbers"),
        (lambda: gate_of("token", {"ids": [1, 1], "rates": [0.5, 0.5]}), "each token once"),
        (lambda: NeverGate("loss"), "metric = 'loss'"),
    ],
)
def test_controls_refuse_bad_options(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


def test_a_users_gate_is_loaded_by_name() -> None:
    spec = f"{__name__}:HalfGate"
    gate = load_gate(spec, {"offset": 1})
    assert gate.name == spec
    assert gate.params() == {"tau": 0.5, "lambda": None, "window": 16, "warmup": "tau"}
    assert [decision.fired for decision in decide_all(gate, gate.signal(make_steps(4)))] == [True, False, True, False]


@pytest.mark.parametrize(
    ("spec", "params", "message"),
    [
        ("HalfGate", {}, "package.module:Class"),
        ("no_such_package.gates:Gate", {}, "importing no_such_package.gates failed"),
        (f"{__name__}:Absent", {}, "has no class Absent"),
        (f"{__name__}:NotAGate", {}, "is no gate"),
        (f"{__name__}:HalfGate", {"wrong": 1}, "wrong"),
        (f"{__name__}:HalfGate", {"offset": -1}, "offset is negative"),
        (f"{__name__}:HalfGate", {"offset": 2}, "cannot be made from {'offset': 2}: tuple index"),
        ("rrti_sgl.science.gates:Gate", {}, "abstract"),
    ],
)
def test_load_gate_says_what_is_wrong(spec: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_gate(spec, params)
