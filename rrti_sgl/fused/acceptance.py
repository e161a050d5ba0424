"""What a gate remembers of a sequence, and what it keeps of a draft. Decisions are made on the host, by the shared rule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rrti_sgl.fused.pacing import Changes
from rrti_sgl.fused.protocol import Steering
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.science.gates import AlwaysGate, Gate, GateState, ThresholdGate
from rrti_sgl.science.threshold import replay


@dataclass
class Guidance:
    """One request's gate at work. Lives with the request, so that a retraction forgets nothing.

    Args:
        steering: what was asked.
        gate: that it names.
    """

    steering: Steering
    gate: Gate
    takeovers: int = 0
    relay_left: int = 0  # tokens that the reasoning model still writes without asking the gate
    base_prompt_tokens: int = 0
    base_cached_tokens: int = 0
    changes: Changes | None = None  # what is known of its gate, once it drafts
    _recent: list[float] = field(default_factory=list)
    _state: GateState | None = None  # of a gate that is no threshold rule of ours

    def __post_init__(self) -> None:
        if not self._is_threshold:
            self._state = self.gate.begin()
        self._remember(0, list(self.steering.history))

    @property
    def _is_threshold(self) -> bool:
        """Whether the gate is its rule and nothing else, so that whole drafts are decided at once."""
        gate = self.gate
        return isinstance(gate, ThresholdGate) and type(gate).begin is ThresholdGate.begin and not gate.rule.cooldown

    @property
    def draft_limit(self) -> int | None:
        """Most tokens worth drafting: one where the reasoning model is about to speak anyway."""
        return 1 if self.relay_left or isinstance(self.gate, AlwaysGate) else self.steering.draft_tokens

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics over the whole vocabulary that the gate's signal is made of; none where the gate is asked itself."""
        return () if self.steering.k else self.gate.metrics

    def decide(self, position: int, scores: FloatArray, drafted: IntArray, drawn: IntArray) -> Kept:
        """What is kept of a draft.

        Args:
            position: of its first token in the solution.
            scores: (n,) signals; not read during a relay.
            drafted: (n,) the base model's draws.
            drawn: (n,) the reasoning model's.
        """
        n = len(drafted)
        if self.relay_left:
            self.relay_left -= 1
            return Kept(1, np.zeros(n, np.bool_), took=drawn[0] != drafted[0], relayed=True)
        relays = self.steering.takeover_tokens > 1
        changes = np.full(n, True) if relays else drawn != drafted
        fired = self._fires(position, scores, changes)
        ends = fired & changes
        kept = int(ends.argmax()) + 1 if ends.any() else n
        took = bool(ends[kept - 1])
        self.takeovers += int(fired[:kept].sum())
        if took and relays:
            self.relay_left = self.steering.takeover_tokens - 1
        if self._is_threshold:
            if not (good := scores[:kept] > -np.inf).all():  # as a gate's state refuses it, where there is one
                raise ValueError(f"the score at position {position + int(good.argmin())} is NaN or -inf")
            self._remember(position, scores[:kept])
        return Kept(kept, fired, took)

    def _fires(self, position: int, scores: FloatArray, changes: BoolArray) -> BoolArray:
        """(n,) where a takeover is asked for and left to take; beyond the first that changes a token nothing counts."""
        if self._state is not None:
            return self._walk(self._state, position, scores, changes)
        rule = self.gate.rule
        assert rule is not None
        if not rule.remembers:
            fired: BoolArray = scores > rule.tau
        else:
            # With fewer than a window's scores these are all there were, so that positions in them count what was seen.
            fired = replay(np.concatenate([self._recent, scores]), rule)[0][len(self._recent) :]
        return fired & (self.takeovers + np.cumsum(fired) <= self._most)

    def _walk(self, state: GateState, position: int, scores: FloatArray, changes: BoolArray) -> BoolArray:
        """A gate with a memory of its own sees the kept positions alone, in order."""
        fired = np.zeros(len(scores), np.bool_)
        for index, score in enumerate(scores):
            asked = state.decide(position + index, float(score)).fired
            fired[index] = asked and self.takeovers + fired.sum() < self._most
            if fired[index] and changes[index]:
                break
        return fired

    @property
    def _most(self) -> float:
        """Takeovers that may be taken in all."""
        return math.inf if self.steering.max_takeovers is None else self.steering.max_takeovers

    def _remember(self, position: int, scores: FloatArray | list[float]) -> None:
        rule = self.gate.rule
        if self._state is not None:
            for index, score in enumerate(scores):
                self._state.decide(position + index, float(score))
        elif rule is not None and rule.remembers:
            self._recent = [*self._recent, *map(float, scores)][-rule.local_window :]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a gate kept of a draft.

    Args:
        n: tokens kept, at least one.
        fired: (n drafted,) where the gate asked for a takeover.
        took: whether the last kept token is the reasoning model's and not the draft's.
        relayed: whether no gate was asked.
    """

    n: int
    fired: BoolArray
    took: bool
    relayed: bool = False
