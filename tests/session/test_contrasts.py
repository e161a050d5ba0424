"""What is continued next, by what came out so far: a plan alone, with answers that are drawn in the test."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.programs.running.contrasts import STEP, Branch, Contrast, Outcome, Plan, Planned, Unit, stretches

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


MOST = 64


class Exactly(Answers):
    """The share of the right ones is met in each eight: of 1/8, 2/8 and so on."""

    def of(self, branch: Branch, index: int) -> Outcome:
        right = index % 8 < round(8 * self.shares[branch])
        return Outcome(right, "right" if right else "wrong")


def searched(shares: Sequence[float], gap: float, budget: int | None = None, **stops: Any) -> tuple[dict[int, float], Drawn]:
    """The tokens that are found, with their change; `shares` are of right solutions, before each token and at the end."""
    last = len(shares) - 2
    answers = Exactly({Branch(at - 1): share for at, share in enumerate(shares)})
    _, seen = worked_off(Plan([Unit.stretch(0, last)], MOST, gap=gap, budget=budget), answers, **stops)
    found = {}
    for unit in stretches([(0, last)], seen):
        change = shares[unit.last + 1] - shares[unit.first]
        if unit.first == unit.last and abs(change) >= gap:
            found[unit.last] = change
        elif budget is None:
            assert abs(change) < gap, "nothing is left open without a budget"
    return found, seen


RISING = st.lists(st.integers(0, 8), min_size=2, max_size=40).map(lambda eighths: [each / 8 for each in sorted(eighths)])


@given(RISING, st.booleans(), st.sampled_from([0.2, 0.25, 0.3, 0.5]), st.integers(0, 9))
def test_every_jump_is_found_where_none_takes_another_back(rising: list[float], falls: bool, gap: float, seed: int) -> None:
    """With beginnings that are bounded by the number of jumps that there can be, and the same ones after any stops."""
    shares = rising[::-1] if falls else rising
    jumps = {at: after - before for at, (before, after) in enumerate(pairwise(shares)) if abs(after - before) >= gap}
    found, seen = searched(shares, gap)
    assert found == pytest.approx(jumps)
    levels = math.ceil(math.log2(len(shares) - 1))
    assert len(seen) <= 2 + math.floor(1 / gap) * levels
    assert searched(shares, gap, stops=random.Random(seed)) == (found, seen)


@given(st.lists(st.integers(0, 8), min_size=2, max_size=30), st.sampled_from([0.25, 0.5]))
def test_what_is_found_are_jumps(eighths: list[int], gap: float) -> None:
    """Up and down in any order: none is made up, and one whose stretch shows no change as a whole is passed over."""
    shares = [each / 8 for each in eighths]
    found, seen = searched(shares, gap)
    assert all(change == shares[at + 1] - shares[at] for at, change in found.items())
    assert len(seen) <= len(shares)
    if abs(shares[-1] - shares[0]) < gap:
        assert found == {}
        assert len(seen) == 2


@given(st.lists(st.integers(0, 8), min_size=3, max_size=30), st.integers(16, 400))
def test_a_budget_is_kept_and_goes_to_the_largest_changes(eighths: list[int], budget: int) -> None:
    shares = [each / 8 for each in eighths]
    found, seen = searched(shares, 0.25, budget)
    assert sum(map(len, seen.values())) <= budget
    assert found.items() <= searched(shares, 0.25)[0].items()
    single = [0.0] * 20 + [1.0] * 21
    assert sum(map(len, searched(single, 0.25)[1].values())) == 112, "two ends, and a beginning more for each halving"
    assert searched(single, 0.25, 96)[0] == {19: 1.0}, "it is spent on the halves that change"


def test_clear_changes_take_few_continuations() -> None:
    _, seen = searched([0.0] * 20 + [1.0] * 21, 0.25)
    assert max(len(each) for each in seen.values()) == 16
    _, seen = searched([0.25] * 20 + [0.5] * 21, 0.25)
    assert max(len(each) for each in seen.values()) == MOST
