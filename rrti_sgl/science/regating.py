"""Re-gating: which positions of stored samples another gate would take, and at what budget, without a model.

The rule and the local mean are those of `rrti_sgl.science.threshold`, applied to many samples at once; a replay of the gate
that decided a stored run fires where that run fired. What it cannot know: a takeover that changes its token changes every
token and score after it, and here the stored ones stay. Seen from base rollouts the budget is that of a run in which no
takeover has an effect on what follows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.threshold import ThresholdRule
from rrti_sgl.statistics.resampling import Interval, ProblemBootstrap

_BLOCK = 1 << 21  # scores copied at a time for the local means


@dataclass(frozen=True, eq=False)
class ScoredTokens:
    """The N positions of S samples at which a gate is asked, sample after sample, each in order of position.

    Args:
        scores: (N,) what the gate sees.
        lengths: (S,) positions of each sample, at least 1; they add up to N.
        problems: (S,) number of each sample's problem, all of 0 to P - 1.
        disagreement: (N,) what coverage is measured in, not negative; None: not known.
        fired: (N,) where the stored run's own gate fired.

    Raises:
        UsageError: no positions, scores that a gate refuses (NaN, -inf), or a disagreement that has no finite total.
    """

    scores: FloatArray
    lengths: IntArray
    problems: IntArray
    disagreement: FloatArray | None
    fired: BoolArray

    def __post_init__(self) -> None:
        if not len(self.scores):
            raise UsageError("There is no position to gate.", "Name a run with samples.")
        if not (self.scores > -np.inf).all():
            bad = int(np.argmin(self.scores > -np.inf))
            raise UsageError(f"The score at index {bad} is {self.scores[bad]}; a gate needs a number.", "Score it first.")
        known = self.disagreement
        if known is not None and not (np.isfinite(known).all() and (known >= 0).all() and known.any()):
            raise UsageError(
                "The disagreement is negative, infinite or 0 throughout, so that no share of its total is defined.",
                "Measure it in js or tv, which are bounded.",
            )

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """(S,) index of each sample's first position."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths[:-1], dtype=np.int64)])

    @cached_property
    def seen(self) -> IntArray:
        """(N,) how many scores of the same sample stand before each."""
        return (np.arange(len(self.scores)) - np.repeat(self.starts, self.lengths)).astype(np.int32)

    def by_problem(self, values: FloatArray | BoolArray) -> FloatArray:
        """(P,) sums over the positions of each problem, of (N,) values."""
        by_sample = np.add.reduceat(values, self.starts, dtype=np.float64)
        return np.bincount(self.problems, weights=by_sample).astype(np.float64)


