"""Gates: at which positions the reasoning model takes over for one token.

A gate turns a position's distributions into one number, `signal`, and a decision into one comparison, `signal > tau`
(and, if asked for, `signal > lambda * local mean`), so that a query over the stored scores can replay what was decided.
`signal` is pure and vectorised over drafted positions; `GateState` walks over the positions that were kept, in order.

The rule itself, and its options, are in `rrti_sgl.science.threshold`.

A gate of your own is a subclass of `Gate` (or of `ThresholdGate`), named `package.module:Class` (see `load_gate`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, IntArray, Json, ProblemRecord
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import Models
from rrti_sgl.science.metrics import METRICS, divergence_names
from rrti_sgl.science.own_classes import load_class, make
from rrti_sgl.science.threshold import (
    Decision,
    GateState,
    SilentState,
    ThresholdRule,
    ThresholdState,
    Warmup,
    is_number,
    replay,
)

__all__ = [
    "AlwaysGate", "Decision", "DivergenceGate", "EarlyGate", "EntropyGate", "Gate", "GateState", "MetricGate", "NeverGate",
    "RandomGate", "Steps", "ThresholdGate", "ThresholdRule", "ThresholdState", "Warmup", "counter_uniform",
    "gate_of", "load_gate", "replay",
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """n drafted positions of one sample: `positions` (n,), both models' distributions (n rows), the sample's seed.

    `reasoning` is None where the gate said that it does not need it. `prefix` holds the token ids emitted before the
    first of the positions, `drafted` (n) what the base model drew at each, `problem` what is being solved. The score of
    a position may depend on what comes before it alone, never on later drafted tokens: those may be thrown away.
    """

    positions: IntArray
    base: Distributions
    reasoning: Distributions | None
    sample_seed: int
    prefix: Sequence[int] = ()
    drafted: Sequence[int] = ()
    problem: ProblemRecord | None = None


class Gate(ABC):
    """What every decoding loop asks of a gate.

    `name` and `params()` are stored with the run. `needs_reasoning` says whether `signal` reads the reasoning model's
    distributions; if not, the reasoning model is only asked at takeovers. `needs_base` says the same of the base model's,
    which a server for both models then need not gather. `foregone` says that one model writes every token, whatever the
    scores are, so that nothing interrupts a draft. `rule` and `metric` describe the gate to the store where it is a
    threshold on a metric, and are None where it is not.
    """

    name: str
    needs_reasoning: bool = True
    needs_base: bool = True
    foregone: bool = False
    made_of: tuple[str, Mapping[str, Json]] | None = None
    """Of a gate that was named: class and parameters, from which another process makes the same one."""

    @property
    def rule(self) -> ThresholdRule | None:
        """The threshold rule that replays this gate's decisions from its scores."""
        return None

    @property
    def metric(self) -> str | None:
        """The metric of `METRICS` that is this gate's signal."""
        return None

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of `METRICS` that the signal is made of by `combined`, and of nothing else; none: of other things."""
        return ()

    @property
    def measures(self) -> bool:
        """Whether the signal is the metric itself, as the store computes it: what the gate saw is then stored for it."""
        return self.metrics == (self.metric,)

    def combined(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """The signal of its metrics, (n,) each by name."""
        [value] = values.values()
        return value

    @abstractmethod
    def params(self) -> dict[str, Json]:
        """What identifies this gate beside its name, as JSON values."""

    @property
    def identity(self) -> dict[str, Json]:
        """`params()`, and the cooldown of its rule where there is one."""
        cooldown = self.rule.cooldown if self.rule is not None else 0
        return self.params() | ({"cooldown": cooldown} if cooldown else {})

    @abstractmethod
    def signal(self, steps: Steps) -> FloatArray:
        """The scores of the drafted positions, (n,) float64; depends on nothing but `steps`."""

    @abstractmethod
    def begin(self) -> GateState:
        """The memory for a new sample."""


class ThresholdGate(Gate):
    """A gate that is a rule on its signal, which may be a metric; a subclass adds `name` and `signal`."""

    def __init__(self, rule: ThresholdRule, metric: str | None = None) -> None:
        self._rule = rule
        self._metric = metric

    @property
    def rule(self) -> ThresholdRule:
        """The rule of this gate."""
        return self._rule

    @property
    def metric(self) -> str | None:
        """The metric that is the signal, if it is one."""
        return self._metric

    def cooling(self, cooldown: int) -> Self:
        """The same gate with a rule that is silent for so many scores after each that fired."""
        gate = copy(self)
        gate._rule = replace(self._rule, cooldown=cooldown)
        return gate

    def params(self) -> dict[str, Json]:
        """The rule's options, and the metric where there is one."""
        rule = self._rule
        options: dict[str, Json] = {"tau": rule.tau, "lambda": rule.lambda_, "window": rule.window, "warmup": rule.warmup}
        options |= {"rolling": rule.rolling} if rule.rolling > 1 else {}
        return options if self.metric is None else {"metric": self.metric, **options}

    def begin(self) -> GateState:
        """A `ThresholdState`."""
        return ThresholdState(self._rule)


