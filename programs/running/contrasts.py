"""What is compared of the beginnings of a stored solution, and how many continuations of each it takes: no models, no store.

A *branch* is a beginning of the solution that is continued several times. A *unit* is a token or a stretch of tokens whose
effect is sought; it compares two branches: with it and without it. What is wanted next follows from what came out so far,
continuation by continuation in the order of their indices, and from nothing else. So a run that was stopped anywhere goes on
exactly as it would have gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, Self

from rrti_sgl.statistics.answers import answer_distance
from rrti_sgl.statistics.estimates import difference_of_shares

Arm = Literal["taken", "denied", "kept"]
STEP = 8


@dataclass(frozen=True, slots=True)
class Branch:
    """A beginning that is continued.

    Args:
        position: of its last token in the stored solution; -1: it is empty.
        arm: which token that is: the reasoning model's, the base model's, or the one that is there.
    """

    position: int
    arm: Arm = "kept"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a continuation came to: whether it is right, and its answer ("": none)."""

    right: bool
    answer: str


Seen = Mapping[Branch, Mapping[int, Outcome]]
"""Of each branch what its continuations came to, by index."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Tokens `first` to `last` of a stored solution, and the branches that tell what they do."""

    first: int
    last: int
    taken: Branch
    denied: Branch

    @classmethod
    def token(cls, position: int) -> Self:
        """A token: the reasoning model's, or the base model's in its place."""
        return cls(position, position, Branch(position, "taken"), Branch(position, "denied"))

    @classmethod
    def stretch(cls, first: int, last: int) -> Self:
        """Tokens that are there, or drawn anew with all that follows."""
        return cls(first, last, Branch(last), Branch(first - 1))

    @property
    def branches(self) -> tuple[Branch, Branch]:
        """With it, and without it."""
        return self.taken, self.denied


@dataclass(frozen=True)
class Contrast:
    """Continuations of both branches of a unit: `with_it` and `without`."""

    unit: Unit
    with_it: Sequence[Outcome]
    without: Sequence[Outcome]

    @classmethod
    def of(cls, unit: Unit, seen: Seen, n: int) -> Self:
        """The first n of each branch."""
        return cls(unit, *(tuple(seen[branch][index] for index in range(n)) for branch in unit.branches))

    @property
    def position(self) -> int:
        """Of the last token in the stored sample."""
        return self.unit.last

    @property
    def continuations(self) -> int:
        """Of each branch; the smaller number where a branch has more of them for another unit."""
        return min(len(self.with_it), len(self.without))

    @property
    def taken(self) -> float:
        """Share of right solutions with the unit, of a token with the reasoning model's."""
        return _right(self.with_it) / len(self.with_it)

    @property
    def denied(self) -> float:
        """Share of right solutions without it, of a token with the base model's."""
        return _right(self.without) / len(self.without)

    @property
    def effect(self) -> float:
        """Change of the share of right solutions by the unit."""
        return self.taken - self.denied

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the effect, of this one unit."""
        return difference_of_shares(_right(self.with_it), len(self.with_it), _right(self.without), len(self.without))

    @cached_property
    def answers(self) -> tuple[float, float, float]:
        """How far apart the answers are, right or wrong, and its 95 % interval: see `answer_distance`."""
        return answer_distance(*([outcome.answer for outcome in each] for each in (self.with_it, self.without)))

    @property
    def reach(self) -> float:
        """How far the intervals of the effect and of the answers reach from their middles, the larger one."""
        return max(high - low for low, high in (self.interval, self.answers[1:])) / 2

    @property
    def necessary(self) -> bool:
        """Whether the solution is mostly right with the unit and mostly wrong without."""
        return self.taken > 0.5 >= self.denied


def _right(outcomes: Iterable[Outcome]) -> int:
    return sum(outcome.right for outcome in outcomes)


@dataclass(frozen=True, slots=True)
class Planned:
    """What is wanted, and what is known of it.

    Args:
        wanted: continuations of each branch, those that are there included.
        contrasts: of the units of which enough is known, and which were not divided.
    """

    wanted: Mapping[Branch, int]
    contrasts: Sequence[Contrast]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sought.

    Args:
        units: whose effects.
        most: continuations of a branch.
        until: a unit is done once its intervals reach no farther than this; None: with all continuations.
        gap: stretches whose effect is as large as this, either way, are halved down to single tokens; a unit is done once
            its interval tells whether it is. None: nothing is divided.
        budget: most continuations of all branches; None: no limit. Units of the largest effects come first.
    """

    units: Sequence[Unit]
    most: int
    until: float | None = None
    gap: float | None = None
    budget: int | None = None

    def planned(self, seen: Seen) -> Planned:
        """What is wanted after what was seen: replayed step by step, each with all of its continuations."""
        wanted: dict[Branch, int] = {}
        contrasts: list[Contrast] = []
        active = [(unit, self._step(0)) for unit in self.units]
        while active:
            granted = []
            for unit, n in active:
                more = {branch: max(n, wanted.get(branch, 0)) for branch in unit.branches}
                if self.budget is None or sum((wanted | more).values()) <= self.budget:
                    wanted |= more
                    granted.append((unit, n))
            if not _are_there(wanted, seen):
                break
            compared = [Contrast.of(unit, seen, n) for unit, n in granted]
            active = []
            for each in compared if self.budget is None else sorted(compared, key=lambda each: -abs(each.effect)):
                if each.continuations < self.most and not self._is_known(each):
                    active.append((each.unit, self._step(each.continuations)))
                elif halves := self._halves(each):
                    active += [(half, self._step(0)) for half in halves]
                else:
                    contrasts.append(each)
        return Planned(wanted, contrasts)

    def _step(self, n: int) -> int:
        """How many continuations come after n."""
        return self.most if self.until is None and self.gap is None else min(n + STEP, self.most)

    def _is_known(self, contrast: Contrast) -> bool:
        if self.gap is not None:
            low, high = contrast.interval
            return -self.gap < low and high < self.gap if self._is_small(contrast) else low >= self.gap or high <= -self.gap
        return self.until is not None and contrast.reach <= self.until

    def _is_small(self, contrast: Contrast) -> bool:
        return self.gap is None or abs(contrast.effect) < self.gap

    def _halves(self, contrast: Contrast) -> list[Unit]:
        first, last = contrast.unit.first, contrast.unit.last
        if self._is_small(contrast) or first == last:
            return []
        middle = (first + last) // 2
        return [Unit.stretch(first, middle), Unit.stretch(middle + 1, last)]


def stretches(spans: Iterable[tuple[int, int]], seen: Seen) -> list[Unit]:
    """What spans of tokens were divided into: from each beginning that was continued to the next one."""
    found = []
    for first, last in spans:
        places = sorted(branch.position for branch in seen if first - 1 <= branch.position <= last)
        found += [Unit.stretch(before + 1, place) for before, place in pairwise(places)]
    return found


def _are_there(wanted: Mapping[Branch, int], seen: Seen) -> bool:
    return all(index in seen.get(branch, ()) for branch, n in wanted.items() for index in range(n))
