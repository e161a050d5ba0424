"""The committed verdicts of every version of a grader; `python -m tests.grading.verdicts` adds those that are missing.

A verdict that is there already is never changed by it: a grader that judges a case otherwise has to take another version.
"""

from __future__ import annotations

import json
from pathlib import Path

from rrti_sgl.grading import GRADERS, Grader
from rrti_sgl.records import ProblemRecord
from tests.grading import cases

FILE = Path(__file__).with_name("verdicts.json")
Verdicts = dict[str, dict[str, str]]


def problem(answer: str | None, choices: list[str] | None = None) -> ProblemRecord:
    return ProblemRecord("id", "set", "question", answer, {} if choices is None else {"choices": choices})


def _cases() -> dict[str, list[tuple[ProblemRecord, str]]]:
    pairs = [*cases.EQUAL, *cases.DIFFERENT, *((gold, answer) for gold, answer, _ in cases.DISAGREEMENTS)]
    return {
        "math-verify": [(problem(gold), f"so it is \\boxed{{{answer}}}") for gold, answer in pairs],
        "choice": [(problem("B", cases.CHOICES), text) for text, _, _ in cases.CHOICE_TEXTS],
        "last-number": [(problem(gold), text) for gold, text, *_ in cases.LAST_NUMBER_TEXTS],
        "world": [(problem("7"), text) for text in ("so answer 7", "answer 7 answer 8", "seven", "7")],
    }


def current() -> Verdicts:
    """Verdicts by the grader's name and by case, as the graders judge now."""
    found: Verdicts = {}
    for name, texts in _cases().items():
        grader = GRADERS[name]()
        found[grader.name] = {f"{known.answer} <- {text}": _verdict(grader, known, text) for known, text in texts}
    return found


def _verdict(grader: Grader, known: ProblemRecord, text: str) -> str:
    grade = grader.grade(known, text)
    return (
        f"{'right' if grade.correct else 'wrong' if grade.correct is False else 'ungraded'}: {grade.answer} ({grade.method})"
    )


def committed() -> Verdicts:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


if __name__ == "__main__":
    merged = committed()
    for name, verdicts in current().items():
        merged[name] = verdicts | merged.get(name, {})
    FILE.write_text(json.dumps(merged, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
