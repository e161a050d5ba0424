"""Grading of mathematics: what counts as equal, what does not, and the listed disagreements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import load_grader
from rrti_sgl.grading.mathematics import MathGrader, gold_answer, normalized
from rrti_sgl.records import ProblemRecord
from tests.conftest import SHARED_DATA
from tests.problems.excerpts import AMC23, GSM8K

GRADER = MathGrader()


def problem(answer: str | None) -> ProblemRecord:
    return ProblemRecord("id", "set", "question", answer)


def is_right(gold: str, answer: str) -> bool | None:
    return GRADER.grade(problem(gold), f"so it is \\boxed{{{answer}}}").correct


EQUAL = [
    ("18", "18.0"),
    ("18", r"\$18"),
    ("18", "18 dollars"),
    ("18", r"18\text{ dollars}"),
    ("1200", "1,200"),
    ("1200", r"1\,200"),
    ("1200", "1{,}200"),
    ("1450000", "1.45e+06"),
    ("0.001", "1e-3"),
    (r"\frac{1}{2}", "0.5"),
    (r"\frac{1}{2}", "1/2"),
    (r"\frac{3}{2}", r"1\frac{1}{2}"),
    (r"\frac{3}{2}", "1 1/2"),
    (r"\frac{1}{3}", "0.333333"),
    (r"\{1, 2\}", "2, 1"),
    (r"1, 2", "2 and 1"),
    (r"3 \pm \sqrt{2}", r"3+\sqrt{2}, 3-\sqrt{2}"),
    ("[3, 4)", r"\left[3, 4\right)"),
    (r"(-\infty, 3]", r"\left(-\infty, 3\right]"),
    (r"[2,5]", r"x \in [2,5]"),
    ("(3, 4)", "(3,4)"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"2\sqrt{3}", r"\sqrt{12}"),
    ("5", "x = 5"),
    ("5", r"5 \text{ cm}^2"),
    ("90", r"90^\circ"),
    (r"50\%", "0.5"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\text{Evelyn}", "Evelyn"),
    ("Evelyn", r"\textbf{Evelyn}"),
    (r"\text{(C)}", "(C)"),
    ("-7", "\u22127"),
    ("11\\sqrt{2}", "$11\\sqrt2$"),
]
DIFFERENT = [
    ("18", "19"),
    ("18", "-18"),
    ("18", "18.001"),
    ("1200", "1201"),
    (r"\frac{1}{2}", r"\frac{1}{3}"),
    (r"\frac{1}{3}", "0.33"),
    ("(3, 4)", "(4, 3)"),
    ("[3, 4)", "(3, 4)"),
    (r"\{1, 2\}", r"\{1, 2, 3\}"),
    ("1, 2", "1"),
    ("x^2+1", "x^2-1"),
    (r"2\sqrt{3}", r"3\sqrt{2}"),
    (r"\text{Evelyn}", "Carla"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ("6", "6!"),
    (r"[2,5]", r"[2,5)"),
]
# What a person may judge otherwise; docs/grading.md shows this table. (gold, answer, judged right)
DISAGREEMENTS = [
    ("50", r"50\%", True),
    ("(1, 2)", "1, 2", True),
    ("6:30", r"\frac{1}{5}", True),
    ("5 cm", "5 km", True),
    ("4210_{5}", "4210", True),
    (r"(-\infty, 2) \cup (3, \infty)", "x < 2 or x > 3", False),
    ("3.14", r"\pi", False),
    (r"\frac{1}{3}", "0.333", False),
    ("1,234", r"\{1, 234\}", False),
]


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(gold: str, answer: str) -> None:
    assert is_right(gold, answer) is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert is_right(gold, answer) is False


@pytest.mark.parametrize(("gold", "answer", "judged"), DISAGREEMENTS)
def test_listed_disagreements_are_still_there(gold: str, answer: str, judged: bool) -> None:
    assert is_right(gold, answer) is judged


def test_what_a_grade_says() -> None:
    assert GRADER.name.startswith("math-verify-v1+")
    grade = GRADER.grade(problem("3"), "the answer is 3")
    assert (grade.answer, grade.correct, grade.method) == ("3", True, "phrase")
    grade = GRADER.grade(problem("3"), "no idea")
    assert (grade.answer, grade.correct, grade.method) == (None, False, None)
    grade = GRADER.grade(problem(None), r"\boxed{3}")
    assert (grade.answer, grade.correct, grade.method) == ("3", None, "boxed")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("It takes <<2/2=1>>1\n#### 3", "3"),
        (r"Thus $x = \boxed{4}$.", "4"),
        ("  27.0 ", "27.0"),
        ("#### 1,450,000", "1,450,000"),
    ],
)
def test_gold_answer(gold: str, answer: str) -> None:
    assert gold_answer(gold) == answer


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("$18$.", "18"),
        ("**18**", "18"),
        (r"\(x\)", "x"),
        ("18 dollars", r"18 \text{ dollars}"),
        ("2 and 3", "2 , 3"),
        (r"\sin x", r"\sin x"),
    ],
)
def test_normalized(text: str, form: str) -> None:
    assert normalized(text) == form


@pytest.mark.parametrize("answer", ["", "  ", "\\frac{1}{", "{{{"])
def test_gold_answers_that_cannot_be_read_are_refused(answer: str) -> None:
    with pytest.raises(UsageError, match="cannot be read as mathematics"):
        GRADER.check_gold(problem(answer))


def perturbations(gold: str) -> Iterator[str]:
    """Answers that are near the right number and wrong."""
    value = float(gold.replace(",", ""))
    exact = f"{value:.0f}" if value.is_integer() else f"{value!r}"
    yield from (f"{value + 1:.6g}" if value < 1e5 else f"{value + 1:.0f}", f"{exact}1" if "." not in exact else f"{exact}7")
    yield f"{-value:.0f}" if value else "1"
    yield rf"\frac{{{exact}}}{{3}}" if value else "2"
    yield f"{exact}x" if value else "x"
    yield f"{exact}, {value + 2:.0f}"


def check_gold_and_perturbed(answers: list[str]) -> None:
    for answer in answers:
        known = problem(answer)
        GRADER.check_gold(known)
        gold = gold_answer(answer)
        for text in (
            answer,
            f"so \\boxed{{{gold}}}",
            f"The answer is ${gold}$.",
            f"#### {gold}",
            f"3 and 4 make {gold} in all.",
        ):
            assert GRADER.grade(known, text).correct, (gold, text)
        for wrong in perturbations(gold):
            assert GRADER.grade(known, f"so \\boxed{{{wrong}}}").correct is False, (gold, wrong)


def test_gold_answers_of_the_excerpts() -> None:
    check_gold_and_perturbed([str(row["answer"]) for row in (*GSM8K, *AMC23)])


def published(name: str) -> list[str]:
    file = SHARED_DATA / f"{name}.jsonl"
    if not file.is_file():
        pytest.skip(f"no problem set at {file}")
    return [str(json.loads(line)["answer"]) for line in Path(file).read_text().splitlines()]


def test_gold_answers_of_amc23_and_a_sample_of_gsm8k() -> None:
    check_gold_and_perturbed(published("amc23_test"))
    check_gold_and_perturbed(published("gsm8k_test")[::11])


@pytest.mark.slow
def test_gold_answers_of_all_of_gsm8k() -> None:
    answers = published("gsm8k_test")
    assert len(answers) == 1319
    check_gold_and_perturbed(answers)


def test_the_stored_name_loads_the_grader() -> None:
    assert load_grader(GRADER.name).name == GRADER.name


def test_the_documentation_lists_the_same_disagreements() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "grading.md"
    listed = {f"| `{gold}` | `{answer}` | {'right' if judged else 'wrong'} |" for gold, answer, judged in DISAGREEMENTS}
    table = {line for line in page.read_text().splitlines() if line.endswith(("| right |", "| wrong |"))}
    assert table == listed
