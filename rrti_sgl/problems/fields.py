"""From the rows of a file or a dataset to problems, by a map of field names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.errors import ProblemFileError, argument
from rrti_sgl.grading.choice import LETTERS
from rrti_sgl.problems.problem_set import problem_id
from rrti_sgl.records import ProblemRecord
from rrti_sgl.rows import Complaints, Place, Row, fields_of, is_index, is_list, json_value, look_up


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which fields of a row hold what; a name with dots leads into nested objects and lists.

    Args:
        question: field of the question.
        answer: field of the gold answer; a row where it is absent or blank is not graded. A list is joined by commas.
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


def problems_of(
    rows: Iterable[tuple[Place, Row]],
    problem_set: str,
    fields: FieldMap,
    complaints: Complaints | None = None,
    *,
    nan_is_missing: bool = True,
) -> list[ProblemRecord]:
    """Problems of rows, repeated questions left out.

    Args:
        rows: (place, row); the place is named in errors, e.g. "set.jsonl, line 3".
        problem_set: name of the set.
        fields: the map.
        complaints: what is wrong with the rows themselves, reported with all else.
        nan_is_missing: whether an answer that is NaN is none, as pandas writes it, or a fault.

    Raises:
        ProblemFileError: rows lack their question or their choices, or the answer is none of them: all of that at once.
    """
    complaints = Complaints() if complaints is None else complaints
    problems: dict[str, ProblemRecord] = {}
    for place, row in rows:
        try:
            if not nan_is_missing and _is_nan(row.get(fields.answer)):
                raise _no_answer(fields.answer, row[fields.answer])
            problem = _problem(row, problem_set, fields)
        except ProblemFileError as error:
            complaints.add(place, error.message, error.remedy)
        else:
            problems.setdefault(problem.problem_id, problem)
    complaints.raise_any("", error=ProblemFileError)
    return list(problems.values())


def _problem(row: Row, problem_set: str, fields: FieldMap) -> ProblemRecord:
    question = _text(row, fields.question, "question_field")
    used = {fields.question, fields.answer}
    if fields.right is not None:
        used |= {fields.right, *fields.wrong}
        right, *wrong = (_text(row, name) for name in (fields.right, *fields.wrong))
        choices = sorted((right, *wrong), key=lambda choice: hashlib.sha256(f"{question}\n{choice}".encode()).digest())
        answer: str | None = LETTERS[choices.index(right)]
    elif fields.choices is not None:
        used.add(fields.choices)
        choices = _choices(row, fields.choices)
        answer = _letter(look_up(row, fields.answer)[0], choices)
    else:
        choices, answer = [], _answer(look_up(row, fields.answer)[0], fields.answer)
    metadata = {str(name): json_value(value) for name, value in row.items() if name not in used}
    if choices:
        listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        question = f"{question}\n\n{listed}"
        metadata["choices"] = choices
    return ProblemRecord(problem_id(question), problem_set, question, answer, metadata)


def _text(row: Row, name: str, option: str = "") -> str:
    value, _ = look_up(row, name)
    if not isinstance(value, str) or not value.strip():
        raise ProblemFileError(
            f"field {name!r} is missing or no text; fields there: {fields_of(row)}",
            f"Name the right one: {argument(option)}." if option else "",
        )
    return value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _no_answer(name: str, value: Any) -> ProblemFileError:
    return ProblemFileError(f"field {name!r} is {value!s:.60}, no answer", "Write null where there is none.")


def _answer(value: Any, name: str) -> str | None:
    if any(isinstance(one, float) and not math.isfinite(one) for one in (value if is_list(value) else [value])):
        raise _no_answer(name, value)
    if isinstance(value, Mapping):
        within = argument("answer_field", f"{name}.{next(iter(value), 'value')}")
        raise ProblemFileError(f"field {name!r} is an object, no answer", f"A name with dots leads into it: {within}.")
    if is_list(value):
        value = ", ".join(str(item).strip().strip("$") for item in value)
    return None if value is None or not str(value).strip() else str(value)


def _choices(row: Row, name: str) -> list[str]:
    value, _ = look_up(row, name)
    if isinstance(value, Mapping):  # {"text": [...], "label": [...]}
        value = value.get("text")
    if not is_list(value) or not 2 <= len(value) <= len(LETTERS):
        raise ProblemFileError(
            f"field {name!r} is no list of 2 to {len(LETTERS)} choices; fields there: {fields_of(row)}",
            f"Name the right one: {argument('choices_field')}.",
        )
    return [str(choice) for choice in value]


def _letter(value: Any, choices: Sequence[str]) -> str | None:
    if value is None:
        return None
    text = str(value).strip()
    letters = LETTERS[: len(choices)]
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    if text in choices:
        return letters[list(choices).index(text)]
    index = text.removesuffix(".0")  # pandas writes whole numbers so where some are missing
    if is_index(index, len(choices)):
        return letters[int(index)]
    raise ProblemFileError(f"the answer {text[:60]!r} is no letter, text or index of its {len(choices)} choices")
