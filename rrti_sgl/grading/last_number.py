r"""The grader of problem files: numeric equality of the last number."""

from __future__ import annotations

import re

from rrti_sgl.grading.grader import Grade
from rrti_sgl.records import ProblemRecord

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_MARKERS = {"####": "hashes", "\\boxed{": "boxed"}


class LastNumberGrader:
    r"""Compares the last number of a solution, after `####` or in `\boxed{}` if there is one, with the gold number."""

    name = "last-number-v1"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade by numeric equality; a gold answer without a number is compared as text."""
        answer, method = _extract(text)
        if problem.answer is None:
            return Grade(answer, None, method)
        gold = _extract(problem.answer)[0] or problem.answer.strip()
        return Grade(answer, answer is not None and _equal(answer, gold), method)


def _extract(text: str) -> tuple[str | None, str | None]:
    for marker, method in _MARKERS.items():
        if marker in text:
            found = _NUMBER.search(text.rpartition(marker)[2])
            return (found.group().replace(",", ""), method) if found else (None, None)
    numbers = _NUMBER.findall(text)
    return (numbers[-1].replace(",", ""), "last-number") if numbers else (None, None)


def _equal(answer: str, gold: str) -> bool:
    try:
        return float(answer) == float(gold)
    except ValueError:
        return answer == gold
