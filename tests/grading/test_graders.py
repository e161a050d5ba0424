"""The other graders, and how a grader is found by its name."""

from __future__ import annotations

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import GRADERS, Grade, load_grader
from rrti_sgl.grading.choice import ChoiceGrader
from rrti_sgl.grading.last_number import LastNumberGrader
from rrti_sgl.records import ProblemRecord
from tests.grading.cases import CHOICE_TEXTS, CHOICES, LAST_NUMBER_TEXTS


def problem(answer: str | None, choices: list[str] | None = None) -> ProblemRecord:
    return ProblemRecord("id", "set", "question", answer, {} if choices is None else {"choices": choices})


@pytest.mark.parametrize(("gold", "text", "answer", "correct", "method"), LAST_NUMBER_TEXTS)
def test_last_number(gold: str | None, text: str, answer: str | None, correct: bool | None, method: str | None) -> None:
    assert LastNumberGrader().grade(problem(gold), text) == Grade(answer, correct, method)


@pytest.mark.parametrize(("text", "letter", "method"), CHOICE_TEXTS)
def test_choice(text: str, letter: str | None, method: str | None) -> None:
    assert ChoiceGrader().grade(problem("B", CHOICES), text) == Grade(letter, letter == "B", method)


@pytest.mark.parametrize(
    ("gold", "fine"), [("B", True), ("b", True), ("E", False), ("cod", False), ("", False), (None, True)]
)
def test_gold_letters(gold: str | None, fine: bool) -> None:
    if fine:
        ChoiceGrader().check_gold(problem(gold, CHOICES))
    else:
        with pytest.raises(UsageError, match="is none of A, B, C, D"):
            ChoiceGrader().check_gold(problem(gold, CHOICES))


def test_graders_are_found_by_short_and_by_stored_name() -> None:
    for name in GRADERS:
        grader = load_grader(name)
        assert type(load_grader(grader.name)) is type(grader)
        assert "-v" in grader.name


class Lenient:
    name = "lenient-v1"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        return Grade(text, True, "all of it")


class Nameless:
    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        return Grade(text, True)


class Demanding(Lenient):
    def __init__(self, strictness: int) -> None:
        self.strictness = strictness


class Failing(Lenient):
    def __init__(self) -> None:
        raise OSError("no word list")


def test_a_grader_of_ones_own() -> None:
    assert load_grader(f"{__name__}:Lenient").grade(problem("x"), "y").correct


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("last-number-v9", "is unknown"),
        ("nothing", r"last-number, math-verify, choice, world"),
        (f"{__name__}:Nameless", "is no grader"),
        (f"{__name__}:Demanding", "cannot be made"),
        (f"{__name__}:Failing", "cannot be made: no word list"),
        (f"{__name__}:Absent", "Absent"),
    ],
)
def test_graders_that_are_none(spec: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        load_grader(spec)
