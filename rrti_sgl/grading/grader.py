"""What a grader is, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rrti_sgl.records import ProblemRecord


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader found in a solution.

    Args:
        answer: the answer, as it is written there; None: there is none.
        correct: whether it is right; None: the problem has no gold answer.
        method: how the answer was found, e.g. "boxed" or "last-number"; None: there is none. A grader whose comparison did
            not end in time says so here ("boxed, comparison timed out") and counts the answer as wrong.
    """

    answer: str | None
    correct: bool | None
    method: str | None = None


class Grader(Protocol):
    """Finds the answer in a solution and says whether it is right.

    `name` is stored with the run and ends in a version; a grader that judges differently gets another. A grader may have a
    method `check_gold(problem)` beside this: it raises `UsageError` where it could not grade that problem, and is called for
    every problem before the first token is generated.
    """

    name: str

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution; never raises for what a model may write."""


class PlantedDecisions(Protocol):
    """Knows where a rollout makes a decision that the problem set planted."""

    name: str

    def positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int]:
        """Positions in the rollout, given the text of its tokens."""
