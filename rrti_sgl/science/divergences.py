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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def _align(base: Distributions, reasoning: Distributions) -> tuple[_Side, _Side]:
    """Looks every token of either list up in the other one, once."""
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
        _Side(np.exp(log_b), log_b, r_at_b, named_b, base.tail_mass, base.is_full, entropy_b),
        _Side(np.exp(log_r), log_r, b_at_r, known_r, reasoning.tail_mass, reasoning.is_full),
    )


def _cross(p: FloatArray, log_q: FloatArray) -> FloatArray:
    """-sum p log q over the given tokens, (n, k) -> (n,), with 0 log 0 = 0."""
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0.0, p * log_q, 0.0)
    return np.maximum(0.0, -row_sum(terms))


def _relative(side: _Side, opposite: _Side) -> FloatArray:
    """KL(side || opposite): the sum over the side's list, and for the rest the log-sum inequality.

    The rest contributes at least m log(m / M), m the side's mass outside its list and M an upper bound of the other
    model's mass there. Both are known up to rounding only, so the smallest value in that interval is taken.
    """
    return np.maximum(0.0, _relative_bound(side, opposite))


def _relative_bound(side: _Side, opposite: _Side) -> FloatArray:
    head = _cross(side.p, side.other) - _cross(side.p, side.logp)
    if side.full:
        return head
    outside = row_sum(np.where(opposite.known, 0.0, opposite.p)) + opposite.tail + _MASS_ERROR
    rest = np.maximum(0.0, 1.0 - row_sum(np.exp(side.other))) + _MASS_ERROR
    outside = np.where(side.known.all(axis=1), np.minimum(outside, rest), outside)
    mass = np.clip(outside / np.e, np.maximum(0.0, side.tail - _MASS_ERROR), side.tail + _MASS_ERROR)
    bound: FloatArray = head + mass * np.log(mass / outside)
    return bound


def _cross_entropy(side: _Side, opposite: _Side) -> FloatArray:
    """CE(side, opposite): the sum over the side's list, or, where its exact entropy H is known, H + KL if that is more."""
    head = _cross(side.p, side.other)
    if side.entropy is None or side.full:
        return head
    whole = side.entropy + _relative_bound(side, opposite)
    return np.where(np.isnan(whole), head, np.maximum(head, whole))


def _total_variation(base: _Side, reasoning: _Side) -> FloatArray:
    """The larger of the two one-sided sums; on full lists they are equal."""
    excess = [row_sum(np.maximum(0.0, side.p - np.exp(side.other))) for side in (base, reasoning)]
    return np.minimum(1.0, np.maximum(*excess))


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


def _jensen_shannon(base: _Side, reasoning: _Side) -> FloatArray:
    """The sum over the union of both lists; every term is at least 0, so leaving the rest out keeps a lower bound."""
    only_reasoning = np.where(reasoning.known, 0.0, _jensen_shannon_terms(reasoning))
    return np.clip(row_sum(_jensen_shannon_terms(base)) + row_sum(only_reasoning), 0.0, _LN2)


def ce(base: Distributions, reasoning: Distributions) -> Divergence:
    """Cross-entropy CE(p_b, p_r), summed over the base's list. Uncovered: the base's tail mass."""
    b, r = _align(base, reasoning)
    return Divergence(_cross_entropy(b, r), b.tail)


def reverse_kl(base: Distributions, reasoning: Distributions) -> Divergence:
    """KL(p_b || p_r) = CE - H_b, the paper's reverse KL. Uncovered: the base's tail mass."""
    b, r = _align(base, reasoning)
    return Divergence(_relative(b, r), b.tail)


def kl(base: Distributions, reasoning: Distributions) -> Divergence:
    """Forward KL(p_r || p_b). Uncovered: the reasoning model's tail mass."""
    b, r = _align(base, reasoning)
    return Divergence(_relative(r, b), r.tail)


def js(base: Distributions, reasoning: Distributions) -> Divergence:
    """Jensen-Shannon divergence, in [0, ln 2]. Uncovered: the mean of both tail masses."""
    b, r = _align(base, reasoning)
    return Divergence(_jensen_shannon(b, r), (b.tail + r.tail) / 2.0)


def tv(base: Distributions, reasoning: Distributions) -> Divergence:
    """Total variation, in [0, 1]. Uncovered: the larger tail mass."""
    b, r = _align(base, reasoning)
    return Divergence(_total_variation(b, r), np.maximum(b.tail, r.tail))


def entropy(distributions: Distributions) -> Divergence:
    """Shannon entropy, summed over the list, unless the server reported it. Uncovered: the tail mass, or 0 if reported."""
    logp = distributions.logprobs.astype(np.float64, order="C")
    value, uncovered = _cross(np.exp(logp), logp), distributions.tail_mass
    if distributions.exact is None or distributions.is_full:
        return Divergence(value, uncovered)
    reported = ~np.isnan(distributions.exact.entropy)
    return Divergence(np.where(reported, distributions.exact.entropy, value), np.where(reported, 0.0, uncovered))


def _entropy_base(base: Distributions, reasoning: Distributions) -> Divergence:
    return entropy(base)


def _entropy_reasoning(base: Distributions, reasoning: Distributions) -> Divergence:
    return entropy(reasoning)


Metric = Callable[[Distributions, Distributions], Divergence]

METRICS: Final[Mapping[str, Metric]] = {
    "ce": ce,
    "kl": kl,
    "reverse_kl": reverse_kl,
    "js": js,
    "tv": tv,
    "entropy_base": _entropy_base,
    "entropy_reasoning": _entropy_reasoning,
}
"""Every metric by its name, which is also its column in the table of tokens."""

DIVERGENCE_METRICS: Final = ("ce", "kl", "reverse_kl", "js", "tv")
"""The metrics that compare the two models."""


def all_metrics(base: Distributions, reasoning: Distributions) -> dict[str, FloatArray]:
    """Every metric of `METRICS` from one alignment: name -> (n,) values, bit for bit those of the single functions."""
    b, r = _align(base, reasoning)
    return {
        "ce": _cross_entropy(b, r),
        "kl": _relative(r, b),
        "reverse_kl": _relative(b, r),
        "js": _jensen_shannon(b, r),
        "tv": _total_variation(b, r),
        "entropy_base": entropy(base).value,
        "entropy_reasoning": entropy(reasoning).value,
    }
