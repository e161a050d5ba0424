"""Estimates of single shares: the interval of a difference, by its coverage."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.estimates import difference_of_shares


@pytest.mark.parametrize(("n", "m"), [(8, 8), (8, 16), (24, 24)])
def test_a_difference_of_shares_is_covered(n: int, m: int) -> None:
    """Exactly, over all outcomes, on a grid of true shares: 93 % at the least, 95 on average."""
    found = {(x, y): difference_of_shares(x, n, y, m) for x in range(n + 1) for y in range(m + 1)}
    covered = []
    for p, q in product([0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95], repeat=2):
        of_p = [comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)]
        of_q = [comb(m, y) * q**y * (1 - q) ** (m - y) for y in range(m + 1)]
        covered.append(sum(of_p[x] * of_q[y] for (x, y), (low, high) in found.items() if low <= p - q <= high))
    assert min(covered) >= 0.93
    assert sum(covered) / len(covered) >= 0.95


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_the_interval_turns_with_the_two_shares_and_stays_in_bounds(n: int, m: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    low, high = difference_of_shares(x, n, y, m)
    assert difference_of_shares(y, m, x, n) == pytest.approx((-high, -low))
    assert -1 <= low < high <= 1


def test_no_shares_are_named() -> None:
    with pytest.raises(UsageError, match="3 of 2 and 0 of 1 are no shares"):
        difference_of_shares(3, 2, 0, 1)
    with pytest.raises(UsageError, match="0 of 0 and 0 of 1"):
        difference_of_shares(0, 0, 0, 1)
