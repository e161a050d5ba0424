"""Divergences against scipy and torch, their bounds on truncated lists, and independence of the batch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.metrics import METRICS, all_metrics, divergence_names

SETTINGS = settings(derandomize=True, deadline=None, max_examples=150)
ROUNDING = 1e-5  # masses summed from float32 log-probabilities are good to about 1e-6, times a logarithm


@st.composite
def logit_pairs(draw: st.DrawFn, zeros: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Two (n, V) arrays of logits: independent, close to each other, in reverse order, or with zero probabilities."""
    n, vocab_size = draw(st.integers(1, 4)), draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scale = draw(st.sampled_from([0.0, 0.3, 3.0, 15.0]))
    first = rng.normal(size=(n, vocab_size)) * scale
    kind = draw(st.sampled_from(["independent", "close", "reversed", "shifted"]))
    second = {
        "independent": rng.normal(size=first.shape) * draw(st.sampled_from([0.3, 3.0, 15.0])),
        "close": first + rng.normal(size=first.shape) * 0.05,
        "reversed": -first,
        "shifted": np.roll(first, 1, axis=1),
    }[kind]
    if zeros:
        for logits in (first, second):
            hidden = rng.random(logits.shape) < 0.3
            hidden[:, rng.integers(vocab_size)] = False
            logits[hidden] = -np.inf
    return first, second


def probabilities(full: Distributions) -> np.ndarray:
    """(n, V) float64 in the order of the ids."""
    dense = np.zeros(full.ids.shape)
    np.put_along_axis(dense, full.ids, np.exp(full.logprobs.astype(np.float64)), axis=1)
    return dense


def oracle(base: Distributions, reasoning: Distributions) -> dict[str, np.ndarray]:
    """Every metric from its textbook definition on the dense probabilities, by scipy."""
    b, r = probabilities(base), probabilities(reasoning)
    mean = (b + r) / 2

    def kl_div(p: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.special.rel_entr(p, q).sum(axis=1))

    return {
        "ce": scipy.special.entr(b).sum(axis=1) + kl_div(b, r),
        "kl": kl_div(r, b),
        "reverse_kl": kl_div(b, r),
        "js": (kl_div(b, mean) + kl_div(r, mean)) / 2,
        "tv": np.abs(b - r).sum(axis=1) / 2,
        "entropy_base": scipy.special.entr(b).sum(axis=1),
        "entropy_reasoning": scipy.special.entr(r).sum(axis=1),
    }


@SETTINGS
@given(pair=st.one_of(logit_pairs(), logit_pairs(zeros=True)))
def test_full_lists_are_exact(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, reasoning = (Distributions.from_logits(logits) for logits in pair)
    values, expected = all_metrics(base, reasoning), oracle(base, reasoning)
    assert set(values) == set(METRICS) == set(expected)
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
        assert (METRICS[name](base, reasoning).uncovered == 0.0).all()


def test_entropy_and_kl_agree_with_stats_and_torch() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, 8, 100)) * 2
    base, reasoning = (Distributions.from_logits(one) for one in logits)
    log_b, log_r = (torch.log_softmax(torch.from_numpy(one), dim=1) for one in logits)
    values = all_metrics(base, reasoning)
    reverse = torch.nn.functional.kl_div(log_r, log_b, reduction="none", log_target=True).sum(dim=1)
    cross = torch.nn.functional.cross_entropy(torch.from_numpy(logits[1]), log_b.exp(), reduction="none")
    np.testing.assert_allclose(values["reverse_kl"], reverse.numpy(), rtol=1e-5)
    np.testing.assert_allclose(values["ce"], cross.numpy(), rtol=1e-5)
    np.testing.assert_allclose(values["entropy_base"], scipy.stats.entropy(log_b.exp().numpy(), axis=1), rtol=1e-5)