def local_means(tokens: ScoredTokens, window: int) -> FloatArray:
    """(N,) mean of the up to `window` scores before each in its sample, NaN at each first; bit for bit the gate's own."""
    scores, starts, lengths = tokens.scores, tokens.starts, tokens.lengths
    means = np.full(len(scores), np.nan)
    rows = max(1, _BLOCK // window)
    for first in range(window, len(scores), rows):
        last = min(first + rows, len(scores))
        views = np.lib.stride_tricks.sliding_window_view(scores[first - window : last - 1], window)
        means[first:last] = np.ascontiguousarray(views).mean(axis=1)  # a window over two samples is written over below
    means[starts] = np.nan
    for seen in range(1, min(window, int(lengths.max()))):
        longer = starts[lengths > seen]
        for begins in np.array_split(longer, -(-len(longer) * seen // _BLOCK)):
            means[begins + seen] = scores[begins[:, None] + np.arange(seen)].mean(axis=1)
    return means


def compared(tokens: ScoredTokens, rule: ThresholdRule) -> FloatArray:
    """(N,) what a gate with this rule compares with tau: the scores, or their rolling means."""
    if rule.rolling == 1:
        return tokens.scores
    return rule.levels(tokens.scores, local_means(tokens, rule.local_window), tokens.seen)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a gate would do on stored tokens.

    Args:
        rule: the gate's rule.
        fired: (N,) where it would fire.
        budget: share of the positions at which it fires; the interval resamples problems, with the rule fixed.
        coverage: share of the total disagreement at those positions, likewise; None where it is not known.
        best_coverage: what the same number of positions of largest disagreement would carry.
        by_problem: (P,) budget of each problem.
        n_added, n_dropped: positions that fire here and did not in the stored run, and the other way round.
    """

    rule: ThresholdRule
    fired: BoolArray
    budget: Interval
    coverage: Interval | None
    best_coverage: float | None
    by_problem: FloatArray
    n_added: int
    n_dropped: int

    @property
    def n_fired(self) -> int:
        """Positions at which it fires."""
        return int(np.count_nonzero(self.fired))


@dataclass(eq=False)
class Regating:
    """Any number of gates on the same tokens: sorts, local means and resamples are made once.

    Args:
        tokens: the stored positions.
        seed: of the bootstrap over problems.
    """

    tokens: ScoredTokens
    seed: int = 0
    _means: dict[int, FloatArray] = field(default_factory=dict, init=False)

    def local_means(self, window: int) -> FloatArray:
        """`local_means` of the tokens; the last window that was asked for is kept."""
        if window not in self._means:
            self._means = {window: local_means(self.tokens, window)}
        return self._means[window]

    def fires(self, rule: ThresholdRule) -> BoolArray:
        """(N,) where a gate with this rule would fire."""
        means = self.local_means(rule.local_window) if rule.remembers else self.tokens.scores  # else not read
        return rule.fires(self.tokens.scores, means, self.tokens.seen)

    def outcome(self, rule: ThresholdRule) -> Outcome:
        """What a gate with this rule would do."""
        tokens, fired = self.tokens, self.fires(rule)
        taken = tokens.by_problem(fired)
        coverage, best = None, None
        if tokens.disagreement is not None:
            covered = tokens.by_problem(np.where(fired, tokens.disagreement, 0.0))
            whole = tokens.by_problem(tokens.disagreement)
            coverage = self._bootstrap.share(covered, whole, unit=float(whole.sum() / len(tokens.scores)))
            best = float(self._carried[np.count_nonzero(fired)] / self._carried[-1])
        return Outcome(
            rule=rule,
            fired=fired,
            budget=self._bootstrap.share(taken, self._per_problem),
            coverage=coverage,
            best_coverage=best,
            by_problem=taken / self._per_problem,
            n_added=int(np.count_nonzero(fired & ~tokens.fired)),
            n_dropped=int(np.count_nonzero(tokens.fired & ~fired)),
        )

    @cached_property
    def _bootstrap(self) -> ProblemBootstrap:
        return ProblemBootstrap(len(self._per_problem), seed=self.seed)

    @cached_property
    def _per_problem(self) -> FloatArray:
        return np.bincount(self.tokens.problems, weights=self.tokens.lengths).astype(np.float64)

    @cached_property
    def _carried(self) -> FloatArray:
        """(N + 1,) disagreement that the 0, 1, ... positions of largest disagreement carry."""
        assert self.tokens.disagreement is not None
        return np.concatenate([[0.0], np.cumsum(np.sort(self.tokens.disagreement)[::-1])])


def ratio_for_budget(
    regating: Regating, scores: FloatArray, rule: Callable[[float, float], ThresholdRule], budget: float
) -> float:
    """The smallest spike ratio, calibrated on (M,) scores, whose gate reaches an expected budget on the stored tokens.

    A larger ratio lowers tau and lambda alike; neither makes a position stop firing, so the budget grows with the ratio and
    bisection finds it.

    Args:
        regating: the tokens that the budget is a share of.
        scores: of the base rollouts to calibrate on, as such a rule compares them.
        rule: the gate's, of calibrated tau and lambda; it may have another lambda, or none, that is the same for all.
        budget: share of the positions, in (0, 1).

    Raises:
        UsageError: a budget outside (0, 1), or one that no ratio reaches.
    """
    if not 0 < budget < 1:
        raise UsageError(f"budget = {budget} is no share of the positions.", "Give a number between 0 and 1.")
    ascending = np.sort(scores)
    taus = np.unique(ascending)[-2::-1]  # each but the largest is tau of the ratio of scores above it
    ratios = (len(ascending) - np.searchsorted(ascending, taus, side="right")) / len(ascending)

    def reached(index: int) -> float:
        found = calibrate(ascending, float(ratios[index]))
        return float(np.mean(regating.fires(rule(found.tau, found.lambda_))))

    most = reached(len(taus) - 1) if len(taus) else 0.0
    if most < budget:
        raise UsageError(
            f"budget = {budget} is out of reach: with these options at most {most:.3g} of the positions fire.",
            f"Ask for less, leave lambda off, or use another {argument('warmup')}.",
        )
    return float(ratios[bisect_left(range(len(taus)), budget, key=reached)])
