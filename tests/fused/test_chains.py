"""Drafts that are filled up keep their tokens where their positions say."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.fused.chains import fill


def test_what_is_put_behind_a_draft_comes_after_it():
    tokens, positions, places = fill(torch.tensor([7, 8, 9]), torch.tensor([4, 0]), torch.tensor([1, 2]), 3)
    assert tokens.tolist() == [7, 0, 0, 8, 9, 0]
    assert positions.tolist() == [4, 5, 6, 0, 1, 2]
    assert places.tolist() == [0, 3, 4]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6)), min_size=1, max_size=8))
def test_every_token_is_found_at_its_position(sequences):
    before, counts = (torch.tensor(values) for values in zip(*sequences, strict=True))
    fed = torch.arange(100, 100 + int(counts.sum()))
    tokens, positions, places = fill(fed, before, counts, 6)
    assert tokens.shape == positions.shape == (6 * len(sequences),)
    assert tokens[places].tolist() == fed.tolist()
    assert positions[places].tolist() == [start + step for start, n in sequences for step in range(n)]
