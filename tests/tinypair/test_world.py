"""The world: generation, splits, planted plans, and serialisation."""

import itertools
import json
from itertools import islice

import pytest

from pair_training.corpus import documents
from rrti_sgl.tinypair import WorldProblem, generate, split_of
from rrti_sgl.tinypair.problems import SPLITS, TRAP_KINDS, PlanItem, Segment, final_value
from rrti_sgl.tinypair.tokenizer import decode


def problem(question: str, answer: str, start: int, *segments: Segment) -> WorldProblem:
    return WorldProblem(question, answer, start, segments)


ADD_4, SUBTRACT_4, ADD_14 = PlanItem("add", 4), PlanItem("subtract", 4), PlanItem("add", 14)
DOUBLE, SKIP_4 = PlanItem("double", 2), PlanItem("skip", 4)


def test_same_seed_same_problems_other_seed_others() -> None:
    assert list(generate(3, "heldout", 20)) == list(generate(3, "heldout", 20))
    assert list(generate(3, "heldout", 20)) != list(generate(4, "heldout", 20))


@pytest.mark.parametrize("split", SPLITS)
def test_problems_belong_to_the_split_they_were_generated_for(split: str) -> None:
    assert {split_of(p.question) for p in generate(0, split, 200)} == {split}


def test_splits_are_disjoint_also_across_seeds() -> None:
    questions = [{p.question for seed in (0, 1) for p in generate(seed, split, 400)} for split in SPLITS]
    for one, other in itertools.combinations(questions, 2):
        assert not one & other


def test_the_corpus_holds_train_problems_alone() -> None:
    texts = [decode(document.ids) for document in islice(documents(5), 600)]
    questions = [text.split("question ")[1].split(" solution")[0] for text in texts if "question " in text]
    assert len(questions) > 400
    assert {split_of(question) for question in questions} == {"train"}


def test_every_kind_of_trap_occurs_and_questions_are_unique() -> None:
    problems = list(generate(0, "heldout", 500))
    assert {kind for p in problems for kind in p.traps} == set(TRAP_KINDS)
    assert len({p.question for p in problems}) == 500


def test_trap_counts_selects() -> None:
    assert {len(p.traps) for p in generate(0, "heldout", 50, trap_counts=(0, 2))} == {0, 2}


def test_every_set_of_falls_ends_in_a_wrong_answer_within_range() -> None:
    for p in generate(0, "heldout", 300):
        assert str(final_value(p.start, p.plan)) == p.answer
        for falls in itertools.product((False, True), repeat=len(p.traps)):
            end = final_value(p.start, p.plan_when(falls))
            assert end is not None
            assert (str(end) == p.answer) == (not any(falls))


def test_json_round_trip() -> None:
    for p in generate(0, "calibration", 50):
        assert WorldProblem.from_dict(json.loads(json.dumps(p.to_dict()))) == p


@pytest.mark.parametrize(
    ("segments", "step", "right", "fallen"),
    [
        ([Segment((DOUBLE, ADD_4), (ADD_4, DOUBLE), "order")], 0, DOUBLE, ADD_4),
        ([Segment((ADD_14,)), Segment((SKIP_4,), (ADD_4,), "distractor")], 1, SKIP_4, ADD_4),
        ([Segment((DOUBLE,)), Segment((ADD_4,), (SUBTRACT_4,), "direction")], 1, ADD_4, SUBTRACT_4),
    ],
)
def test_planted_decisions(segments: list[Segment], step: int, right: PlanItem, fallen: PlanItem) -> None:
    (decision,) = problem("", "", 14, *segments).decisions
    assert (decision.step, decision.right, decision.fallen) == (step, right, fallen)


@pytest.mark.parametrize(
    ("item", "words", "equation", "value"),
    [
        (ADD_14, "add 1 4", "1 4 + 1 4 = 2 8", 28),
        (SUBTRACT_4, "subtract 4", "1 4 - 4 = 1 0", 10),
        (DOUBLE, "double", "1 4 * 2 = 2 8", 28),
        (PlanItem("triple", 3), "triple", "1 4 * 3 = 4 2", 42),
    ],
)
def test_plan_items(item: PlanItem, words: str, equation: str, value: int) -> None:
    assert (item.words(), item.equation(14), item.apply(14)) == (words.split(), equation.split(), value)


def test_a_skipped_clause_changes_nothing() -> None:
    assert SKIP_4.apply(14) == 14
    with pytest.raises(ValueError, match="no equation"):
        SKIP_4.equation(14)
