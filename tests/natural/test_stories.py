"""Word problems: their solutions are right, and what is held out is apart from what is trained on."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from natural_pair.stories import LARGEST, PARTS, SHORT, Part, part_of, problems
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import load_problems
from rrti_sgl.records import ProblemRecord

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")
parts = st.sampled_from(PARTS)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in re.findall(r"\d+", text)))


@settings(max_examples=60, deadline=None)
@given(parts, st.integers(0, 10**6), st.booleans())
def test_every_equation_holds_and_the_last_one_is_the_answer(part: Part, seed: int, short: bool) -> None:
    for problem in islice(problems(part, seed, short=short), 5):
        equations = EQUATION.findall(problem.solution)
        assert len(equations) == problem.steps
        results = []
        for left, sign, right, result in equations:
            x, y, z = int(left), int(right), int(result)
            assert z == {"+": x + y, "-": x - y, "*": x * y, "/": x / y}[sign]
            assert 1 <= z <= LARGEST
            results.append(z)
        assert problem.answer == results[-1]
        # Whatever an equation computes with is told in the question, was computed before, or doubles or halves.
        known = {*numbers(problem.question), 2}
        for (left, _, right, _), result in zip(equations, results, strict=True):
            assert {int(left), int(right)} <= known
            known.add(result)
        assert not re.search(r"[{}\[\]]", problem.question + problem.solution)


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.booleans())
def test_parts_have_no_numbers_in_common(one: int, other: int, short: bool) -> None:
    trained = {numbers(problem.question) for problem in islice(problems("train", one, short=short), 60)}
    calibrated = {numbers(problem.question) for problem in islice(problems("calibration", other, short=True), 20)}
    for part in ("heldout", "unseen"):
        held_out = {numbers(problem.question) for problem in islice(problems(part, other, short=True), 20)}
        assert not held_out & (trained | calibrated)
    assert not trained & calibrated


@given(st.lists(st.integers(2, 99), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_part_of_numbers_does_not_hang_on_their_order(drawn: list[int], rng: object) -> None:
    shuffled = drawn.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert part_of(drawn) == part_of(shuffled)


def test_unseen_stories_are_in_no_other_part() -> None:
    told = {part: {problem.story for problem in islice(problems(part, 0), 300)} for part in PARTS}
    assert told["train"] == told["calibration"] == told["heldout"]
    assert not told["unseen"] & told["train"]
    assert len(told["unseen"]) >= 6


def test_short_problems_have_small_numbers_and_one_or_two_steps() -> None:
    drawn = list(islice(problems("train", 0, short=True), 100))
    assert max(number for problem in drawn for number in numbers(problem.question)) == SHORT
    assert {problem.steps for problem in drawn} == {1, 2}
    assert max(problem.steps for problem in islice(problems("train", 0), 100)) > 3


def test_a_part_is_the_same_each_time_and_repeats_no_question() -> None:
    [first, second] = [[problem.question for problem in islice(problems("train", 3), 300)] for _ in range(2)]
    assert first == second
    assert len(set(first)) == 300


def test_the_product_reads_the_rows_and_grades_the_worked_solutions_right(tmp_path: Path) -> None:
    drawn = list(islice(problems("heldout", 0), 30))
    path = tmp_path / "heldout.jsonl"
    path.write_text("".join(json.dumps(problem.row()) + "\n" for problem in drawn))
    loaded = load_problems(str(path))
    assert [problem.question for problem in loaded.problems] == [problem.question for problem in drawn]
    grader = load_grader("last-number")
    for problem in drawn:
        record = ProblemRecord("p", "own", problem.question, str(problem.answer))
        assert grader.grade(record, problem.solution).correct
        assert not grader.grade(record, problem.solution.replace("is ", "is 1")).correct
