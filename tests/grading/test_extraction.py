"""Where the answer of a solution is."""

from __future__ import annotations

import pytest

from rrti_sgl.grading import Grade, grade_solution
from rrti_sgl.grading.extraction import extract, solution
from rrti_sgl.grading.mathematics import MathGrader
from rrti_sgl.records import ProblemRecord


@pytest.mark.parametrize(
    ("text", "answer", "method"),
    [
        (r"so \boxed{27}.", "27", "boxed"),
        (r"first \boxed{1}, but rather \boxed{\frac{1}{2}} holds", r"\frac{1}{2}", "boxed"),
        (r"\boxed{1} and $\boxed{2}$", "1, 2", "boxed"),
        (r"either $\boxed{3}$, $\boxed{4}$ or \boxed{5}", "3, 4, 5", "boxed"),
        (r"\boxed{7}. Again: \boxed{7}", "7", "boxed"),
        (r"\fbox{\text{yes}}", r"\text{yes}", "boxed"),
        (r"\boxed 9 it is", "9", "boxed"),
        (r"It is \boxed{7}. I put it in \boxed as asked.", "7", "boxed"),
        (r"It is \boxed{7}. I put it in a \boxed{} as asked.", "7", "boxed"),
        (r"\boxed{12 oops \boxed{13} it is", "13", "boxed"),
        (r"so \boxed C.", "C", "boxed"),
        (rf"a long one: \boxed{{{'1' * 3000} and 5", "5", "last-expression"),
        ("2 + 2 = 4\n#### 4\n", "4", "hashes"),
        ("#### 1,200 dollars\nQuestion", "1,200 dollars", "hashes"),
        ("#### Step 1: count\nthere are 4\n#### 4\nQuestion: 5?", "4", "hashes"),
        ("#### Step 1: count\n2 + 2\n#### Conclusion\nThe answer is 4.", "4", "phrase"),
        ("#### Final Answer\n4", "4", "last-expression"),
        ("It is her sister.\n#### Evelyn", "Evelyn", "hashes"),
        ("####\n4", "4", "hashes"),
        ("The answer is 18.", "18", "phrase"),
        ("**Answer:** $x = 5$, since 3 < 4", "x = 5", "phrase"),
        ("The final answer is:\n\n$$\\frac{3}{4}$$\nChecked with 12.", r"\frac{3}{4}", "phrase"),
        ("so the answer is therefore 18 dollars per day. It took 3 steps.", "18", "phrase"),
        ("The answer is 3.5.", "3.5", "phrase"),
        ("The answer to the second question is (3, 4)", "(3, 4)", "phrase"),
        ("The answer is Evelyn.", "Evelyn", "phrase"),
        ("She pays $5 and then $13, so 18 in all", "18", "last-expression"),
        ("In the end $18.", "$18", "last-expression"),
        ("thus $x^2 + 1$ is what remains", "x^2 + 1", "last-expression"),
        ("He has 2/3 of it", "2/3", "last-expression"),
        ("that is -7 degrees", "-7", "last-expression"),
        ("that is 5-3 = 2", "2", "last-expression"),
        ("it is 50%", "50%", "last-expression"),
        (r"<think>\boxed{1}</think>It is \boxed{2}", "2", "boxed"),
        (r"<think>maybe 12, so \boxed{13}</think>", "13", "boxed"),
        ("<think>1 or 2</think>It is 3", "3", "last-expression"),
        (r"<think>1 or \boxed{2}, hm", "2", "boxed"),
    ],
)
def test_extract(text: str, answer: str, method: str) -> None:
    found = extract(text)
    assert found is not None
    assert (found.answer, found.method) == (answer, method)


@pytest.mark.parametrize("text", ["", "I do not know", "<think>12 or 13", "the answer is", r"\boxed{}", "####"])
def test_there_is_no_answer(text: str) -> None:
    assert extract(text) is None


@pytest.mark.parametrize(
    "text",
    [
        r"First \boxed{12}. No: the result is \boxed{",
        r"First \boxed{12}. No: the result is \boxed{\frac{1}{2}",
        r"\boxed{12 and then it is cut",
        "work\n#### 12\nNo.\n####",
        "work\n#### 12\nNo.\n#### \n",
        "The answer is 12. No, the answer is",
        "The answer is 12. No, the **Answer**: $",
        r"<think>\boxed{12}</think>It is \boxed{",
    ],
)
def test_a_solution_that_ends_within_a_mark_has_no_answer(text: str) -> None:
    assert extract(text) is None


CUT = "cut at a stop string"


@pytest.mark.parametrize(
    ("text", "answer", "method"),
    [
        ("3 * 6 = 18\nQuestion: How many 7s?", "18", f"last-expression, {CUT}"),
        ("Restating.\nQuestion: 14 and 4?\n#### 18", "18", "hashes"),
        ("Restating 2.\nQuestion: 14 and 4?\n#### 18", "2", f"last-expression, {CUT}"),
        ("So\nProblem: b\nQuestion: c\nis 5.\nQuestion: 6", "5", f"last-expression, {CUT}"),
        ("it is 18 Question: 7", "7", "last-expression"),
        ("nothing\nQuestion: nothing", None, None),
    ],
)
def test_where_a_solution_ends(text: str, answer: str | None, method: str | None) -> None:
    grade = grade_solution(MathGrader(), ProblemRecord("id", "set", "q", None), text, ("\nQuestion:", "\nProblem:"))
    assert (grade.answer, grade.method) == (answer, method)


def test_a_stop_string_within_the_reasoning_does_not_make_a_right_answer_wrong() -> None:
    known = ProblemRecord("id", "set", "q", "18")
    text = "Restating.\nQuestion: 14 and 4?\n#### 18"
    assert grade_solution(MathGrader(), known, text, ("\nQuestion:",)) == Grade("18", True, "hashes")


@pytest.mark.parametrize(
    ("prompt", "text", "answer"),
    [
        ("<assistant><think>\n", "maybe 12", None),
        ("<assistant><think>\n", "maybe 12</think>It is 13", "13"),
        ("<assistant><think>\n", "<think>maybe 12", None),
        ("<assistant><think>\n\n</think>\n\n", "It is 12", "12"),
        ("<assistant>", "It is 12", "12"),
        (None, "It is 12", "12"),
    ],
)
def test_a_thought_that_the_prompt_opened(prompt: str | None, text: str, answer: str | None) -> None:
    found = extract(solution(text, prompt))
    assert (found and found.answer) == answer


@pytest.mark.timeout(60)  # a quadratic search would take minutes
@pytest.mark.parametrize(
    "unit",
    [
        r"\boxed{",
        "\\boxed{12 and then it is cut ",
        " ",
        "answer is ",
        "####",
        r"\[",
        "$",
        "$$",
        r"\( ",
        "1,",
        "answer ",
        "<think>",
        "{",
        "-",
        r"\text{",
    ],
)
def test_long_nonsense_takes_no_long_time(unit: str) -> None:
    extract(unit * 8_000)
