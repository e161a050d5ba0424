r"""The grader of problem files: numeric equality of the last number."""

from __future__ import annotations

import re

from rrti_sgl.grading.extraction import after_hashes, explicit, is_cut, last_boxes
from rrti_sgl.grading.grader import Grade
from rrti_sgl.grading.notation import gold_answer, plain
from rrti_sgl.records import ProblemRecord

_NUMBER = re.compile(r"[-\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+)")


class LastNumberGrader:
    r"""Compares the last number of a solution, after `####` or in `\boxed{}` if there is one, with the gold number.

    A gold answer that is not one number (`1/2`, `Evelyn`) is compared as text with what stands behind such a mark, or behind
    "the answer is".
    """

    name = "last-number-v3"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade by numeric equality, or by that of the text."""
        if self.compares_as_text(problem):
            found = None if is_cut(text) else explicit(text)
            right = found is not None and plain(found.answer) == plain(gold_answer(problem.answer or ""))
            return Grade(found.answer, right, f"{found.method}, compared as text") if found else Grade(None, False)
        answer, method = _extract(text)
        if problem.answer is None:
            return Grade(answer, None, method)
        gold = _extract(problem.answer)[0]
        return Grade(answer, answer is not None and gold is not None and float(answer) == float(gold), method)

    def compares_as_text(self, problem: ProblemRecord) -> bool:
        """Whether the gold answer is not one number."""
        return problem.answer is not None and len(_NUMBER.findall(gold_answer(problem.answer))) != 1


def _extract(text: str) -> tuple[str | None, str | None]:
    if is_cut(text):
        return None, None
    line, boxes = after_hashes(text), last_boxes(text)
    for marked, method in ((line, "hashes"), (boxes[-1] if boxes else None, "boxed")):
        if marked is not None:
            found = _NUMBER.search(marked)
            return (_plain_number(found.group()), method) if found else (None, None)
    numbers = _NUMBER.findall(text)
    return (_plain_number(numbers[-1]), "last-number") if numbers else (None, None)


def _plain_number(written: str) -> str:
    return written.replace(",", "").replace("\u2212", "-")
