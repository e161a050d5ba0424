r"""The grader for multiple choice: the letter that a solution settles on.

Looked for, in this order: `\boxed{C}`, "the answer is (C)" or `"answer": "C"`, the last letter in parentheses, a last line
that is nothing but a letter. A box with the text of one of the choices counts as its letter. Of several the last counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.grading.extraction import THINK_END, THINK_START, explicit, is_cut
from rrti_sgl.grading.grader import Grade
from rrti_sgl.records import ProblemRecord

LETTERS = "ABCDEFGHIJ"
_OPENING = r"(?:[\s\"'(*$`{\[]|\\[(\[]|\\(?:text\w*|math\w+|boxed|fbox)\s*\{)*"
_CLOSING = r"[\s\"')*$`}\].:\\]*"
_WRAPPED = re.compile(_OPENING + r"([A-J])(?:[).:}\s*$\"'\\]|$)")
_LAST_LINE = re.compile(_OPENING + r"([A-J])" + _CLOSING)
# Only capitals, and no article: "the answer is a sum" and "the answer is A sum" name no choice.
_PHRASE = re.compile(
    r"(?i:\b(?:answers?|choice|option)\b[\"*>]*\s*(?:is|are|:|=)?\s*[:=]?[\s*]*(?:option|choice)?)"
    + _OPENING
    + r"(?:([B-HJ])|([AI])(?!\s+(?!(?:because|since|as|is|and|due|for|by|which)\b)[a-z]))(?![A-Za-z'])"
)
_PARENTHESES = re.compile(r"\(([A-J])\)")


class ChoiceGrader:
    """Compares the letter of a choice with the right one."""

    name = "choice-v2"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution; the gold answer is a letter."""
        choices = [str(choice) for choice in problem.metadata.get("choices", ())]
        letter, method = _find(text, choices)
        if problem.answer is None:
            return Grade(letter, None, method)
        return Grade(letter, letter == problem.answer.strip().upper(), method)

    def check_gold(self, problem: ProblemRecord) -> None:
        """Refuse a gold answer that is no letter of a choice.

        Raises:
            UsageError: names the problem and the answer.
        """
        letters = LETTERS[: len(problem.metadata.get("choices", ())) or None]
        if problem.answer is not None and problem.answer.strip().upper() not in list(letters):
            raise UsageError(
                f"Problem {problem.problem_id}: the gold answer {problem.answer[:80]!r} is none of {', '.join(letters)}.",
                f"Name the right fields: {argument('answer_field')} and {argument('choices_field')}. Or use another "
                f"{argument('grader')}.",
            )


def _find(text: str, choices: Sequence[str]) -> tuple[str | None, str | None]:
    """(letter, method); (None, None) where the solution settles on none."""
    thought, closed, said = text.rpartition(THINK_END)
    unfinished = not closed and THINK_START in text
    for part in (said, thought) if closed else (text,):
        if part is not thought and is_cut(part):
            return None, None
        boxed = explicit(part)
        if boxed and boxed.method == "boxed" and (letter := _letter(boxed.answer, choices)):
            return letter, "boxed"
        if phrases := [match.group(1) or match.group(2) for match in _PHRASE.finditer(part)]:
            return _known(phrases[-1], choices), "phrase"
        if not unfinished and (letters := _PARENTHESES.findall(part)):
            return _known(letters[-1], choices), "parentheses"
        if not unfinished and (alone := _LAST_LINE.fullmatch(part.strip().rpartition("\n")[2])):
            return _known(alone.group(1), choices), "last-line"
    return None, None


def _letter(answer: str, choices: Sequence[str]) -> str | None:
    if match := _WRAPPED.match(answer):
        return _known(match.group(1), choices)
    written = ["".join(choice.split()).casefold() for choice in choices]
    content = "".join(answer.split()).casefold()
    return LETTERS[written.index(content)] if content in written else None


def _known(letter: str, choices: Sequence[str]) -> str | None:
    return letter if not choices or letter in LETTERS[: len(choices)] else None
