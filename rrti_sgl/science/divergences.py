"""Disagreement between two next-token distributions, and their entropies, on full and on truncated lists.

Definitions (p_b base, p_r reasoning, in nats; the names are those of Shen et al., arXiv 2605.16874)::

    ce                = CE(p_b, p_r) = -sum p_b log p_r          the paper's disagreement score
    reverse_kl        = KL(p_b || p_r) = ce - entropy_base
    kl                = KL(p_r || p_b)                           forward
    js                = (KL(p_b || m) + KL(p_r || m)) / 2, m = (p_b + p_r) / 2;  at most ln 2
    tv                = sum |p_b - p_r| / 2;                     in [0, 1]
    entropy_base, entropy_reasoning

On two full distributions all of them are exact; probability 0 against a positive one gives +inf, never NaN. On top-k
lists every value is a LOWER BOUND of the exact one and comes with the mass it could not see (`uncovered`). A token that
the other list does not hold has at most that list's k-th probability; it is never left out, for then lists without a
common token would read as agreement.

Where a server with our plugin reported exact numbers (`Distributions.exact`), those are used: entropies are exact, ce is
exact on the base's list and bounded on its tail mass alone, and the other bounds are tighter. The tail's part of ce is at
least `(H_b - H_b on the list) + m log(m / M)`, m and M the two models' exact masses outside the list (log-sum inequality).

A row's result is bit for bit the same in every batch, so that a score computed again equals the one a gate decided on.
Which of them are metrics of the store, and how they are called there, `rrti_sgl.science.metrics` declares.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np

from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.science.distributions import Distributions, row_sum

_LN2: Final = float(np.log(2.0))
_MASS_ERROR: Final = 1e-6  # a mass summed from float32 log-probabilities is known no better than this


@dataclass(frozen=True, slots=True, eq=False)
class Divergence:
    """`value` (n,) and the probability mass that it does not see, `uncovered` (n,); exact where that is 0 by k = V."""

    value: FloatArray
    uncovered: FloatArray


class Models:
    """What both models say at the same n positions. Their lists are aligned once, when a divergence first asks for it.

    Raises:
        ValueError: a model is asked about that is None here, or the two have different rows or vocabularies.
    """

    def __init__(self, base: Distributions | None, reasoning: Distributions | None) -> None:
        self._base, self._reasoning = base, reasoning

    @property
    def base(self) -> Distributions:
        """The base model's distributions."""
        return _asked(self._base, "base")

    @property
    def reasoning(self) -> Distributions:
        """The reasoning model's distributions."""
        return _asked(self._reasoning, "reasoning")

    @functools.cached_property
    def base_tail(self) -> FloatArray:
        """(n,) the base model's probability outside its list."""
        return self.base.tail_mass

    @functools.cached_property
    def reasoning_tail(self) -> FloatArray:
        """(n,) the reasoning model's probability outside its list."""
        return self.reasoning.tail_mass

    @functools.cached_property
    def sides(self) -> tuple[_Side, _Side]:
        """Each model's list beside what the other one says of its tokens: base, reasoning."""
        return _align(self)


def _asked(distributions: Distributions | None, model: str) -> Distributions:
    if distributions is None:
        raise ValueError(f"the metric needs the {model} model's distributions")
    return distributions


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One model's list with what is known of the other model at the same tokens.

    p, logp: (n, k). other: (n, k) log-probability under the other model, or, where its list does not hold the token
    (`known` False), its upper bound: the k-th of that list. tail: (n,) mass outside this list; `full`: none by k = V.
    """

    p: FloatArray
    logp: FloatArray
    other: FloatArray
    known: BoolArray
    tail: FloatArray
    full: bool
    entropy: FloatArray | None = None  # (n,) exact, NaN where not reported


def _align(models: Models) -> tuple[_Side, _Side]:
    """Looks every token of either list up in the other one."""
    base, reasoning = models.base, models.reasoning
    if len(base) != len(reasoning) or base.vocab_size != reasoning.vocab_size:
        raise ValueError(
            f"base and reasoning must have the same rows and vocabulary, not {len(base)} rows of {base.vocab_size} "
            f"and {len(reasoning)} rows of {reasoning.vocab_size}"
        )
    log_b = base.logprobs.astype(np.float64, order="C")
    log_r = reasoning.logprobs.astype(np.float64, order="C")
    columns = reasoning.columns_of(base.ids)
    known_b = columns >= 0
    r_at_b = np.where(known_b, np.take_along_axis(log_r, np.maximum(columns, 0), axis=1), log_r[:, -1:])
    named_b = known_b
    if reasoning.exact is not None and not reasoning.is_full:
        named = reasoning.exact.at(base.ids)
        named_b = known_b | ~np.isnan(named)
        r_at_b = np.where(named_b & ~known_b, named, r_at_b)
    entropy_b = None if base.exact is None else base.exact.entropy
    b_at_r = np.repeat(log_b[:, -1:], reasoning.k, axis=1)
    known_r = np.zeros(log_r.shape, dtype=np.bool_)
    rows, base_columns = np.nonzero(known_b)
    reasoning_columns = columns[rows, base_columns]
    b_at_r[rows, reasoning_columns] = log_b[rows, base_columns]
    known_r[rows, reasoning_columns] = True
    return (
        _Side(np.exp(log_b), log_b, r_at_b, named_b, models.base_tail, base.is_full, entropy_b),
        _Side(np.exp(log_r), log_r, b_at_r, known_r, models.reasoning_tail, reasoning.is_full),
    )


def _cross(p: FloatArray, log_q: FloatArray) -> FloatArray:
    """-sum p log q over the given tokens, (n, k) -> (n,), with 0 log 0 = 0."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0.0, p * log_q, 0.0)
    return np.maximum(0.0, -row_sum(terms))


