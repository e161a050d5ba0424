"""Grading of mathematics: what counts as equal, what does not, and the listed disagreements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.grading import load_grader
from rrti_sgl.grading.mathematics import MathGrader
from rrti_sgl.grading.notation import based, gold_answer, normalized
from rrti_sgl.problems import BENCHMARKS, ProblemSet
from rrti_sgl.problems.fields import problems_of
from rrti_sgl.programs.running.preconditions import check_gold
from rrti_sgl.records import ProblemRecord
from tests.conftest import SHARED_DATA
from tests.grading.cases import BENCHMARK_GOLDS, DIFFERENT, DISAGREEMENTS, EQUAL
from tests.problems.excerpts import AMC23, GSM8K

GRADER = MathGrader()
CHOICES_OF_GPQA = {f"Incorrect Answer {i}": f"c{i}" for i in (1, 2, 3)}


def problem(answer: str | None) -> ProblemRecord:
    return ProblemRecord("id", "set", "question", answer)


def is_right(gold: str, answer: str) -> bool | None:
    return GRADER.grade(problem(gold), f"so it is \\boxed{{{answer}}}").correct


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
    assert GRADER.name.startswith("math-verify-v2+")
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
        ("2ab", "2ab"),
        ("5cm", r"5\text{ cm}"),
        ("x^2 + xy", "x^2 + xy"),
        ("18 men", r"18 \text{ men}"),
        (r"m_{\max }=3", "m_{max}=3"),
        ("t(0,4]", "(0,4]"),
        ("f(0,4)", "f(0,4)"),
        ("14.0 + -1.0i", "14.0 + -1.0 i"),
        (r"1.2\overline{34}", r"\frac{1222}{990}"),
    ],
)
def test_normalized(text: str, form: str) -> None:
    assert normalized(text) == form


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("4210_{5}", ("4210", 5)),
        (r"4210_{\text{five}}", ("4210", 5)),
        ("1A (base 16)", ("1a", 16)),
        ("42", None),
        ("x_1", None),
        ("49_5", None),
        ("12_{n}", None),
    ],
)
def test_based(text: str, known: tuple[str, int] | None) -> None:
    assert based(text) == known


@pytest.mark.parametrize(
    ("gold", "right"),
    [
        (
            r"$f(x)=a x+b$, where $a$ is an arbitrary integer with $\mho(a)=0$",
            r"f(x) = ax + b, where a is an arbitrary integer with \mho(a) = 0",
        ),
        ("3 when $n$ is even, 5 otherwise", "3 when n is even, 5 otherwise"),
        ("the circle with centre 3", "The circle with centre 3"),
        ("\\frac{1}{", "\\frac{1}{"),
        ("Evelyn, because she was late (1.)(", "\\text{Evelyn}, because she was late (1.)("),
    ],
)
def test_gold_answers_that_are_no_mathematics_are_compared_as_text(gold: str, right: str) -> None:
    known = problem(gold)
    assert GRADER.compares_as_text(known)
    assert GRADER.grade(known, f"The answer is {right}").correct or GRADER.grade(known, f"#### {right}").correct
    grade = GRADER.grade(known, r"\boxed{7}")
    assert (grade.correct, grade.method) == (False, "boxed, compared as text")


@pytest.mark.parametrize(
    "gold", ["7", "1/2", r"\text{Evelyn}", "#### 5", "18 dollars per day", r"15\mbox{ cm}^2", "Area = 5", None]
)
def test_gold_answers_that_are_mathematics(gold: str | None) -> None:
    assert not GRADER.compares_as_text(problem(gold))


def benchmark_golds() -> Iterator[Any]:
    for name, golds in BENCHMARK_GOLDS.items():
        for gold, right, wrong in golds:
            yield pytest.param(name, gold, right, wrong, id=f"{name} {gold}")


@pytest.mark.parametrize(("name", "gold", "right", "wrong"), list(benchmark_golds()))
def test_the_forms_of_gold_answers_of_every_benchmark(name: str, gold: Any, right: str, wrong: tuple[str, ...]) -> None:
    benchmark = BENCHMARKS[name]
    row: dict[str, Any] = {benchmark.fields.question: "Which?", benchmark.fields.answer: gold}
    if benchmark.fields.right is not None:  # choices, put into an order of ours: `gold` is then a letter of that order
        order = problems_of(
            [("", {"Question": "Which?", "Correct Answer": "c0", **CHOICES_OF_GPQA})], name, benchmark.fields
        )
        options = order[0].metadata["choices"]
        row["Correct Answer"] = options["ABCD".index(gold)]
        row |= {f"Incorrect Answer {i}": other for i, other in enumerate(sorted({*options} - {row["Correct Answer"]}), 1)}
    [known] = problems_of([("", row)], name, benchmark.fields)
    grader = load_grader(benchmark.grader)
    check_gold(ProblemSet(name, [known], grader))
    assert not getattr(grader, "compares_as_text", lambda problem: False)(known)
    gold_text = known.answer or ""
    for text in (gold_text if "####" in gold_text else rf"so \boxed{{{gold_text}}}", rf"so \boxed{{{right}}}"):
        assert grader.grade(known, text).correct is True, text
    for answer in wrong:
        assert grader.grade(known, rf"so \boxed{{{answer}}}").correct is False, answer


def test_all_seven_benchmarks_are_tried() -> None:
    assert set(BENCHMARK_GOLDS) == set(BENCHMARKS)


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
        assert not GRADER.compares_as_text(known)
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
