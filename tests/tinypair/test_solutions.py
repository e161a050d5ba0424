"""Solutions: writing, grading, equations and planted positions."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pair_training.corpus import CorpusShares, write_solution
from rrti_sgl.tinypair import WorldProblem, equations, generate, grade, planted_positions, right_solution
from rrti_sgl.tinypair.problems import PlanItem, Segment
from rrti_sgl.tinypair.solutions import render

PROBLEMS = list(generate(0, "heldout", 300))


@given(st.sampled_from(PROBLEMS), st.integers(0, 2**32))
def test_the_right_plan_grades_right_with_any_markers(problem: WorldProblem, seed: int) -> None:
    text = " ".join(render(problem.start, [(item, True) for item in problem.plan], random.Random(seed)))
    assert grade(problem, text) == (problem.answer, True)


@given(st.sampled_from([p for p in PROBLEMS if p.traps]), st.data())
def test_whoever_falls_grades_wrong(problem: WorldProblem, data: st.DataObject) -> None:
    falls = data.draw(st.sampled_from([*itertools.product((False, True), repeat=len(problem.traps))][1:]))
    text = " ".join(render(problem.start, [(item, True) for item in problem.plan_when(falls)]))
    answer, right = grade(problem, text)
    assert answer is not None
    assert not right


@given(st.sampled_from(PROBLEMS), st.integers(0, 2**32))
@settings(max_examples=200)
def test_textbooks_are_right_and_all_written_equations_hold(problem: WorldProblem, seed: int) -> None:
    shares = CorpusShares(textbook_slips=0.5)
    careful = " ".join(write_solution(problem, random.Random(seed), shares, careful=True))
    assert grade(problem, careful)[1]
    text = " ".join(write_solution(problem, random.Random(seed), shares, careful=False))
    assert all(holds for _, holds in equations(text))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("first double : 1 4 * 2 = 2 8 . so answer 2 8", "28"),
        ("answer 7", "7"),
        ("answer 7 so answer 1 2 .", "12"),
        ("first add 4 : 1 + 4 = 5 . so answer", None),
        ("so answer first 4", None),
        ("", None),
    ],
)
def test_extracted_answers(text: str, answer: str | None) -> None:
    assert grade("28", text) == (answer, answer == "28")


def test_equations_are_checked() -> None:
    text = "first add 4 : 1 4 + 4 = 1 8 . then double : 1 8 * 2 = 3 5 . next add 2 : 3 5 + = 2 . so answer 2"
    assert equations(text) == [("1 4 + 4 = 1 8", True), ("1 8 * 2 = 3 5", False), ("3 5 + = 2", False)]


ADD_4, ADD_14, DOUBLE = PlanItem("add", 4), PlanItem("add", 14), PlanItem("double", 2)
ORDER = WorldProblem("", "32", 14, (Segment((DOUBLE, ADD_4), (ADD_4, DOUBLE), "order"),))
CLOSE = WorldProblem("", "32", 14, (Segment((ADD_14, ADD_4), (ADD_4, ADD_14), "order"),))
BEN_FINDS_5 = Segment((PlanItem("skip", 5),), (PlanItem("add", 5),), "distractor")
DISTRACTOR = WorldProblem("", "18", 14, (Segment((ADD_4,)), BEN_FINDS_5))
DIRECTION = WorldProblem("", "18", 14, (Segment((ADD_4,), (PlanItem("subtract", 4),), "direction"),))
PLAIN = WorldProblem("", "18", 14, (Segment((ADD_4,)),))


@pytest.mark.parametrize(
    ("problem", "text", "positions"),
    [
        (PLAIN, "first add 4 : 1 4 + 4 = 1 8 . so answer 1 8 <eos>", [0]),
        (PLAIN, "answer 1 8", [0]),
        (PLAIN, "", []),
        # The item that both plans part on; one who falls may still take it back.
        (ORDER, "first double : 1 4 * 2 = 2 8 . then add 4 : 2 8 + 4 = 3 2 . so answer 3 2", [0, 1]),
        (ORDER, "first add 4 : 1 4 + 4 = 1 8 . then double : 1 8 * 2 = 3 6 . so answer 3 6", [0, 1, 3]),
        (ORDER, "first add 4 wait first double : 1 4 * 2 = 2 8 . then", [0, 1, 3, 5]),
        (DIRECTION, "first add 4 : 1 4 + 4 = 1 8 . so answer 1 8", [0, 1]),
        (DIRECTION, "first subtract 4 : 1 4 - 4 = 1 0 . so answer 1 0", [0, 1, 3]),
        (DISTRACTOR, "first add 4 : 1 4 + 4 = 1 8 . then skip 5 . so answer 1 8", [0, 13]),
        (DISTRACTOR, "first add 4 : 1 4 + 4 = 1 8 . next add 5 : 1 8 + 5 = 2 3 . so answer 2 3", [0, 13, 15]),
        (DISTRACTOR, "first add 4 : 1 4 + 4 = 1 8 . next add 5 wait then skip 5 . so answer 1 8", [0, 13, 15, 17]),
        # ``add 4`` and ``add 1 4`` part at the first digit.
        (CLOSE, "first add 1 4 : 1 4 + 1 4 = 2 8 . then add 4 :", [0, 2]),
        (CLOSE, "first add 4 : 1 4 + 4 = 1 8 . then add 1 4 :", [0, 2, 3]),
        # Off every plan, or a wrong equation: nothing planted any more.
        (DISTRACTOR, "first add 9 : 1 4 + 9 = 2 3 . then add 1 4 :", [0]),
        (DISTRACTOR, "first add 4 : 1 4 + 4 = 1 9 . then add 5 :", [0]),
    ],
)
def test_planted_positions(problem: WorldProblem, text: str, positions: list[int]) -> None:
    assert planted_positions(problem, text.split()) == positions


def test_right_solutions_pass_every_planted_decision() -> None:
    for problem in PROBLEMS:
        tokens = right_solution(problem).split()
        steps = [0, *(at + 1 for at, token in enumerate(tokens) if token == ".")]
        expected = {0}
        for decision in problem.decisions:
            right, fallen = (["then", *item.words()] for item in (decision.right, decision.fallen))
            offset = next(i for i, (one, other) in enumerate(zip(right, fallen, strict=False)) if one != other)
            expected.add(steps[decision.step] + offset)
        assert planted_positions(problem, tokens) == sorted(expected)
