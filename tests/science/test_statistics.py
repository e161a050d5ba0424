"""Statistics against brute force and known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.estimates import pass_at_k
from rrti_sgl.statistics.lorenz import LorenzBins

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
masses = st.lists(st.one_of(st.floats(0, 100), st.just(0.0)), min_size=1, max_size=40).filter(lambda x: sum(x) > 1e-3)


def gini(values: object) -> float:
    return float(LorenzBins.of(values).gini()[0])  # type: ignore[arg-type]


def share_of_tokens_carrying(values: object, share: float) -> float:
    return float(LorenzBins.of(values).tokens_carrying(share)[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "c", "k"), [(n, c, k) for n in range(1, 7) for c in range(n + 1) for k in range(1, n + 1)])
def test_pass_at_k_counts_the_subsets(n: int, c: int, k: int) -> None:
    subsets = list(itertools.combinations(range(n), k))
    expected = sum(min(subset) < c for subset in subsets) / len(subsets)
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)
    assert pass_at_k(n, c, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-12)


def test_pass_at_k_is_vectorised() -> None:
    np.testing.assert_allclose(pass_at_k([8, 8, 4], [0, 8, 1], 4), [0.0, 1.0, 1.0])
    np.testing.assert_allclose(pass_at_k(200, np.array([3, 100]), 100)[0], 1 - math.comb(197, 100) / math.comb(200, 100))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)])
def test_pass_at_k_refuses(n: int, c: int, k: int) -> None:
    with pytest.raises(UsageError):
        pass_at_k(n, c, k)


@SETTINGS
@given(values=masses)
def test_gini_is_the_mean_absolute_difference(values: list[float]) -> None:
    array = np.array(values)
    expected = np.abs(array[:, None] - array[None, :]).sum() / (2 * array.size * array.sum())
    assert gini(values) == pytest.approx(expected, abs=1e-9)


def test_gini_of_known_shapes() -> None:
    assert gini(np.ones(10)) == pytest.approx(0.0, abs=1e-12)
    assert gini([0.0] * 99 + [5.0]) == pytest.approx(0.99)


@SETTINGS
@given(values=masses, share=st.floats(0.01, 1.0))
def test_share_of_tokens_is_the_fewest_that_carry_it(values: list[float], share: float) -> None:
    descending = sorted(values, reverse=True)
    count = round(share_of_tokens_carrying(values, share) * len(values))
    assert sum(descending[:count]) >= share * sum(values) * (1 - 1e-9)
    assert sum(descending[: count - 1]) < share * sum(values) * (1 + 1e-9)


def test_share_of_tokens_is_not_the_gini() -> None:
    values = [0.0] * 90 + [1.0] * 10
    assert share_of_tokens_carrying(values, 0.8) == pytest.approx(0.08)
    assert share_of_tokens_carrying(values, 1.0) == pytest.approx(0.10)
    assert gini(values) == pytest.approx(0.90)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan]])
def test_concentration_refuses(values: list[float]) -> None:
    with pytest.raises(UsageError, match="Concentration needs"):
        gini(values)
