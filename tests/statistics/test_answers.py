"""How far apart answers are: the estimate by pairs of draws, the interval by its coverage."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.answers import answer_distance
from rrti_sgl.statistics.estimates import difference_of_shares

ANSWERS = st.lists(st.sampled_from("abcd"), min_size=2, max_size=12)


@given(ANSWERS, ANSWERS)
def test_the_estimate_is_that_of_all_pairs(first: list[str], second: list[str]) -> None:
    differ = [np.mean([a != b for a, b in pairs])
              for pairs in (product(first, second), permutations(first, 2), permutations(second, 2))]  # fmt: skip
    estimate, low, high = answer_distance(first, second)
    assert estimate == pytest.approx(differ[0] - (differ[1] + differ[2]) / 2)
    assert answer_distance(second, first) == pytest.approx((estimate, low, high))
    assert 0 <= low <= high <= 1


@given(st.integers(0, 12), st.integers(0, 12), st.integers(13, 20), st.integers(13, 20))
def test_of_two_answers_it_is_the_interval_of_a_difference(x: int, y: int, n: int, m: int) -> None:
    """Squared; its lower end is 0 where that one holds 0, and nearly its square where not."""
    _, low, high = answer_distance(["a"] * x + ["b"] * (n - x), ["a"] * y + ["b"] * (m - y))
    ends = sorted(map(abs, difference_of_shares(x, n, y, m)))
    if x + y > 0:
        assert high == pytest.approx(ends[1] ** 2, abs=0.02)
        of_difference = difference_of_shares(x, n, y, m)
        assert low == pytest.approx(0 if of_difference[0] <= 0 <= of_difference[1] else ends[0] ** 2, abs=0.02)


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([1.0], [1.0]),
        ([0.5, 0.5], [0.5, 0.5]),
        ([0.9, 0.1], [0.5, 0.5]),
        ([0.5, 0.3, 0.2], [0.1, 0.2, 0.7]),
        ([0.1] * 10,) * 2,
    ],
)
def test_the_interval_holds_the_distance(p: list[float], q: list[float]) -> None:
    rng, names = np.random.default_rng(0), list("abcdefghij")
    distance = sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 2
    held = 0
    for _ in range(400):
        first, second = (list(rng.choice(names[: len(each)], 16, p=each)) for each in (p, q))
        _, low, high = answer_distance(first, second)
        held += low - 1e-12 <= distance <= high
    assert held >= 0.92 * 400


def test_few_answers() -> None:
    estimate, low, high = answer_distance(["a"], ["b"])
    assert math.isnan(estimate)
    assert (low, high) == (0.0, 1.0)
    with pytest.raises(UsageError, match="0 and 1 answers are no two distributions"):
        answer_distance([], ["a"])
