"""The threshold rule: when a score is high enough, for its sample and for the tokens just before it.

Shen et al. (arXiv 2605.16874): `g_t = 1` iff `s_t > tau` and `s_t > lambda * mean(s_{t-1}, ..., s_{t-W})`; the current
score is not in the mean. The paper publishes neither W nor what holds while t < W: `window`, `warmup` and their
defaults are ours. t counts the scores seen before, which is the position where every token is scored. With a cooldown
of n the n scores after one that fired fire nothing; it is no part of the paper.

With `rolling` of w the mean of the last w scores, the current one in it, stands for `s_t`: the rolling entropy of Entropy
Adaptive Decoding (Simonds, arXiv 2502.06833, where w = 5 and the larger model goes on until that mean falls below tau). One
token a takeover, any score, and the mean of what there is while t < w - 1, are ours. The local mean is then of the w - 1
scores before, so that a stored score and its local mean give what was compared, and the lambda condition cannot be on.

The rule exists twice, step by step (`ThresholdState`) and vectorised (`replay`), and both decide bit for bit alike.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, FloatArray, IntArray

Warmup = Literal["tau", "partial", "never"]
Reason = Literal["fired", "below_tau", "below_local", "warmup", "relayed", "cooldown"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at one position, with the evidence. `local_mean` is None while there is no earlier score.

    "relayed": no gate was asked, because an earlier takeover of several tokens covers the position; its score is NaN.
    """

    fired: bool
    score: float
    threshold: float
    local_mean: float | None
    reason: Reason


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """Fires iff level > tau and, unless `lambda_` is None, score > lambda_ * (mean of the `window` scores before it).

    The level is the score, or with `rolling` above 1 the mean of the last so many scores, itself in it.

    `warmup` says what replaces the second condition while fewer than `window` scores exist: "tau": nothing, tau alone
    decides; "partial": the mean over what there is (nothing at the first position); "never": no takeover. For the `cooldown`
    scores after one that fired the rule is silent.

    Raises:
        UsageError: names the field and the value.
    """

    tau: float
    lambda_: float | None = None
    window: int = 16
    warmup: Warmup = "tau"
    cooldown: int = 0
    rolling: int = 1

    def __post_init__(self) -> None:
        if not is_number(self.tau) or math.isnan(self.tau):
            raise UsageError(f"tau = {self.tau!r} is no number.", "Give a threshold in the unit of the score.")
        if self.lambda_ is not None and not (is_number(self.lambda_) and 0 < self.lambda_ < math.inf):
            raise UsageError(f"lambda = {self.lambda_!r} is no positive number.", "Leave lambda out to switch it off.")
        if type(self.window) is not int or not 1 <= self.window <= bounds.COUNT:
            raise UsageError(
                f"window = {self.window!r} is no number of tokens.", f"Give an integer from 1 to {bounds.COUNT}."
            )
        if type(self.cooldown) is not int or not 0 <= self.cooldown <= bounds.COUNT:
            raise UsageError(
                f"cooldown = {self.cooldown!r} is no number of tokens.", f"Give an integer from 0 to {bounds.COUNT}."
            )
        if self.warmup not in get_args(Warmup):
            raise UsageError(f"warmup = {self.warmup!r} is unknown.", f"Use one of {', '.join(get_args(Warmup))}.")
        if type(self.rolling) is not int or not 1 <= self.rolling <= bounds.COUNT:
            raise UsageError(
                f"rolling = {self.rolling!r} is no number of tokens.", f"Give an integer from 1 to {bounds.COUNT}."
            )
        if self.rolling > 1 and self.lambda_ is not None:
            raise UsageError(
                f"rolling = {self.rolling} and lambda = {self.lambda_:g} both need the local mean, each of its own window.",
                "Leave one of them out.",
            )

    @property
    def remembers(self) -> bool:
        """Whether decisions depend on the scores before."""
        return self.lambda_ is not None or self.rolling > 1

    @property
    def local_window(self) -> int:
        """Scores in the local mean at most, the current one not among them."""
        return self.rolling - 1 if self.rolling > 1 else self.window

    def level(self, score: float, local_mean: float | None, seen: int) -> float:
        """What is compared with tau, given the mean of at most `local_window` of the `seen` scores before this one."""
        before = min(seen, self.rolling - 1)
        return score if not before or local_mean is None else (score + before * local_mean) / (before + 1)

    def levels(self, scores: FloatArray, local_mean: FloatArray, seen: IntArray) -> FloatArray:
        """`level` of many scores, (N,) each; `local_mean` is NaN where `seen` is 0."""
        if self.rolling == 1:
            return scores
        before = np.minimum(seen, self.rolling - 1)
        return np.where(before > 0, (scores + before * local_mean) / (before + 1), scores)

    def reason(self, score: float, local_mean: float | None, seen: int) -> Reason:
        """The decision on one score, given the local mean and how many scores stand before it; cooldown aside."""
        if not self.level(score, local_mean, seen) > self.tau:
            return "below_tau"
        if self.lambda_ is None:
            return "fired"
        if seen < self.window:
            if self.warmup == "never":
                return "warmup"
            if self.warmup == "tau" or local_mean is None:
                return "fired"
        assert local_mean is not None
        return "fired" if score > self.lambda_ * local_mean else "below_local"

    def fires(self, scores: FloatArray, local_mean: FloatArray, seen: IntArray) -> BoolArray:
        """Where many scores fire, sample after sample, (N,) each; `local_mean` is NaN where `seen` is 0."""
        fired = self._above(scores, local_mean, seen)
        if not self.cooldown:
            return fired
        start, last = -1, 0  # first score of the sample, and the one of it that fired last
        for place in np.flatnonzero(fired).tolist():
            own = place - int(seen[place])
            if own == start and place <= last + self.cooldown:
                fired[place] = False
            else:
                start, last = own, place
        return fired

    def _above(self, scores: FloatArray, local_mean: FloatArray, seen: IntArray) -> BoolArray:
        fired: BoolArray = self.levels(scores, local_mean, seen) > self.tau
        if self.lambda_ is None:
            return fired
        above: BoolArray = scores > self.lambda_ * local_mean
        match self.warmup:
            case "tau":
                above |= seen < self.window
            case "partial":
                above |= seen == 0
            case "never":
                above &= seen >= self.window
        return fired & above