class MetricGate(ThresholdGate):
    """A gate whose signal is a metric, or nothing (None): the score of no position is computed then."""

    def __init__(self, rule: ThresholdRule, metric: str | None) -> None:
        if metric is not None and metric not in METRICS:
            raise UsageError(f"metric = {metric!r} is unknown.", f"Use one of {', '.join(METRICS)}.")
        super().__init__(rule, metric)
        self.needs_reasoning = metric is not None and METRICS[metric].kind != "base"
        self.needs_base = metric is not None

    @property
    def computed(self) -> tuple[str, ...]:
        """The metrics that this class computes for `combined`."""
        return () if self.metric is None else (self.metric,)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that are computed, unless a subclass makes another signal of them."""
        return self.computed if type(self).signal is MetricGate.signal else ()

    def signal(self, steps: Steps) -> FloatArray:
        """The metric in its unit, NaN (not computed) without one."""
        if self._metric is None:
            return np.full(len(steps.positions), np.nan)
        models = Models(steps.base, steps.reasoning)
        return self.combined({name: METRICS[name].value(models) for name in self.computed})


class DivergenceGate(MetricGate):
    """The paper's gate: a divergence between the two models, by default their cross-entropy."""

    name = "divergence"

    def __init__(self, metric: str, rule: ThresholdRule) -> None:
        if metric not in divergence_names():
            raise UsageError(f"metric = {metric!r} is no divergence.", f"Use one of {', '.join(divergence_names())}.")
        super().__init__(rule, metric)


class EntropyGate(MetricGate):
    """The paper's cheaper variant: the base model's entropy alone."""

    name = "entropy"

    def __init__(self, rule: ThresholdRule) -> None:
        super().__init__(rule, "entropy_base")


class RandomGate(ThresholdGate):
    """Control: every position alike, with probability `rho`, whatever the models say.

    The signal is a hash of (sample seed, position), uniform in (0, 1), and tau = 1 - rho: decisions depend neither on
    the order of work nor on what was drafted and thrown away.
    """

    name = "random"
    needs_reasoning = False
    needs_base = False

    def __init__(self, rho: float) -> None:
        if not is_number(rho) or not 0 <= rho <= 1:
            raise UsageError(f"rho = {rho!r} is no share of the positions.", "Give a number from 0 to 1.")
        super().__init__(ThresholdRule(1.0 - rho))
        self.rho = rho

    def params(self) -> dict[str, Json]:
        """`rho`."""
        return {"rho": self.rho}

    def signal(self, steps: Steps) -> FloatArray:
        """Uniform numbers in (0, 1)."""
        return counter_uniform(steps.sample_seed, steps.positions)


class EarlyGate(ThresholdGate):
    """Control: the first `horizon` positions. The signal is what is left of them, and tau = 0.

    A horizon of 5.4 is 5 positions, and 6 in each sample with probability 0.4, by its seed.
    """

    name = "early"
    needs_reasoning = False
    needs_base = False

    def __init__(self, horizon: float) -> None:
        if not is_number(horizon) or not 0 <= horizon <= bounds.COUNT:
            raise UsageError(f"horizon = {horizon!r} is no number of tokens.", f"Give one from 0 to {bounds.COUNT}.")
        super().__init__(ThresholdRule(0.0))
        self.horizon = horizon

    def params(self) -> dict[str, Json]:
        """`horizon`."""
        return {"horizon": self.horizon}

    def signal(self, steps: Steps) -> FloatArray:
        """horizon - position, the horizon rounded to one of its neighbours."""
        whole = math.floor(self.horizon)
        [place] = counter_uniform(steps.sample_seed, np.array([whole]))
        return whole + float(place < self.horizon - whole) - steps.positions.astype(np.float64)


