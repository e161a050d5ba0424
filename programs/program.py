"""What a program is: a gate, and how the sample is cut into drafts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import PlantedDecisions
from rrti_sgl.records import CalibrationRecord
from rrti_sgl.science.gates import Gate, ThresholdRule
from rrti_sgl.science.threshold import Warmup
from rrti_sgl.tokens.vocabulary import Vocabulary

WINDOW = 16


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The options of the method, under the paper's names. What a program does not use, it ignores.

    Args:
        metric: divergence that the gate watches, in nats (`tv`: in [0, 1]).
        tau: threshold; None takes the calibration's.
        spike_ratio: which calibration to take where none is named; None takes the newest that fits.
        use_lambda: whether the second condition, score > lambda * local mean, is on. Off is our default, by measurement:
            on short solutions it blocks the takeovers that matter.
        lambda_: its factor; None takes the calibration's.
        window: length W of the local mean in tokens. Not published; ours.
        warmup: what replaces the second condition while t < W. Not published; ours.
        budget: share of positions for `random` and `early`.
        relay_tokens: tokens that the reasoning model writes at a takeover of `relay`.
        mean_length: tokens of a typical base solution, which `early` takes its share of; None takes the calibration's.
        gate: a user's own gate class, `package.module:Class`, in place of the program's.
        gate_params: its constructor's arguments.
    """

    metric: str = "ce"
    tau: float | None = None
    spike_ratio: float | None = None
    use_lambda: bool = False
    lambda_: float | None = None
    window: int = WINDOW
    warmup: Warmup = "tau"
    budget: float = 0.25
    relay_tokens: int = 4
    mean_length: float | None = None
    gate: str | None = None
    gate_params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.relay_tokens < 1:
            raise UsageError(f"--relay-tokens {self.relay_tokens} is too small.", "Use at least 1.")


@dataclass(frozen=True, slots=True)
class GateContext:
    """What a gate may be built from beside its options."""

    calibration: CalibrationRecord | None
    planted: PlantedDecisions | None
    vocabulary: Vocabulary


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the method.

    Args:
        name: what the command line and the store call it.
        summary: one line for the help.
        make_gate: builds the gate from the options and its context (the calibration is None where none is needed).
        calibrated_on: the metric whose calibration the program needs, given its options; None: no calibration.
        whole_solutions: draft the whole solution in one call, because nothing interrupts it.
        takeover_tokens: tokens that the reasoning model writes at a takeover.
    """

    name: str
    summary: str
    make_gate: Callable[[GateOptions, GateContext], Gate]
    calibrated_on: Callable[[GateOptions], str | None] = lambda options: None
    whole_solutions: bool = False
    takeover_tokens: Callable[[GateOptions], int] = lambda options: 1


def threshold_rule(options: GateOptions, context: GateContext) -> ThresholdRule:
    """The gate's rule, from the options where they are given and from the calibration where not.

    Raises:
        UsageError: neither has a threshold.
    """
    calibration = context.calibration
    tau = options.tau if options.tau is not None else calibration.tau if calibration else None
    if tau is None:
        raise UsageError("tau is not known.", "Run `rrti calibrate` first, or give --tau.")
    lambda_: float | None = None
    if options.use_lambda:
        lambda_ = options.lambda_ if options.lambda_ is not None else calibration.lambda_ if calibration else None
        if lambda_ is None:
            raise UsageError("lambda is not known.", "Run `rrti calibrate` first, or give --lambda.")
    return ThresholdRule(tau=tau, lambda_=lambda_, window=options.window, warmup=options.warmup)
