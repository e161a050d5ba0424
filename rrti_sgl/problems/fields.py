"""From the rows of a file or a dataset to problems, by a map of field names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.errors import ProblemFileError
from rrti_sgl.grading.choice import LETTERS
from rrti_sgl.problems.problem_set import problem_id
from rrti_sgl.records import ProblemRecord

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which fields of a row hold what.

    Args:
        question: field of the question.
        answer: field of the gold answer; a row without it is not graded. A list is joined by commas.
        choices: field that holds a list of choices, for multiple choice. The answer is then a letter, the text of a
            choice, or its index from 0.
        right, wrong: fields of the right choice and of the wrong ones, where each has a field of its own. They are put
            into an order that follows from the question alone.
    """

    question: str = "question"
    answer: str = "answer"
    choices: str | None = None
    right: str | None = None
    wrong: tuple[str, ...] = ()


def problems_of(rows: Iterable[tuple[str, Row]], problem_set: str, fields: FieldMap) -> list[ProblemRecord]:
    """Problems of rows, repeated questions left out.

    Args:
        rows: (place, row); the place is named in errors, e.g. "set.jsonl, line 3".
        problem_set: name of the set.
        fields: the map.

    Raises:
        ProblemFileError: a row lacks its question or its choices, or the answer is none of them.
    """
    problems: dict[str, ProblemRecord] = {}
    for place, row in rows:
        problem = _problem(place, row, problem_set, fields)
        problems.setdefault(problem.problem_id, problem)
    return list(problems.values())


def _problem(place: str, row: Row, problem_set: str, fields: FieldMap) -> ProblemRecord:
    question = _text(place, row, fields.question, "--question-field")
    used = {fields.question, fields.answer}
    if fields.right is not None:
        used |= {fields.right, *fields.wrong}
        right, *wrong = (_text(place, row, name, "fields.right and fields.wrong") for name in (fields.right, *fields.wrong))
        choices = sorted((right, *wrong), key=lambda choice: hashlib.sha256(f"{question}\n{choice}".encode()).digest())
        answer: str | None = LETTERS[choices.index(right)]
    elif fields.choices is not None:
        used.add(fields.choices)
        choices = _choices(place, row, fields.choices)
        answer = _letter(place, row.get(fields.answer), choices)
    else:
        choices, answer = [], _answer(row.get(fields.answer))
    metadata = {name: value for name, value in row.items() if name not in used}
    if choices:
        listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        question = f"{question}\n\n{listed}"
        metadata["choices"] = choices
    return ProblemRecord(problem_id(question), problem_set, question, answer, metadata)


def _text(place: str, row: Row, name: str, option: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ProblemFileError(
            f"{place}: field {name!r} is missing or no text; fields there: {sorted(row)}.",
            f"Name the right one with {option}.",
        )
    return value


def _answer(value: Any) -> str | None:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item).strip().strip("$") for item in value) or None
    return None if value is None else str(value)


def _choices(place: str, row: Row, name: str) -> list[str]:
    value = row.get(name)
    if isinstance(value, Mapping):  # {"text": [...], "label": [...]}
        value = value.get("text")
    if not isinstance(value, Sequence) or isinstance(value, str) or not 2 <= len(value) <= len(LETTERS):
        raise ProblemFileError(
            f"{place}: field {name!r} is no list of 2 to {len(LETTERS)} choices; fields there: {sorted(row)}.",
            "Name the right one with --choices-field.",
        )
    return [str(choice) for choice in value]


def _letter(place: str, value: Any, choices: Sequence[str]) -> str | None:
    if value is None:
        return None
    text = str(value).strip()
    letters = LETTERS[: len(choices)]
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    if text in choices:
        return letters[list(choices).index(text)]
    if text.isdigit() and int(text) < len(choices):
        return letters[int(text)]
    raise ProblemFileError(f"{place}: the answer {text[:60]!r} is no letter, text or index of its {len(choices)} choices.")
