r"""The grader for mathematics: the answer found by `extraction`, compared with the gold answer by `math-verify`.

Equal are equal values however they are written: fractions, decimals to six places, sets and lists in any order, tuples,
intervals, matrices, equations `x = 5` for `5`; units and dollar signs do not count, and `50 %` is both `0.5` and `50`.
`docs/grading.md` lists where this judges otherwise than a person would.
"""

from __future__ import annotations

import re
from importlib.metadata import version

from rrti_sgl.errors import UsageError
from rrti_sgl.grading.extraction import explicit, extract
from rrti_sgl.grading.grader import Grade
from rrti_sgl.grading.judge import Judge
from rrti_sgl.records import ProblemRecord

_WORDS = re.compile(
    r"(?<![\\A-Za-z{])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi)\b)[A-Za-z]{2,}(?:[ '-]+[A-Za-z]{2,})*"
)
_BRACED_COMMAND = re.compile(r"(\\(?:text\w*|mathrm|mathbf|mathbb|mbox|begin|end|operatorname)\s*\{[^}]*\})")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|\\;|\\!|,\\!|\u202f|\u00a0)(?=\d{3}(?!\d))")
_MIXED_NUMBER = re.compile(r"(?<![\d/.])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_SCIENTIFIC = re.compile(r"(?<=\d)[eE]\+?(-?\d+)(?!\w)")
_ENDS = " \n\t*`\"'"


class MathGrader:
    """Compares mathematics; the name carries the version of math-verify, because the judgement depends on it.

    Args:
        judge: makes the comparisons; None: the one of this process, started at the first comparison.
    """

    name = f"math-verify-v1+{version('math-verify')}"

    def __init__(self, judge: Judge | None = None) -> None:
        self._judge = judge or Judge.shared()

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution. A comparison that does not end in time counts as wrong and is named in the method."""
        found = extract(text)
        if found is None:
            return Grade(None, None if problem.answer is None else False)
        if problem.answer is None:
            return Grade(found.answer, None, found.method)
        gold, answer = normalized(gold_answer(problem.answer)), normalized(found.answer)
        if "".join(gold.split()).casefold() == "".join(answer.split()).casefold():
            return Grade(found.answer, True, found.method)
        verdict = self._judge.equal(gold, answer)
        if verdict is None:
            return Grade(found.answer, False, f"{found.method}, comparison timed out")
        return Grade(found.answer, verdict, found.method)

    def check_gold(self, problem: ProblemRecord) -> None:
        """Refuse a gold answer that is no mathematics.

        Raises:
            UsageError: names the problem and the answer.
        """
        if problem.answer is None:
            return
        gold = normalized(gold_answer(problem.answer))
        if not gold or not self._judge.readable(gold):
            raise UsageError(
                f"Problem {problem.problem_id}: the gold answer {problem.answer[-80:]!r} cannot be read as mathematics.",
                "Correct it, name the right field with --answer-field, or use another --grader.",
            )


def gold_answer(text: str) -> str:
    r"""The answer in a gold text: in its last `\boxed{}` or after its last `####`, or else the whole text."""
    found = explicit(text) if "\\boxed" in text or "####" in text else None
    return found.answer if found else text.strip()


def normalized(text: str) -> str:
    r"""An answer in a form that LaTeX can be read from: no dollar signs and Markdown, words in `\text{}`, mixed numbers."""
    text = text.strip(_ENDS).replace("\u2212", "-").replace("\\$", "").replace("$", "")
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", text.strip(_ENDS)).rstrip(".").strip(_ENDS)
    text = _THOUSANDS.sub("", text)
    text = _MIXED_NUMBER.sub(r"\1\\frac{\2}{\3}", text)
    text = _SCIENTIFIC.sub(r" \\times 10^{\1}", text)
    pieces = _BRACED_COMMAND.split(text)  # what is in \text{} already stays as it is
    pieces[::2] = [_WORDS.sub(_as_text, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _as_text(match: re.Match[str]) -> str:
    words = match.group()
    return "," if words.lower() in ("and", "or") else f"\\text{{ {words}}}"