class GateState(Protocol):
    """A gate's memory of one sample."""

    def decide(self, position: int, score: float) -> Decision:
        """Decides on one position; called once for every kept position, in order, the fired ones included."""
        ...


class ThresholdState:
    """Applies a `ThresholdRule` along one sample.

    The local mean is computed afresh from the last scores, so that the mean over stored scores reproduces it exactly.
    """

    def __init__(self, rule: ThresholdRule) -> None:
        self._rule = rule
        self._recent: deque[float] = deque(maxlen=rule.local_window)
        self._position = -1
        self._cooling = 0  # scores that are still silenced

    def decide(self, position: int, score: float) -> Decision:
        """Raises ValueError for a position out of order and for a score of NaN or -inf."""
        if position <= self._position:
            raise ValueError(f"position {position} was decided after position {self._position}")
        if not score > -math.inf:
            raise ValueError(f"the score at position {position} is {score}; a gate needs a number")
        score = float(score)
        local_mean = float(np.mean(np.array(self._recent))) if self._recent else None
        reason = self._rule.reason(score, local_mean, len(self._recent))
        if reason == "fired":
            reason, self._cooling = ("cooldown", self._cooling - 1) if self._cooling else ("fired", self._rule.cooldown)
        else:
            self._cooling = max(0, self._cooling - 1)
        self._recent.append(score)
        self._position = position
        return Decision(reason == "fired", score, self._rule.tau, local_mean, reason)


class SilentState:
    """Never fires and remembers nothing: for runs without a score."""

    def decide(self, position: int, score: float) -> Decision:
        """Not fired, without evidence."""
        return Decision(False, score, math.inf, None, "below_tau")


def replay(scores: FloatArray, rule: ThresholdRule) -> tuple[BoolArray, FloatArray]:
    """What a `ThresholdState` decides on one sample's scores in order: (T,) -> fired (T,), local_mean (T,).

    `local_mean` is NaN at the first position. Raises ValueError for a score of NaN or -inf.
    """
    scores = np.ascontiguousarray(scores, dtype=np.float64)
    if not (scores > -np.inf).all():
        raise ValueError(f"the score at position {int(np.argmin(scores > -np.inf))} is NaN or -inf")
    total, window = len(scores), rule.local_window
    local_mean = np.full(total, np.nan)
    for t in range(1, min(window, total)):
        local_mean[t] = scores[:t].mean()
    if total > window:  # contiguous rows are added up in the order of a single mean
        views = np.lib.stride_tricks.sliding_window_view(scores[:-1], window)
        local_mean[window:] = np.ascontiguousarray(views).mean(axis=1)
    return rule.fires(scores, local_mean, np.arange(total, dtype=np.int32)), local_mean


def is_number(value: object) -> bool:
    """Whether an option holds a float, or an integer that is one: no boolean, and none of hundreds of digits."""
    return isinstance(value, float) or (type(value) is int and abs(value) <= bounds.WHOLE)