class NeverGate(MetricGate):
    """No takeover, tau = +inf; with a metric, every position is scored by it all the same (diagnosis)."""

    name = "never"
    foregone = True

    def __init__(self, metric: str | None = None) -> None:
        super().__init__(ThresholdRule(math.inf), metric)

    def params(self) -> dict[str, Json]:
        """The metric; infinity is no JSON value."""
        return {"metric": self._metric}

    def begin(self) -> GateState:
        """Without a metric there is nothing to remember."""
        return super().begin() if self._metric is not None else SilentState()


class AlwaysGate(ThresholdGate):
    """A takeover at every position, which is the reasoning model alone: the signal is 1 and tau = 0."""

    name = "always"
    needs_reasoning = False
    needs_base = False
    foregone = True

    def __init__(self) -> None:
        super().__init__(ThresholdRule(0.0))

    def params(self) -> dict[str, Json]:
        """Nothing to tell."""
        return {}

    def signal(self, steps: Steps) -> FloatArray:
        """Ones."""
        return np.ones(len(steps.positions))


_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = 0xFFFFFFFFFFFFFFFF


def counter_uniform(seed: int, positions: NDArray[np.integer[Any]]) -> FloatArray:
    """Uniform numbers in the open interval (0, 1) from (seed, position) alone, (n,) -> (n,) float64.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) as a counter-based generator: its stream begins at the mixed seed,
    and position t takes output t. Of the 64 bits the upper 52 are kept and centred, so that 0 and 1 cannot occur.
    """
    start = _mix(np.array([(seed + _GOLDEN) & _MASK], dtype=np.uint64))
    counters = np.asarray(positions).astype(np.uint64) + np.uint64(1)
    bits = _mix(start + counters * np.uint64(_GOLDEN))
    uniform: FloatArray = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return uniform


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def gate_of(name: str, params: Mapping[str, Json]) -> Gate:
    """The gate that calls itself `name` and gives `params` as its own: the inverse of `Gate.name` and `Gate.identity`.

    Raises:
        UsageError: no gate of this package has the name, or not with these parameters.
    """
    found = load_class(_ELSEWHERE[name], "gate") if name in _ELSEWHERE else _NAMED.get(name)
    if found is None:
        raise UsageError(f"gate = {name!r} is unknown.", f"Use one of {', '.join((*_NAMED, *_ELSEWHERE))}.")
    values = {{"lambda": "lambda_"}.get(key, key): value for key, value in params.items()}
    cooldown: Any = values.pop("cooldown", 0)
    if issubclass(found, MetricGate) and found is not NeverGate:
        rule = {key: values.pop(key) for key in ("tau", "lambda_", "window", "warmup", "rolling") if key in values}
        if "tau" not in rule:
            raise UsageError(f"tau is not given, and the gate {name!r} needs it.", "Give a threshold.")
        if found is EntropyGate and values.pop("metric", "entropy_base") != "entropy_base":
            raise UsageError(f"metric = {params['metric']!r} is not what the gate {name!r} watches.", "Leave it out.")
        if found is not EntropyGate:
            values.setdefault("metric", "ce")
        values["rule"] = ThresholdRule(**rule)
    try:
        gate: Gate = found(**values)
        return gate.cooling(cooldown) if cooldown and isinstance(gate, ThresholdGate) else gate
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"gate = {name!r} cannot be made from {dict(params)}: {error}.", "Check its parameters.") from error


def load_gate(spec: str, params: Mapping[str, Json]) -> Gate:
    """A user's gate, `package.module:Class` called with `params` as keyword arguments.

    A class that does not define `name` is recorded by `spec`.

    Raises:
        UsageError: no such class, not a `Gate`, or parameters that it does not take.
    """
    found = load_class(spec, "gate")
    if not issubclass(found, Gate):
        raise UsageError(f"gate = {spec!r} is no gate.", "Derive the class from rrti_sgl.science.gates.Gate.")
    gate: Gate = make(found, spec, "gate", params, "Check its parameters.")
    if "name" not in vars(found):
        found.name = spec
    gate.made_of = spec, dict(params)
    return gate


_NAMED: Final[Mapping[str, type[Gate]]] = {
    gate.name: gate for gate in (DivergenceGate, EntropyGate, RandomGate, EarlyGate, NeverGate, AlwaysGate)
}
_ELSEWHERE: Final[Mapping[str, str]] = {
    "deferral": "rrti_sgl.science.deferral:DeferralGate",
    "doubt": "rrti_sgl.science.doubt:DoubtGate",
    "position": "rrti_sgl.science.matched:PositionGate",
    "token": "rrti_sgl.science.matched:TokenGate",
}
