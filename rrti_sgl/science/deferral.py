"""Deferral rules of speculative cascades as gates (Narasimhan et al., ICLR 2025, arXiv 2405.19261).

A rule defers a token to the larger model. In our names, with p_b of the base and p_r of the reasoning model, y the token
that the base model drew and a the rule's own parameter, it defers where ::

    chow        max p_b < 1 - a                    confidence of the base model alone (Chow 1970)
    difference  max p_b < max p_r - a
    opt         max p_b < max p_r - a TV(p_b, p_r)      the plug-in of the rule that is optimal for 0-1 loss
    token       p_r(y) < (1 - a) max p_r                 token-specific: of the drawn token, not of the position

Each is written as a signal above tau = a, so that a stored score replays. A takeover draws from p_r, where the paper's
decoding keeps what it can of the draft and draws the rest from a residual distribution.

Models that agree but for rounding would be deferred at random by `opt`, whose two sides are then both next to nothing: a TV
below a thousandth counts as one, which draws the signal to 0.

On top-k lists the largest probabilities are exact. TV is a lower bound, so `opt` defers on lists no less than on whole
distributions; a token that the reasoning model's list does not hold has at most its last probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

import numpy as np

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, Json
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import Models, total_variation
from rrti_sgl.science.gates import Steps, ThresholdGate, ThresholdRule

# What `opt` takes a smaller TV for: two numbers that small are mostly rounding, and so is their ratio.
LEAST_DISTANCE: Final = 1e-3

DeferralRule = Literal["chow", "difference", "opt", "token"]


class DeferralGate(ThresholdGate):
    """Defers to the reasoning model by a rule of speculative cascades.

    Args:
        rule: which one.
        tau: its parameter, a.
    """

    name = "deferral"

    def __init__(self, rule: DeferralRule, tau: float) -> None:
        if rule not in get_args(DeferralRule):
            raise UsageError(f"rule = {rule!r} is no deferral rule.", f"Use one of {', '.join(get_args(DeferralRule))}.")
        super().__init__(ThresholdRule(tau))
        self.deferral: DeferralRule = rule
        self.needs_reasoning = rule != "chow"

    def params(self) -> dict[str, Json]:
        """`rule` and `tau`."""
        return {"rule": self.deferral, "tau": self.rule.tau}

    def signal(self, steps: Steps) -> FloatArray:
        """What exceeds a where the rule defers, from -1 to 1."""
        return _SIGNALS[self.deferral](steps)


def _largest(distributions: Distributions) -> FloatArray:
    """(n,) the largest probability; lists are descending."""
    largest: FloatArray = np.exp(distributions.logprobs[:, 0].astype(np.float64))
    return largest


def _reasoning(steps: Steps) -> Distributions:
    return Models(None, steps.reasoning).reasoning


def _difference(steps: Steps) -> FloatArray:
    return _largest(_reasoning(steps)) - _largest(steps.base)


def _opt(steps: Steps) -> FloatArray:
    """The difference over TV, which it never exceeds; -1 where the models agree, so that nothing is deferred."""
    distance = total_variation(Models(steps.base, _reasoning(steps)))
    return np.where(distance > 0, np.clip(_difference(steps) / np.maximum(distance, LEAST_DISTANCE), -1.0, 1.0), -1.0)


def _token(steps: Steps) -> FloatArray:
    """1 - p_r(y) / max p_r."""
    reasoning = _reasoning(steps)
    known = reasoning.logprob_of(np.asarray(steps.drafted))
    logprob = np.where(np.isnan(known), reasoning.logprobs[:, -1].astype(np.float64), known)
    signal: FloatArray = 1.0 - np.exp(logprob - reasoning.logprobs[:, 0].astype(np.float64))
    return signal


_SIGNALS: Final[Mapping[str, Callable[[Steps], FloatArray]]] = {
    "chow": lambda steps: 1.0 - _largest(steps.base),
    "difference": _difference,
    "opt": _opt,
    "token": _token,
}
