"""What a grader is, and what it returns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rrti_sgl.grading.extraction import solution
from rrti_sgl.records import ProblemRecord


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader found in a solution.

    Args:
        answer: the answer, as it is written there; None: there is none.
        correct: whether it is right; None: the problem has no gold answer.
        method: how the answer was found, e.g. "boxed" or "last-number"; None: there is none. What a reader should know
            beside follows a comma: "comparison timed out" (counted as wrong), "compared as text", "cut at a stop string".
    """

    answer: str | None
    correct: bool | None
    method: str | None = None


class Grader(Protocol):
    """Finds the answer in a solution and says whether it is right.

    `name` is stored with the run and ends in a version; a grader that judges differently gets another. Two methods a grader
    may have beside this, asked for every problem before the first token is generated: `check_gold(problem)` raises
    `UsageError` where it could not grade that problem; `compares_as_text(problem)` says whether it can compare no more than
    the text of the gold answer.
    """

    name: str

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution; never raises for what a model may write."""


def grade_solution(
    grader: Grader, problem: ProblemRecord, text: str, stops: Sequence[str] = (), prompt: str | None = None
) -> Grade:
    """Grade what a model wrote, up to where it began something else.

    A solution ends at the first string that begins something else if there is an answer before it; one that only restates
    its question in these words goes on. Where a solution was cut, the method says so.

    Args:
        grader: judges it.
        problem: what it solves.
        text: all that was generated.
        stops: strings that begin something else, such as the next question of a few-shot prompt.
        prompt: see `rrti_sgl.grading.extraction.solution`.
    """
    places = {found.start() for stop in stops for found in re.finditer(f"(?={re.escape(stop)})", text)}
    for place in sorted(places):
        grade = grader.grade(problem, solution(text[:place], prompt))
        if grade.answer is not None:
            return replace(grade, method=f"{grade.method}, cut at a stop string")
    return grader.grade(problem, solution(text, prompt))


class PlantedDecisions(Protocol):
    """Knows where a rollout makes a decision that the problem set planted."""

    name: str

    def positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int]:
        """Positions in the rollout, given the text of its tokens."""
