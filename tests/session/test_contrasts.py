"""What is continued next, by what came out so far: a plan alone, with answers that are drawn in the test."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.programs.running.contrasts import STEP, Branch, Contrast, Outcome, Plan, Planned, Unit

Drawn = dict[Branch, dict[int, Outcome]]


class Answers:
    """Of each branch what its continuations come to: right by its share, in an order of its own."""

    def __init__(self, shares: Mapping[Branch, float], seed: int = 0) -> None:
        self.shares, self.seed = shares, seed

    def of(self, branch: Branch, index: int) -> Outcome:
        right = random.Random(f"{self.seed}/{branch}/{index}").random() < self.shares[branch]
        return Outcome(right, "right" if right else "wrong")


def worked_off(plan: Plan, answers: Answers, stops: random.Random | None = None) -> tuple[Planned, Drawn]:
    """A run to its end; with `stops` it is killed again and again after any part of what is wanted, done in any order."""
    seen: Drawn = {}
    while True:
        planned = plan.planned(seen)
        missing = [(branch, index) for branch, n in planned.wanted.items() for index in range(n)
                   if index not in seen.get(branch, {})]  # fmt: skip
        if not missing:
            return planned, seen
        if stops is not None:
            stops.shuffle(missing)
            missing = missing[: stops.randint(1, len(missing))]
        for branch, index in missing:
            seen.setdefault(branch, {})[index] = answers.of(branch, index)


def sentence_plan(ends: list[int], until: float | None, most: int) -> Plan:
    return Plan([Unit.stretch(first + 1, last) for first, last in zip([-1, *ends], ends, strict=False)], most, until)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.sampled_from([None, 0.1, 0.2, 0.3, 0.5]), st.integers(0, 9))
def test_a_run_that_was_stopped_anywhere_comes_to_the_same(shares: list[float], until: float | None, seed: int) -> None:
    """And to no continuation more: every decision is by whole steps."""
    ends = [3 * place + 2 for place in range(len(shares) - 1)]
    answers = Answers({Branch(at): share for at, share in zip([-1, *ends], shares, strict=True)}, seed)
    plan = sentence_plan(ends, until, 20)
    straight, seen = worked_off(plan, answers)
    stopped, seen_of_stopped = worked_off(plan, answers, random.Random(seed))
    assert stopped == straight
    assert seen_of_stopped == seen
    assert len(straight.contrasts) == len(plan.units)
    for contrast in straight.contrasts:
        n = contrast.continuations
        assert until is None or n == plan.most or contrast.reach <= until
        assert until is None or n == STEP or Contrast.of(contrast.unit, seen, n - STEP if n < 20 else 16).reach > until
    assert {branch: len(each) for branch, each in seen.items()} == {
        branch: max(each.continuations for each in straight.contrasts if branch in each.unit.branches) for branch in seen
    }


def test_a_beginning_between_two_sentences_is_continued_once() -> None:
    plan = sentence_plan([2, 5, 8], None, 4)
    assert plan.planned({}).wanted == {Branch(at): 4 for at in (-1, 2, 5, 8)}


def test_two_arms_of_a_token() -> None:
    unit = Unit.token(3)
    outcomes = [{index: Outcome(index < right, "ab"[index < right]) for index in range(4)} for right in (3, 1)]
    contrast = Contrast.of(unit, dict(zip(unit.branches, outcomes, strict=True)), 4)
    assert [branch.arm for branch in unit.branches] == ["taken", "denied"]
    assert (contrast.taken, contrast.denied, contrast.effect, contrast.necessary) == (0.75, 0.25, 0.5, True)
    assert contrast.answers[0] == pytest.approx(10 / 16 - 1 / 2)
