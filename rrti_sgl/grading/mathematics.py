r"""The grader for mathematics: the answer found by `extraction`, compared with the gold answer by `equality`.

Equal are equal values however they are written: fractions, decimals to six places, sets and lists in any order, tuples,
intervals, matrices, equations `x = 5` for `5`; units and dollar signs do not count, and `50 %` is both `0.5` and `50`. A
gold answer that is no mathematics is compared as text. `docs/grading.md` lists where this judges otherwise than a person.
"""

from __future__ import annotations

import functools
from importlib.metadata import version

from rrti_sgl.grading.extraction import extract
from rrti_sgl.grading.grader import Grade
from rrti_sgl.grading.judge import Judge
from rrti_sgl.grading.notation import gold_answer, plain
from rrti_sgl.records import ProblemRecord


class MathGrader:
    """Compares mathematics; the name carries the version of math-verify, because the judgement depends on it.

    Args:
        judge: makes the comparisons; None: the one of this process, started at the first comparison.
    """

    name = f"math-verify-v2+{version('math-verify')}"

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = judge or Judge.shared()
        self._is_readable = functools.lru_cache(maxsize=4096)(self._judge.readable)

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution. A comparison that does not end in time counts as wrong and is named in the method."""
        found = extract(text)
        if found is None:
            return Grade(None, None if problem.answer is None else False)
        if problem.answer is None:
            return Grade(found.answer, None, found.method)
        gold, as_text = gold_answer(problem.answer), self.compares_as_text(problem)
        verdict: bool | None = plain(gold) == plain(found.answer)
        if not verdict and not as_text:
            verdict = self._judge.equal(gold, found.answer)
        remark = ", compared as text" if as_text else ", comparison timed out" if verdict is None else ""
        return Grade(found.answer, bool(verdict), found.method + remark)

    def compares_as_text(self, problem: ProblemRecord) -> bool:
        """Whether the gold answer is no mathematics, so that only the same text is right."""
        return problem.answer is not None and not self._is_readable(gold_answer(problem.answer))
