"""Records of a word problem: plan items, what a trap plants, and the split that a question belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

Split = Literal["train", "calibration", "heldout"]
TrapKind = Literal["order", "distractor", "direction"]
Operation = Literal["add", "subtract", "double", "triple", "skip"]

SPLITS: tuple[Split, ...] = get_args(Split)
TRAP_KINDS: tuple[TrapKind, ...] = get_args(TrapKind)
LARGEST_VALUE = 99
SPLIT_PERCENT: dict[Split, range] = {
    "train": range(0, 70),
    "calibration": range(70, 80),
    "heldout": range(80, 100),
}


def digits(value: int) -> list[str]:
    """Return the decimal digits of a non-negative value, one word each."""
    return list(str(value))


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One step of a plan. ``operand`` is the number of the clause (2 or 3 for ``double`` and ``triple``).

    ``skip`` passes over a clause: it leaves the value alone and has no equation.
    """

    operation: Operation
    operand: int

    def words(self) -> list[str]:
        """Return the item as it is written in a solution: ``add 1 4`` or ``double``."""
        if self.operation in ("double", "triple"):
            return [self.operation]
        return [self.operation, *digits(self.operand)]

    def apply(self, value: int) -> int:
        """Return the value after this step."""
        if self.operation == "add":
            return value + self.operand
        if self.operation == "subtract":
            return value - self.operand
        return value if self.operation == "skip" else value * self.operand

    def equation(self, value: int) -> list[str]:
        """Return the written equation of this step, ``2 8 + 4 = 3 2``.

        Raises
        ------
        ValueError
            For ``skip``, which calculates nothing.
        """
        if self.operation == "skip":
            raise ValueError("a skipped clause has no equation")
        sign = {"add": "+", "subtract": "-"}.get(self.operation, "*")
        return [*digits(value), sign, *digits(self.operand), "=", *digits(self.apply(value))]


@dataclass(frozen=True, slots=True)
class Segment:
    """One or two clauses that are read together: the right items and, for a trap, the items of whoever falls for it."""

    right: tuple[PlanItem, ...]
    fallen: tuple[PlanItem, ...] | None = None
    kind: TrapKind | None = None


@dataclass(frozen=True, slots=True)
class PlantedDecision:
    """A decision planted in a problem: at plan step ``step`` (from 0) the right item or that of a trap-faller."""

    kind: TrapKind
    step: int
    right: PlanItem
    fallen: PlanItem


@dataclass(frozen=True, slots=True)
class WorldProblem:
    """A word problem, with its right plan and what is planted in it."""

    question: str
    answer: str
    start: int
    segments: tuple[Segment, ...]

    @property
    def traps(self) -> tuple[TrapKind, ...]:
        """Kinds of the traps, in the order of the text."""
        return tuple(segment.kind for segment in self.segments if segment.kind is not None)

    @property
    def plan(self) -> tuple[PlanItem, ...]:
        """The right plan."""
        return self.plan_when((False,) * len(self.traps))

    @property
    def decisions(self) -> tuple[PlantedDecision, ...]:
        """The planted decision points along the right plan."""
        found = []
        for index, kind in enumerate(self.traps):
            falls = tuple(other == index for other in range(len(self.traps)))
            right, fallen = self.plan, self.plan_when(falls)
            step = next(i for i, pair in enumerate(zip(right, fallen, strict=True)) if pair[0] != pair[1])
            found.append(PlantedDecision(kind, step, right[step], fallen[step]))
        return tuple(found)

    @property
    def split(self) -> Split:
        """The split that the question's content belongs to."""
        return split_of(self.question)

    def plan_when(self, falls: Sequence[bool]) -> tuple[PlanItem, ...]:
        """Return the plan of someone who falls for exactly the traps marked in ``falls`` (one flag per trap)."""
        flags = iter(falls)
        plan: list[PlanItem] = []
        for segment in self.segments:
            falls_here = segment.fallen is not None and next(flags)
            plan += segment.fallen if falls_here and segment.fallen is not None else segment.right
        return tuple(plan)

    def to_dict(self) -> dict[str, Any]:
        """Return a record that ``json.dumps`` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Rebuild a problem from :meth:`to_dict`, also after a round trip through JSON."""

        def items(rows: list[dict[str, Any]]) -> tuple[PlanItem, ...]:
            return tuple(PlanItem(**row) for row in rows)

        segments = tuple(
            Segment(items(row["right"]), None if row["fallen"] is None else items(row["fallen"]), row["kind"])
            for row in record["segments"]
        )
        return cls(record["question"], record["answer"], record["start"], segments)


def split_of(question: str) -> Split:
    """Return the split of a question, decided by a hash of its text alone."""
    bucket = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big") % 100
    return next(split for split, percent in SPLIT_PERCENT.items() if bucket in percent)


def final_value(start: int, plan: Sequence[PlanItem]) -> int | None:
    """Return what a plan ends in, or ``None`` when a value on the way leaves 1..99."""
    value = start
    for item in plan:
        value = item.apply(value)
        if not 1 <= value <= LARGEST_VALUE:
            return None
    return value