def _relative_bound(side: _Side, opposite: _Side) -> FloatArray:
    """KL(side || opposite): the sum over the side's list, and for the rest the log-sum inequality.

    The rest contributes at least m log(m / M), m the side's mass outside its list and M an upper bound of the other
    model's mass there. Both are known up to rounding only, so the smallest value in that interval is taken.
    """
    head = _cross(side.p, side.other) - _cross(side.p, side.logp)
    if side.full:
        return head
    outside = row_sum(np.where(opposite.known, 0.0, opposite.p)) + opposite.tail + _MASS_ERROR
    rest = np.maximum(0.0, 1.0 - row_sum(np.exp(side.other))) + _MASS_ERROR
    outside = np.where(side.known.all(axis=1), np.minimum(outside, rest), outside)
    mass = np.clip(outside / np.e, np.maximum(0.0, side.tail - _MASS_ERROR), side.tail + _MASS_ERROR)
    bound: FloatArray = head + mass * np.log(mass / outside)
    return bound


def _jensen_shannon_terms(side: _Side) -> FloatArray:
    """(n, k) terms p/2 log(2p/(p+q)) + q/2 log(2q/(p+q)); an unknown q takes the feasible value nearest to p."""
    log_q = np.where(side.known, side.other, np.minimum(side.logp, side.other))
    p, q = side.p, np.exp(log_q)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mean = np.log((p + q) / 2.0)
        from_p = np.where(p > 0.0, p * (side.logp - log_mean), 0.0)
        from_q = np.where(q > 0.0, q * (log_q - log_mean), 0.0)
    terms: FloatArray = (from_p + from_q) / 2.0
    return terms


def cross_entropy(models: Models) -> FloatArray:
    """CE(p_b, p_r): the sum over the base's list, or, where its exact entropy H is known, H + KL if that is more."""
    base, reasoning = models.sides
    head = _cross(base.p, base.other)
    if base.entropy is None or base.full:
        return head
    whole = base.entropy + _relative_bound(base, reasoning)
    return np.where(np.isnan(whole), head, np.maximum(head, whole))


def reverse_kl(models: Models) -> FloatArray:
    """KL(p_b || p_r) = CE - H_b, the paper's reverse KL."""
    base, reasoning = models.sides
    return np.maximum(0.0, _relative_bound(base, reasoning))


def forward_kl(models: Models) -> FloatArray:
    """KL(p_r || p_b)."""
    base, reasoning = models.sides
    return np.maximum(0.0, _relative_bound(reasoning, base))


def jensen_shannon(models: Models) -> FloatArray:
    """The sum over the union of both lists; every term is at least 0, so leaving the rest out keeps a lower bound."""
    base, reasoning = models.sides
    only_reasoning = np.where(reasoning.known, 0.0, _jensen_shannon_terms(reasoning))
    return np.clip(row_sum(_jensen_shannon_terms(base)) + row_sum(only_reasoning), 0.0, _LN2)


def total_variation(models: Models) -> FloatArray:
    """In [0, 1]: the larger of the two one-sided sums; on full lists they are equal."""
    excess = [row_sum(np.maximum(0.0, side.p - np.exp(side.other))) for side in models.sides]
    return np.minimum(1.0, np.maximum(*excess))


def entropy(distributions: Distributions) -> Divergence:
    """Shannon entropy, summed over the list, unless the server reported it. Uncovered: the tail mass, or 0 if reported."""
    logp = distributions.logprobs.astype(np.float64, order="C")
    value, uncovered = _cross(np.exp(logp), logp), distributions.tail_mass
    if distributions.exact is None or distributions.is_full:
        return Divergence(value, uncovered)
    reported = ~np.isnan(distributions.exact.entropy)
    return Divergence(np.where(reported, distributions.exact.entropy, value), np.where(reported, 0.0, uncovered))
