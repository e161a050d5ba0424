"""How far drafts go: as far as one more token is worth what it costs, by what recent rounds of the server took and kept.

In the long run a kept token takes R seconds. One more step of drafting takes a forward pass of the base model over the
sequences that still draft, and what their tokens add to the verification. It brings a token of each sequence, with the
probability that nothing in its draft was taken over before. Going on pays where that is worth more, at R a token: the
condition of Dinkelbach for the least ratio of two sums, in ecology Charnov's marginal value theorem. How often a takeover
changes a token is counted by the base model's entropy there, for each gate by itself: at a lower threshold more are changed.

Greedy tokens do not depend on where drafts end, and drawn ones do not in distribution: whether a draft goes on depends on
nothing that is drawn after it, and every kept token passes the gate. Which numbers a seed draws does depend on it.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import numpy as np

from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.science.gates import Gate

FIRST_ROUNDS, FIRST_LENGTH = 8, 8
"""So many rounds are drafted so far at most, before anything is known."""
_ENTROPIES: Final = np.array([0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 1.5])  # nats, ends of the classes
_ASKED, _CHANGED = 2.0, 0.1  # what every class has seen before anything is known
_REMEMBERED_TOKENS, _REMEMBERED_ROUNDS, _REMEMBERED_TIMES = 0.9998, 0.98, 0.995  # weights of what was, at each new one
_GATES = 64  # that something is kept for
_SHARE_AT_FIRST = 1 / 3  # mean square of what part of a cost is fixed, of any share from 0 to 1, before anything is known
_LEAST_NOISE = 1e-9  # of a mean cost, squared: where sizes do not vary at all, all of a cost is that of its items

T = TypeVar("T")


def clock_of(device: str) -> Callable[[], float]:
    """What rounds are timed by: on a CPU the time of the thread, since other processes may have the core meanwhile."""
    return time.thread_time if device == "cpu" else time.perf_counter


class Line:
    """A cost as a fixed part and one for each item, by least squares over recent ones.

    The fixed part is drawn to 0 as far as noise leaves it unknown: by its variance, beside that of what it may be at all.
    """

    def __init__(self) -> None:
        self._n = self._x = self._xx = self._y = self._xy = self._yy = 0.0

    def add(self, items: float, seconds: float) -> None:
        """One more measurement."""
        new = (1.0, items, items * items, seconds, items * seconds, seconds * seconds)
        old = (self._n, self._x, self._xx, self._y, self._xy, self._yy)
        self._n, self._x, self._xx, self._y, self._xy, self._yy = (
            _REMEMBERED_TIMES * before + now for before, now in zip(old, new, strict=True)
        )

    @property
    def parts(self) -> tuple[float, float]:
        """The fixed part and that of an item, neither below 0."""
        if self._y == 0:
            return 0.0, 0.0
        spread = self._n * self._xx - self._x * self._x
        together = self._n * self._xy - self._x * self._y
        explained = together * together / spread if spread > 0 else 0.0
        noise = max((self._n * self._yy - explained) / (self._y * self._y) - 1, _LEAST_NOISE)
        unknown = noise / (self._n * _SHARE_AT_FIRST)
        fixed = (self._y * self._xx - self._x * self._xy) / (self._n * (1 + unknown) * self._xx - self._x * self._x)
        fixed = min(max(fixed, 0.0), self._y / self._n)
        return fixed, max(self._y - self._n * fixed, 0.0) / self._x


class Changes:
    """How often one gate's takeovers changed a token, by the base model's entropy there: recent tokens, in classes."""

    def __init__(self) -> None:
        self._asked, self._changed = (np.full(len(_ENTROPIES) + 1, value) for value in (_ASKED, _CHANGED))

    @property
    def rates(self) -> FloatArray:
        """(c,) the share of each class."""
        rates: FloatArray = self._changed / self._asked
        return rates

    def add(self, entropies: FloatArray, changed: BoolArray) -> None:
        """(n,) tokens that the gate was asked about, nats, and whether a takeover changed them."""
        classes = _class_of(entropies)
        forgotten = math.pow(_REMEMBERED_TOKENS, len(classes))
        for counts, new in ((self._asked, np.ones(len(classes))), (self._changed, changed.astype(np.float64))):
            counts *= forgotten
            counts += np.bincount(classes, new, len(counts))


class OfGates(Generic[T]):
    """Something for each gate, the same for gates of one name and parameters; forgotten where many others came since.

    Args:
        make: a new one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._known = make, OrderedDict[str, T]()

    def of(self, gate: Gate) -> T:
        """That of a gate."""
        key = f"{gate.name} {json.dumps(gate.identity, default=str)}"
        found = self._known.setdefault(key, self._make())
        self._known.move_to_end(key)
        if len(self._known) > _GATES:
            self._known.popitem(last=False)
        return found