@SETTINGS
@given(pair=st.one_of(logit_pairs(), logit_pairs(zeros=True)), data=st.data())
def test_truncated_lists_bound_from_below(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    vocab_size = pair[0].shape[1]
    full = [Distributions.from_logits(logits) for logits in pair]
    cut = [Distributions.from_logits(logits, data.draw(st.integers(1, vocab_size))) for logits in pair]
    exact, bound = all_metrics(*full), all_metrics(*cut)
    for name in METRICS:
        assert not np.isnan(bound[name]).any(), name
        assert (bound[name] >= 0.0).all(), name
        assert (bound[name] <= exact[name] + ROUNDING).all(), name
    assert (bound["js"] <= np.log(2)).all()
    assert (bound["tv"] <= 1.0).all()


def test_every_pair_of_list_lengths_is_a_bound_and_converges() -> None:
    """All k_b x k_r on a small vocabulary, ending at the exact value when both are full."""
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(2, 50, 9)) * 3
    exact = all_metrics(*(Distributions.from_logits(one) for one in logits))
    for k_base, k_reasoning in itertools.product(range(1, 10), repeat=2):
        base, reasoning = (
            Distributions.from_logits(logits[0], k_base),
            Distributions.from_logits(logits[1], k_reasoning),
        )
        bound = all_metrics(base, reasoning)
        for name in METRICS:
            assert (bound[name] <= exact[name] + ROUNDING).all(), (name, k_base, k_reasoning)
            if k_base == k_reasoning == 9:
                np.testing.assert_array_equal(bound[name], exact[name])


def test_a_mass_lost_to_rounding_does_not_break_the_bound() -> None:
    """The reasoning model's tail of 4e-9 is 0 in float32; a logarithm of that would exceed the exact divergence."""
    logits = np.log([[0.9, 0.05, 0.05]]), np.array([[0.0, -20.0, -20.0]])
    exact = all_metrics(*(Distributions.from_logits(one) for one in logits))["reverse_kl"][0]
    bound = all_metrics(*(Distributions.from_logits(one, 1) for one in logits))["reverse_kl"][0]
    assert 0.5 * exact < bound < exact < 2.0


def test_longer_lists_come_closer() -> None:
    rng = np.random.default_rng(12)
    logits = rng.normal(size=(2, 40, 400)) * 4
    exact = all_metrics(*(Distributions.from_logits(one) for one in logits))
    gaps: dict[str, list[float]] = {name: [] for name in METRICS}
    for k in (5, 20, 80, 320, 399):
        bound = all_metrics(*(Distributions.from_logits(one, k) for one in logits))
        for name in METRICS:
            gaps[name].append(float((exact[name] - bound[name]).mean()))
    for name, gap in gaps.items():
        assert gap == sorted(gap, reverse=True), (name, gap)
        assert gap[-1] < 5e-3, (name, gap)
        assert gap[0] > 20 * gap[-1] > -1e-6, (name, gap)


def test_disjoint_lists_read_as_disagreement() -> None:
    """Two models, each sure of other tokens: an intersection would be empty and read 0."""
    certain = np.log(np.array([[0.5, 0.499]], np.float32))
    base = Distributions(np.array([[0, 1]], np.int32), certain, 1000)
    reasoning = Distributions(np.array([[2, 3]], np.int32), np.log(np.array([[0.99, 0.001]], np.float32)), 1000)
    values = all_metrics(base, reasoning)
    assert values["ce"][0] == pytest.approx(-0.999 * np.log(0.001), rel=1e-4)
    assert values["tv"][0] > 0.99 - 0.5
    assert values["js"][0] > 0.35
    assert values["reverse_kl"][0] > 5.0


