"""One question as a problem set: what it is shown in, and how its answer is read."""

from __future__ import annotations

import pytest

from rrti_sgl.problems import load_problems, one_question
from rrti_sgl.prompts import load_template


@pytest.mark.parametrize("whole", [True, False])
def test_a_question_of_the_world_is_asked_as_the_world_asks(whole: bool) -> None:
    known = load_problems("world:heldout", limit=1)
    question = known.problems[0].question
    asked = one_question(question if whole else question.removeprefix("question ").removesuffix(" solution"), world=True)
    assert load_template(asked.base_template).text.replace("{question}", asked.problems[0].question) == question
    assert asked.max_new_tokens == known.max_new_tokens
    graded = asked.grader.grade(asked.problems[0], "so answer 2 4")
    assert (graded.answer, graded.correct) == ("24", None)


def test_another_question_is_read_by_its_last_number() -> None:
    asked = one_question("What is 2 + 2?")
    assert (asked.base_template, asked.reasoning_template) == ("question-answer@1", "chat@1")
    assert asked.grader.grade(asked.problems[0], "2 and 2 are 4.").answer == "4"
