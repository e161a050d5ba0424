"""Top sets within groups are those of each group alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.statistics.ranking import GroupRanking, Ranking


@given(st.data(), st.integers(1, 6), st.sampled_from([1, 70_000, 200_000]), st.floats(0.01, 1.0))
def test_each_group_has_its_own_top_set(data: st.DataObject, n_groups: int, stride: int, p: float) -> None:
    n = data.draw(st.integers(1, 40))
    values = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)), dtype=float)  # with ties
    groups = stride * np.array(data.draw(st.lists(st.integers(0, n_groups - 1), min_size=n, max_size=n)), dtype=np.int32)
    found = GroupRanking.of(values, groups).in_top(p)
    for group in np.unique(groups):
        own = groups == group
        assert found[own].tolist() == Ranking.of(values[own]).in_top(values[own], p).tolist()


@pytest.mark.parametrize("most", [100, 65_536, 65_537, 3_000_000])
def test_groups_are_in_order_whatever_their_numbers(most: int) -> None:
    draws = np.random.default_rng(most)
    groups, values = draws.integers(0, most, 5_000), draws.random(5_000)
    ranked = GroupRanking.of(values, groups)
    assert ranked.ordered.tolist() == values[np.lexsort((values, groups))].tolist()
