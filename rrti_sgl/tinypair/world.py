"""The procedural world: word problems of one person's apples, some of their clauses traps.

A problem is a start value and two to five clauses. A clause is plain, or a trap of one of three kinds:

``order``
    "she finds 4 . before that she doubles": the second clause applies first.
``distractor``
    "bea finds 5": another person's event, which a right plan skips.
``direction``
    "bea gives her 5": the person asked about receives, although "gives" otherwise takes away.

Whoever falls for a trap writes a definite wrong plan item there, so every trap is a *planted decision point*. All plans
that any set of falls leads to stay within two digits, and every one of them ends in a wrong answer.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from rrti_sgl.tinypair.problems import (
    TRAP_KINDS,
    Operation,
    PlanItem,
    Segment,
    Split,
    TrapKind,
    WorldProblem,
    digits,
    final_value,
)

PEOPLE = ("ann", "bea", "cleo", "dot")
SUBJECT, OBJECT = "she", "her"
GAIN_VERBS = ("finds", "buys", "wins")
LOSS_VERBS = ("loses", "eats", "sells")
PREFIXES = ("after", "before")

# Shares of the stream, chosen so that a base model that falls for every trap is right on about a quarter of it.
TRAP_COUNT_WEIGHTS = (0.13, 0.32, 0.33, 0.22)
EVENT_COUNT_WEIGHTS = {2: 0.08, 3: 0.25, 4: 0.37, 5: 0.30}
TRAP_EARLINESS = 0.6


def generate(
    seed: int,
    split: Split,
    n: int | None,
    *,
    trap_counts: Sequence[int] | None = None,
) -> Iterator[WorldProblem]:
    """Generate ``n`` different problems of one split (without end when ``n`` is ``None``).

    Parameters
    ----------
    seed
        The same seed and split give the same problems in the same order.
    split
        Problems whose question hashes into another split are passed over.
    trap_counts
        Keep only problems with one of these numbers of traps, e.g. ``(0,)``.
    """
    rng = random.Random(f"rrti-world:{split}:{seed}")
    seen: set[str] = set()
    while n is None or len(seen) < n:
        problem = _draw(rng)
        if problem is None or problem.question in seen or problem.split != split:
            continue
        if trap_counts is not None and len(problem.traps) not in trap_counts:
            continue
        seen.add(problem.question)
        yield problem


def _draw(rng: random.Random) -> WorldProblem | None:
    """Draw one problem, or ``None`` where some plan leaves the range or a fall would not show in the answer."""
    n_events = rng.choices(list(EVENT_COUNT_WEIGHTS), list(EVENT_COUNT_WEIGHTS.values()))[0]
    n_traps = rng.choices(range(len(TRAP_COUNT_WEIGHTS)), TRAP_COUNT_WEIGHTS)[0]
    kinds: list[TrapKind | None] = [*rng.sample(TRAP_KINDS, n_traps)]
    n_plain = n_events - n_traps - kinds.count("order")
    if n_plain < 0:
        return None
    kinds += [None] * n_plain
    kinds.sort(key=lambda kind: rng.random() * (TRAP_EARLINESS if kind else 1.0))
    asked, other = rng.sample(PEOPLE, 2)
    writer = _ClauseWriter(rng, other)
    start = rng.randint(3, 40)
    words = [asked, "has", *digits(start), "."]
    segments = []
    for kind in kinds:
        clause, segment = writer.write(kind)
        words += clause
        segments.append(segment)
    words += ["how", "many", "has", asked, "?"]
    problem = WorldProblem(" ".join(words), "", start, tuple(segments))
    ends = [final_value(start, problem.plan_when(falls)) for falls in itertools.product((False, True), repeat=n_traps)]
    if None in ends or ends[0] in ends[1:]:
        return None
    return WorldProblem(problem.question, str(ends[0]), start, problem.segments)


class _ClauseWriter:
    """Writes the clauses of one problem; no number and no multiplication comes twice, so items are unambiguous."""

    def __init__(self, rng: random.Random, other: str) -> None:
        self._rng = rng
        self._other = other
        self._numbers: list[int] = rng.sample([*range(4, 10)] * 4 + [*range(10, 30)], 44)
        self._multiplications: list[Operation] = rng.sample(["double", "triple"], 2)
        self._used: set[int] = set()

    def write(self, kind: TrapKind | None) -> tuple[list[str], Segment]:
        """Return the words and the segment of the next trap or plain clause."""
        rng = self._rng
        if kind == "order":
            return self._order_trap()
        if kind == "distractor":
            words, item = self._event(self._other, multiplies=False)
            return [*words, "."], Segment((PlanItem("skip", item.operand),), (item,), kind)
        if kind == "direction":
            number = self._number()
            words = [self._other, "gives", OBJECT, *digits(number), "."]
            return words, Segment((PlanItem("add", number),), (PlanItem("subtract", number),), kind)
        if rng.random() < 0.25:
            number = self._number()
            words = [SUBJECT, "gives", self._other, *digits(number), "."]
            return words, Segment((PlanItem("subtract", number),))
        prefix = ["after", "that"] if rng.random() < 0.3 else []
        words, item = self._event(SUBJECT, multiplies=rng.random() < 0.25)
        return [*prefix, *words, "."], Segment((item,))

    def _order_trap(self) -> tuple[list[str], Segment]:
        multiplies_first = self._rng.random() < 0.5
        early_words, early = self._event(SUBJECT, multiplies=multiplies_first)
        late_words, late = self._event(SUBJECT, multiplies=not multiplies_first)
        words = [*early_words, ".", "before", "that", *late_words, "."]
        return words, Segment((late, early), (early, late), "order")

    def _event(self, person: str, *, multiplies: bool) -> tuple[list[str], PlanItem]:
        if multiplies and self._multiplications:
            operation = self._multiplications.pop()
            return [person, operation + "s"], PlanItem(operation, 2 if operation == "double" else 3)
        number = self._number()
        if self._rng.random() < 0.5:
            return [person, self._rng.choice(GAIN_VERBS), *digits(number)], PlanItem("add", number)
        return [person, self._rng.choice(LOSS_VERBS), *digits(number)], PlanItem("subtract", number)

    def _number(self) -> int:
        number: int = next(n for n in self._numbers if n not in self._used)
        self._used.add(number)
        return number