class Pace:
    """What a server has learned of its rounds. Of each round: `begin`, `stepping`, `going_on` at each step, `end`.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.changes = OfGates(Changes)
        self._steps, self._rest = Line(), Line()
        self._means = np.zeros(4)  # weights of recent rounds; times steps, tokens drafted and kept of a sequence
        self._rounds = 0

    def begin(self, changes: Sequence[Changes]) -> None:
        """A round of n sequences begins.

        Args:
            changes: (n,) those of each sequence's gate.
        """
        self._changes, self._rates = changes, np.array([each.rates for each in changes])
        self._survival, self._depth = np.ones(len(changes)), 0

    def stepping(self) -> None:
        """The first step begins."""
        self._lapped = self._clock()

    def going_on(self, places: IntArray, entropies: FloatArray, may: BoolArray) -> BoolArray:
        """After a step: whose draft should go on.

        Args:
            places: (m,) which sequences of the round had part in the step.
            entropies: (m,) of the base model there, nats.
            may: (m,) whose draft may go on.

        Returns:
            (m,), none that may not.
        """
        self._steps.add(len(places), self._lap())
        self._depth += 1
        self._survival[places] *= 1 - self._rates[places, _class_of(entropies)]
        if self._rounds < FIRST_ROUNDS:
            return may & (self._depth < FIRST_LENGTH)
        (fixed, of_each), (_, of_token) = self._steps.parts, self._rest.parts
        rate = self._rate
        able = np.flatnonzero(may)
        surest = able[np.argsort(-self._survival[places[able]], kind="stable")]
        gains = np.cumsum(rate * self._survival[places[surest]] - of_each - of_token) - fixed
        goes = np.zeros(len(places), np.bool_)
        if len(gains) and gains.max() > 0:
            goes[surest[: int(gains.argmax()) + 1]] = True
        return goes

    def end(self, drafted: int, asked: Sequence[tuple[FloatArray, BoolArray]], kept: int) -> None:
        """The round is over.

        Args:
            drafted: tokens that were verified.
            asked: of each sequence, its kept tokens that its gate was asked about: entropies of the base model there, and
                whether a takeover changed them.
            kept: tokens.
        """
        self._rest.add(drafted, self._lap())
        n = len(self._survival)
        self._means = _REMEMBERED_ROUNDS * self._means + (1, self._depth, drafted / n, kept / n)
        self._rounds += bool(kept)
        for changes, tokens in zip(self._changes, asked, strict=True):
            changes.add(*tokens)

    @property
    def _rate(self) -> float:
        """Seconds of a kept token in rounds of as many sequences as this one; those seen lately may have had others."""
        n, (weight, steps, drafted, kept) = len(self._survival), self._means
        (of_step, of_each), (of_round, of_token) = self._steps.parts, self._rest.parts
        return float((of_step * steps + of_round * weight + (of_each + of_token) * drafted * n) / (kept * n))

    def _lap(self) -> float:
        before, self._lapped = self._lapped, self._clock()
        return self._lapped - before


def _class_of(entropies: FloatArray) -> IntArray:
    found: IntArray = np.searchsorted(_ENTROPIES, entropies).astype(np.int32)
    return found