@SETTINGS
@given(pair=st.one_of(logit_pairs(), logit_pairs(zeros=True)), data=st.data())
def test_a_distribution_agrees_with_itself(pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    same = Distributions.from_logits(pair[0], data.draw(st.integers(1, pair[0].shape[1])))
    values = all_metrics(same, same)
    for name in ("kl", "reverse_kl", "js", "tv"):
        np.testing.assert_allclose(values[name], 0.0, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(values["ce"], values["entropy_base"])


@SETTINGS
@given(pair=logit_pairs())
def test_identities_between_metrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    base, reasoning = (Distributions.from_logits(logits) for logits in pair)
    forward, backward = all_metrics(base, reasoning), all_metrics(reasoning, base)
    np.testing.assert_allclose(forward["reverse_kl"], forward["ce"] - forward["entropy_base"], atol=1e-6)
    np.testing.assert_array_equal(forward["kl"], backward["reverse_kl"])
    np.testing.assert_array_equal(forward["tv"], backward["tv"])
    np.testing.assert_allclose(forward["js"], backward["js"], rtol=1e-12, atol=1e-15)
    assert (2 * forward["tv"] ** 2 <= forward["kl"] + 1e-6).all()  # Pinsker's inequality


def test_zero_probability_is_infinite_where_it_counts() -> None:
    half = np.log([[0.5, 0.5]])
    with np.errstate(divide="ignore"):
        certain = np.log([[1.0, 0.0]])
    base, reasoning = Distributions.from_full(half), Distributions.from_full(certain)
    values = all_metrics(base, reasoning)
    assert values["ce"][0] == values["reverse_kl"][0] == np.inf
    assert values["kl"][0] == pytest.approx(np.log(2))
    assert values["tv"][0] == pytest.approx(0.5, rel=1e-6)
    assert values["entropy_reasoning"][0] == 0.0
    assert all_metrics(reasoning, base)["ce"][0] == pytest.approx(np.log(2))


def test_disjoint_full_distributions_reach_the_maxima() -> None:
    with np.errstate(divide="ignore"):
        base, reasoning = Distributions.from_full(np.log([[1.0, 0.0]])), Distributions.from_full(np.log([[0.0, 1.0]]))
    values = all_metrics(base, reasoning)
    assert values["tv"][0] == 1.0
    assert values["js"][0] == np.log(2)
    assert values["kl"][0] == np.inf


def test_uncovered_mass_is_reported() -> None:
    rng = np.random.default_rng(3)
    base = Distributions.from_logits(rng.normal(size=(4, 30)), 5)
    reasoning = Distributions.from_logits(rng.normal(size=(4, 30)), 9)
    b, r = base.tail_mass, reasoning.tail_mass
    expected = {"ce": b, "reverse_kl": b, "kl": r, "js": (b + r) / 2, "tv": np.maximum(b, r)}
    expected |= {"entropy_base": b, "entropy_reasoning": r}
    for name, mass in expected.items():
        np.testing.assert_array_equal(METRICS[name](base, reasoning).uncovered, mass, err_msg=name)
    assert (b > 0.1).all()


@pytest.mark.parametrize("k_base", [1, 2, 7, 8, 9, 20, 129, 256])
@pytest.mark.parametrize("k_reasoning", [1, 20, 256])
@pytest.mark.parametrize("vocab_size", [256, 5000])
def test_rows_do_not_depend_on_their_batch(k_base: int, k_reasoning: int, vocab_size: int) -> None:
    """Bit for bit, in batches of 1, of odd sizes, strided, and in another memory layout."""
    rng = np.random.default_rng(k_base)
    logits = rng.normal(size=(2, 83, vocab_size)) * 3
    base, reasoning = Distributions.from_logits(logits[0], k_base), Distributions.from_logits(logits[1], k_reasoning)
    whole = all_metrics(base, reasoning)
    fortran = Distributions(np.asfortranarray(base.ids), np.asfortranarray(base.logprobs), vocab_size)
    batches = [slice(i, i + 1) for i in range(0, 83, 7)] + [slice(3, 20), slice(80, 83), slice(0, 83, 5), slice(None)]
    for rows in batches:
        for name, value in all_metrics(fortran[rows], reasoning[rows]).items():
            np.testing.assert_array_equal(value, whole[name][rows], err_msg=f"{name} {rows}")
    for name, value in whole.items():
        np.testing.assert_array_equal(METRICS[name](base, reasoning).value, value, err_msg=name)
    np.testing.assert_array_equal(base[5:6].tail_mass, base.tail_mass[5:6])


def test_a_row_among_a_thousand() -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(2, 1000, 64)) * 3
    base, reasoning = (Distributions.from_logits(one, 20) for one in logits)
    whole = all_metrics(base, reasoning)
    for row in range(1000):
        alone = all_metrics(base[row : row + 1], reasoning[row : row + 1])
        assert all(alone[name][0] == whole[name][row] for name in METRICS), row


def test_no_rows() -> None:
    values = all_metrics(Distributions.empty(4, 9), Distributions.empty(3, 9))
    assert all(value.shape == (0,) for value in values.values())


@pytest.mark.parametrize("other", [Distributions.empty(3, 9), Distributions.from_logits(np.zeros((1, 8)), 3)])
def test_unlike_batches_are_refused(other: Distributions) -> None:
    base = Distributions.from_logits(np.zeros((1, 9)), 3)
    for name in divergence_names():
        with pytest.raises(ValueError, match="same rows and vocabulary"):
            METRICS[name](base, other)


def test_entropy_of_one_batch() -> None:
    uniform = Distributions.from_logits(np.zeros((2, 16)))
    np.testing.assert_allclose(entropy(uniform).value, np.log(16), rtol=1e-6)
