"""Distributions: construction, look-up, tail mass, and what `validate` refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.science.distributions import Distributions, row_sum

SETTINGS = settings(derandomize=True, deadline=None, max_examples=100)


def random_logits(n: int, vocab_size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=3.0, size=(n, vocab_size))


def test_from_logits_is_torchs_log_softmax() -> None:
    logits = random_logits(5, 30, 0)
    full = Distributions.from_logits(logits).validate()
    expected = torch.log_softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_allclose(full.logprobs, np.take_along_axis(expected, full.ids, axis=1), rtol=1e-6)
    assert full.is_full
    assert (full.tail_mass == 0.0).all()


def test_top_k_is_the_head_of_the_full_list() -> None:
    logits = random_logits(7, 50, 1)
    full = Distributions.from_logits(logits)
    for k in (1, 3, 49):
        top = Distributions.from_logits(logits, k).validate()
        np.testing.assert_array_equal(top.ids, full.ids[:, :k])
        np.testing.assert_array_equal(top.logprobs, full.logprobs[:, :k])
        np.testing.assert_allclose(top.tail_mass, np.exp(full.logprobs[:, k:].astype(float)).sum(axis=1), atol=1e-6)
        assert not top.is_full


def test_row_sums_do_not_depend_on_layout_or_batch() -> None:
    values = np.random.default_rng(2).random((100, 129))
    expected = [row_sum(row[None, :])[0] for row in values]
    for same in (values, np.asfortranarray(values), np.repeat(values, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(row_sum(same), expected)


def test_ties_are_listed_by_id() -> None:
    flat = Distributions.from_logits(np.zeros((2, 6)))
    np.testing.assert_array_equal(flat.ids, [range(6)] * 2)


@SETTINGS
@given(
    n=st.integers(0, 5),
    vocab_size=st.integers(1, 60),
    k=st.integers(1, 60),
    m=st.integers(1, 8),
    seed=st.integers(0, 999),
)
def test_lookup_agrees_with_a_loop(n: int, vocab_size: int, k: int, m: int, seed: int) -> None:
    batch = Distributions.from_logits(random_logits(n, vocab_size, seed), min(k, vocab_size))
    wanted = np.random.default_rng(seed + 1).integers(-2, vocab_size + 2, (n, m))
    logprobs, covered = batch.aligned_logprobs(wanted)
    assert logprobs.shape == covered.shape == (n, m)
    for row in range(n):
        known = dict(zip(batch.ids[row].tolist(), batch.logprobs[row].tolist(), strict=True))
        for column, token in enumerate(wanted[row].tolist()):
            assert covered[row, column] == (token in known)
            np.testing.assert_equal(logprobs[row, column], known.get(token, np.nan))


def test_both_lookup_paths_agree() -> None:
    """The dense table of a small vocabulary and the sorted keys of a large one, on the same lists."""
    batch = Distributions.from_logits(random_logits(6, 40, 3), 20)
    sparse = Distributions(batch.ids, batch.logprobs, 150_000)
    wanted = np.random.default_rng(0).integers(-1, 45, (6, 30))
    np.testing.assert_array_equal(batch.columns_of(wanted), sparse.columns_of(wanted))
    last = Distributions(np.array([[149_999, 0]] * 3, np.int32), np.full((3, 2), -1.0, np.float32), 150_000)
    np.testing.assert_array_equal(last.columns_of(np.array([[0, 149_999, -1, 150_000, 7]] * 3)), [[1, 0, -1, -1, -1]] * 3)


def test_logprob_of_one_token_a_row() -> None:
    batch = Distributions.from_logits(random_logits(4, 20, 4), 5)
    np.testing.assert_array_equal(batch.logprob_of(batch.ids[:, 2]), batch.logprobs[:, 2].astype(float))
    assert np.isnan(batch.logprob_of(np.full(4, -1))).all()


def test_rows_can_be_taken_apart_and_put_together() -> None:
    batch = Distributions.from_logits(random_logits(6, 20, 5), 4)
    parts = [batch[:2], batch[np.array([2])], Distributions.empty(4, 20), batch[np.arange(6) > 2]]
    whole = Distributions.concatenate(parts)
    assert [len(part) for part in parts] == [2, 1, 0, 3]
    np.testing.assert_array_equal(whole.ids, batch.ids)
    np.testing.assert_array_equal(whole.logprobs, batch.logprobs)


@pytest.mark.parametrize("parts", [[], [Distributions.empty(3, 9), Distributions.empty(4, 9)]])
def test_concatenate_refuses(parts: list[Distributions]) -> None:
    with pytest.raises(ValueError, match="cannot concatenate"):
        Distributions.concatenate(parts)


@pytest.mark.parametrize("k", [0, 5])
def test_from_full_refuses_a_k_outside_the_vocabulary(k: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.4"):
        Distributions.from_full(np.log(np.full((1, 4), 0.25)), k)


@pytest.mark.parametrize(
    ("ids", "logprobs", "vocab_size", "message"),
    [
        ([[0, 1]], [[-1.0]], 5, "one shape"),
        ([[0, 1]], [[-1.0, np.nan]], 5, "NaN in row 0"),
        ([[0, 1], [2, 2]], [[-1.0, -2.0], [-1.0, -2.0]], 5, "twice in row 1"),
        ([[0, 1]], [[0.5, -2.0]], 5, "positive"),
        ([[0, 1]], [[-2.0, -1.0]], 5, "descending"),
        ([[0, 1]], [[-np.inf, -1.0]], 5, "descending"),
        ([[0, 5]], [[-1.0, -2.0]], 5, r"outside 0\.\.4"),
        ([[0, -1]], [[-1.0, -2.0]], 5, r"outside 0\.\.4"),
        ([[0, 1]], [[-1.0, -2.0]], 1, r"1\.\.1"),
        ([[0, 1]], [[-0.1, -0.2]], 5, "above 1"),
    ],
)
def test_validate_names_the_fault(ids: list[list[int]], logprobs: list[list[float]], vocab_size: int, message: str) -> None:
    batch = Distributions(np.array(ids, np.int32), np.array(logprobs, np.float32), vocab_size)
    with pytest.raises(ValueError, match=message):
        batch.validate()


def test_validate_refuses_other_dtypes() -> None:
    with pytest.raises(ValueError, match="int32"):
        Distributions(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32), 1).validate()


def test_zero_probabilities_are_valid() -> None:
    batch = Distributions(np.array([[2, 0, 1]], np.int32), np.array([[0.0, -np.inf, -np.inf]], np.float32), 5).validate()
    assert batch.tail_mass[0] == 0.0
