"""Metrics in batched torch against those of the store, and draws against the filter that SGLang documents."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.fused.drawing import draw
from rrti_sgl.fused.scoring import MEASURES, entropy, measure
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.metrics import METRICS, all_metrics

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=6, max_size=6)


def rows(*lists: list[float]) -> torch.Tensor:
    return torch.log_softmax(torch.tensor(lists, dtype=torch.float32), -1)


def distributions(logprobs: torch.Tensor) -> Distributions:
    return Distributions.from_full(logprobs.numpy())


def test_every_metric_is_measured():
    assert list(MEASURES) == list(METRICS)


@given(LOGITS, LOGITS)
def test_a_metric_is_the_one_of_the_store(base, reasoning):
    both = rows(base), rows(reasoning)
    expected = all_metrics(*map(distributions, both))
    found = measure(*both, list(MEASURES))[0].numpy()
    for value, name in zip(found, MEASURES, strict=True):
        assert value == pytest.approx(float(expected[name][0]), rel=2e-5, abs=2e-5), name


def test_impossible_tokens_count_nothing():
    base, reasoning = rows([0, 0, -np.inf]), rows([0, 0, 0])
    found = dict(zip(MEASURES, measure(base, reasoning, list(MEASURES))[0].tolist(), strict=True))
    assert found["ce"] == pytest.approx(np.log(3), rel=1e-6)
    assert found["entropy_base"] == pytest.approx(np.log(2), rel=1e-6)
    assert found["kl"] == np.inf
    assert found["tv"] == pytest.approx(1 / 3, rel=1e-6)


def test_many_rows_are_measured_in_blocks():
    base, reasoning = (torch.log_softmax(torch.randn(600, 7), -1) for _ in range(2))
    whole = measure(base, reasoning, ["ce", "js"])
    torch.testing.assert_close(whole[597:], measure(base[597:], reasoning[597:], ["ce", "js"]))


def test_entropy_is_of_logits():
    assert entropy(torch.tensor([[3.0, 3.0, 3.0, 3.0]])).item() == pytest.approx(np.log(4))


def sampling(**changes) -> SimpleNamespace:
    plain = {
        **{"is_all_greedy": False, "temperatures": torch.tensor([[1.0], [0.5]]), "top_ks": torch.tensor([1 << 30] * 2)},
        **{"top_ps": torch.ones(2), "min_ps": torch.zeros(2), "need_top_k_sampling": False},
        **{"need_top_p_sampling": False, "need_min_p_sampling": False},
    }
    return SimpleNamespace(**(plain | changes))


def test_greedy_draws_take_the_most_probable_token():
    assert draw(torch.tensor([[0.0, 2, 1]]), sampling(is_all_greedy=True), torch.tensor([0])).tolist() == [1]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"need_top_k_sampling": True, "top_ks": torch.tensor([2, 2])}, {1, 2}),
        ({"need_top_p_sampling": True, "top_ps": torch.tensor([0.5, 0.5])}, {1}),
        ({"need_min_p_sampling": True, "min_ps": torch.tensor([0.2, 0.2])}, {1, 2}),
        ({}, {0, 1, 2, 3}),
    ],
)
def test_filters_leave_what_they_should(options, kept):
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([[0.05, 0.6, 0.3, 0.05]])).repeat(2000, 1)
    found = draw(logits, sampling(**options), torch.zeros(2000, dtype=torch.long))
    assert set(found.tolist()) == kept


def test_each_row_has_its_sequence_s_temperature():
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([[0.8, 0.2]])).repeat(40_000, 1)
    of = torch.arange(40_000) % 2
    shares = [(draw(logits, sampling(), of)[of == sequence] == 0).float().mean().item() for sequence in range(2)]
    assert shares == pytest.approx([0.8, 0.64 / 0.68], abs=0.012)  # four standard errors
