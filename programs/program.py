"""What a program is: a gate, and how much a takeover writes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.grading import PlantedDecisions
from rrti_sgl.programs.options import Option, check
from rrti_sgl.programs.stored.followed import Followed
from rrti_sgl.programs.values import Count, Nats, Natural, Positive, Ratio, Share, Text, limited, one_of
from rrti_sgl.records import CalibrationRecord
from rrti_sgl.science.deferral import DeferralRule
from rrti_sgl.science.doubt import DoubtGate
from rrti_sgl.science.gates import DivergenceGate, Gate, ThresholdRule
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.science.threshold import Warmup
from rrti_sgl.tokens.vocabulary import Vocabulary

WINDOW = 16


def _is_switch(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false.", "The factor is lambda_value.")
    return value


_gate = partial(Option, panel="Gate", tables=("programs",))


_Tau = Annotated[float, limited(lambda tau: not math.isnan(tau), "is no number.")]


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The options of the method, under the paper's names. What a program does not use, it ignores.

    `window`, its `warmup` and their defaults are not published; they are ours. So is that the second condition, score >
    lambda * local mean, is off: by measurement, on short solutions it blocks the takeovers that matter.

    Raises:
        UsageError: a value does not fit; names it.
    """

    metric: Annotated[str, one_of(METRICS), _gate("Divergence the gate watches.")] = "ce"
    tau: Annotated[_Tau | None, _gate("Threshold, in place of a calibration's.")] = None
    spike_ratio: Annotated[Ratio | None, _gate("Take the calibration of this ratio.")] = None
    use_lambda: Annotated[
        bool, BeforeValidator(_is_switch), _gate("Second condition on or off.", name="lambda", flag="--lambda/--no-lambda")
    ] = False
    lambda_: Annotated[Positive | None, _gate("Its factor, in place of a calibration's.", name="lambda_value")] = None
    window: Annotated[Count, _gate("Length of the local mean, tokens.")] = WINDOW
    warmup: Annotated[Warmup, _gate("Rule for position < window: tau, partial or never.")] = "tau"
    rolling: Annotated[Count, _gate("Compare the mean of the last so many scores with tau, not the score.")] = 1
    entropy_tau: Annotated[Nats | None, _gate("Only where the base's entropy exceeds this, too.", metavar="NATS")] = None
    cooldown: Annotated[Natural, _gate("No takeover at so many tokens after one.")] = 0
    budget: Annotated[Share, _gate("Share of positions, for random and early.")] = 0.25
    like: Annotated[
        Text | None,
        _gate("Take over as often as this run: random, early, entropy, matched, deferral.", metavar="RUN"),
    ] = None
    match: Annotated[
        Literal["position", "token"], _gate("What matched has in common with that run: position, or the base's token.")
    ] = "position"
    deferral: Annotated[DeferralRule, _gate("Rule of deferral: chow, difference, opt or token.")] = "opt"
    relay_tokens: Annotated[Count, _gate("Tokens of a takeover, for relay.")] = 4
    mean_length: Annotated[Positive | None, _gate("Typical solution length, for early.")] = None
    gate: Annotated[Text | None, _gate("A gate of your own.", metavar="PKG.MODULE:CLASS")] = None
    gate_params: Annotated[
        dict[str, Any], _gate("Argument of your gate, JSON or text; repeat.", flag="--gate-param", metavar="NAME=VALUE")
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)

    @property
    def has_thresholds(self) -> bool:
        """Whether a gate of them needs no calibration."""
        return self.tau is not None and not (self.use_lambda and self.lambda_ is None)


@dataclass(frozen=True, slots=True)
class GateContext:
    """What a gate may be built from beside its options."""

    calibration: CalibrationRecord | None
    planted: PlantedDecisions | None
    vocabulary: Vocabulary
    followed: Followed | None = None

    def follow(self, options: GateOptions) -> Followed:
        """The takeovers of the run that the options name.

        Raises:
            UsageError: they name none, or there is no store to find it in.
        """
        if self.followed is None:
            named = "No run to take over like is named" if options.like is None else f"Run {options.like!r} is not at hand"
            raise UsageError(f"{named}.", f"Run guided first, and name it, {argument('like')}, in the same store.")
        return self.followed


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the method.

    Args:
        name: what the command line and the store call it.
        summary: one line for the help.
        make_gate: builds the gate from the options and its context (the calibration is None where none is needed).
        calibrated_on: the metric whose calibration the program needs, given its options; None: no calibration.
        takeover_tokens: tokens that the reasoning model writes at a takeover.
        follows: whether it can take over as often as another run (`like`).
    """

    name: str
    summary: str
    make_gate: Callable[[GateOptions, GateContext], Gate]
    calibrated_on: Callable[[GateOptions], str | None] = lambda options: None
    takeover_tokens: Callable[[GateOptions], int] = lambda options: 1
    follows: bool = False


def threshold_rule(options: GateOptions, context: GateContext) -> ThresholdRule:
    """The gate's rule, from the options where they are given and from the calibration where not.

    Raises:
        UsageError: neither has a threshold.
    """
    calibration = context.calibration
    tau = options.tau if options.tau is not None else calibration.tau if calibration else None
    if tau is None:
        raise UsageError("tau is not known.", f"Run `{command('calibrate')}` first, or give {argument('tau')}.")
    lambda_: float | None = None
    if options.use_lambda:
        lambda_ = options.lambda_ if options.lambda_ is not None else calibration.lambda_ if calibration else None
        if lambda_ is None:
            raise UsageError("lambda is not known.", f"Run `{command('calibrate')}` first, or give {argument('lambda_')}.")
    return ThresholdRule(tau, lambda_, options.window, options.warmup, rolling=options.rolling)


def disagreement_gate(options: GateOptions, context: GateContext) -> Gate:
    """A gate on the divergence that the options name, also on the base model's entropy where they have a threshold of it.

    Raises:
        UsageError: see `threshold_rule`.
    """
    rule = threshold_rule(options, context)
    if options.entropy_tau is None:
        return DivergenceGate(options.metric, rule)
    return DoubtGate(options.metric, options.entropy_tau, rule)
