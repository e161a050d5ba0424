"""Parts, seeded samples and limits of a problem set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.problems import Selection, load_problems, problem_id
from rrti_sgl.records import ProblemRecord


def problems(n: int) -> list[ProblemRecord]:
    return [ProblemRecord(problem_id(f"question {i}"), "set", f"question {i}", str(i)) for i in range(n)]


def ids(selection: Selection, given_problems: list[ProblemRecord]) -> list[str]:
    return [problem.problem_id for problem in selection.apply(given_problems)]


def test_parts_cover_the_set_and_share_nothing() -> None:
    known = problems(1000)
    calibration, evaluation = (ids(Selection(part), known) for part in ("calibration", "evaluation"))
    assert not set(calibration) & set(evaluation)
    assert len(calibration) + len(evaluation) == 1000
    assert 150 < len(calibration) < 250


def test_a_problem_stays_in_its_part() -> None:
    known = problems(300)
    before = set(ids(Selection("calibration"), known[:100]))
    assert before == set(ids(Selection("calibration"), known)) & {problem.problem_id for problem in known[:100]}


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 5), st.randoms())
def test_samples_are_seeded_nested_and_independent_of_order(n: int, m: int, seed: int, random: object) -> None:
    known = problems(50)
    shuffled = list(known)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    small, large = sorted((n, m))
    few, many = ids(Selection(sample=small, seed=seed), known), ids(Selection(sample=large, seed=seed), known)
    assert set(few) <= set(many)
    assert len(few) == min(small, 50)
    assert set(few) == set(ids(Selection(sample=small, seed=seed), shuffled))
    assert few == [problem.problem_id for problem in known if problem.problem_id in few]


def test_another_seed_draws_other_problems() -> None:
    known = problems(200)
    assert set(ids(Selection(sample=50, seed=0), known)) != set(ids(Selection(sample=50, seed=1), known))


def test_the_limit_comes_last() -> None:
    known = problems(100)
    assert ids(Selection("evaluation", 20, 3, 5), known) == ids(Selection("evaluation", 20, 3), known)[:5]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"part": "test"}, "split='test' is unknown"),
        ({"limit": 0}, "limit=0"),
        ({"sample": -1}, "sample_problems=-1"),
    ],
)
def test_bad_selections(values: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Selection(**values)  # type: ignore[arg-type]


def test_an_empty_part_and_a_split_of_the_world_are_refused() -> None:
    with pytest.raises(UsageError, match="is empty"):
        Selection("calibration").apply([p for p in problems(50) if p not in Selection("calibration").apply(problems(50))])
    with pytest.raises(UsageError, match="world:calibration"):
        load_problems("world:heldout", selection=Selection("evaluation"))


def test_a_sample_of_the_world_is_drawn_from_all_of_it() -> None:
    drawn = load_problems("world:heldout", selection=Selection(sample=20)).problems
    first = {problem.problem_id for problem in load_problems("world:heldout", limit=20).problems}
    assert len(drawn) == 20
    assert {problem.problem_id for problem in drawn} != first
