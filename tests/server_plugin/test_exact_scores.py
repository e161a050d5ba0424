"""What the arithmetic makes of exact numbers, and that decoding asks for them at the right positions."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from rrti_sgl.decoding.job import Decoding
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.exact_numbers import Exact
from rrti_sgl.science.gates import DivergenceGate, EntropyGate, Gate, RandomGate, ThresholdRule
from rrti_sgl.science.metrics import METRICS, all_metrics
from tests.decoded import decode
from tests.decoding.test_conformance import assert_same, make_job, options
from tests.toy_pair import toy_pair

V, K, N = 50, 8, 12


def pair_of(k: int) -> tuple[Distributions, Distributions]:
    rng = np.random.default_rng(3)
    base, reasoning = (Distributions.from_logits(rng.normal(size=(N, V)) * 3, k) for _ in range(2))
    return base, reasoning


def with_exact(base: Distributions, reasoning: Distributions) -> tuple[Distributions, Distributions]:
    full_b, full_r = pair_of(V)
    nothing = np.zeros(N)
    named = Exact(entropy(full_r).value, nothing, base.ids, full_r.aligned_logprobs(base.ids)[0])
    return (
        replace(base, exact=replace(Exact.unknown(N), entropy=entropy(full_b).value)),
        replace(reasoning, exact=named),
    )


def test_ce_is_exact_on_the_bases_list_and_bounded_outside() -> None:
    (full_b, full_r), lists = pair_of(V), pair_of(K)
    base, reasoning = with_exact(*lists)
    p = np.exp(base.logprobs.astype(np.float64))
    head = -(p * full_r.aligned_logprobs(base.ids)[0]).sum(axis=1)
    without_entropy = replace(base, exact=None)
    np.testing.assert_allclose(METRICS["ce"](without_entropy, reasoning).value, head, rtol=1e-6)
    assert (METRICS["ce"](*lists).value < head - 0.1).any()  # where lists differ the bound alone is low
    found, exact = METRICS["ce"](base, reasoning), METRICS["ce"](full_b, full_r).value
    np.testing.assert_array_equal(found.uncovered, base.tail_mass)
    assert (head - 1e-6 <= found.value).all()
    assert (found.value <= exact + 1e-5).all()
    assert (exact - found.value).mean() < 0.6 * (exact - head).mean()  # the tail's entropy and mass say much of it


def test_every_bound_stays_a_bound_and_gets_no_looser() -> None:
    full, lists = pair_of(V), pair_of(K)
    named = with_exact(*lists)
    for name, metric in METRICS.items():
        true, loose, tight = (metric(*which).value for which in (full, lists, named))
        assert (tight <= true + 1e-5).all(), name
        assert (tight >= loose - 1e-9).all(), name
    np.testing.assert_allclose(entropy(named[0]).value, entropy(full[0]).value)
    assert not entropy(named[0]).uncovered.any()


def test_single_metrics_and_all_of_them_agree_bit_for_bit() -> None:
    named = with_exact(*pair_of(K))
    together = all_metrics(*named)
    for name, metric in METRICS.items():
        np.testing.assert_array_equal(together[name], metric(*named).value)


def test_rows_without_exact_numbers_fall_back_to_their_lists() -> None:
    lists = pair_of(K)
    base, reasoning = with_exact(*lists)
    mixed_b, mixed_r = (
        Distributions.concatenate([named[:5], plain[5:]]) for named, plain in ((base, lists[0]), (reasoning, lists[1]))
    )
    np.testing.assert_array_equal(METRICS["ce"](mixed_b, mixed_r).value[:5], METRICS["ce"](base, reasoning).value[:5])
    np.testing.assert_array_equal(METRICS["ce"](mixed_b, mixed_r).value[5:], METRICS["ce"](*lists).value[5:])
    np.testing.assert_array_equal(entropy(mixed_r).value[5:], entropy(lists[1]).value[5:])


def test_names_of_another_row_are_not_used() -> None:
    lists = pair_of(K)
    _, reasoning = with_exact(*lists)
    base = lists[0]
    shifted = Distributions(base.ids[::-1], base.logprobs[::-1], V)
    found, plain = METRICS["ce"](shifted, reasoning).value, METRICS["ce"](shifted, lists[1]).value
    untouched = ~(shifted.ids == base.ids).any(axis=1)
    assert untouched.any()
    np.testing.assert_array_equal(found[untouched], plain[untouched])


GATES: dict[str, Gate] = {
    "ce": DivergenceGate("ce", ThresholdRule(tau=2.0)),
    "entropy": EntropyGate(ThresholdRule(tau=1.0)),
    "random": RandomGate(0.5),
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize(
    "changes", [{}, {"takeover_tokens": 3}, {"sampling": Sampling(1.0)}], ids=["greedy", "relay", "drawn"]
)
def test_both_loops_store_exact_scores(name: str, changes: dict[str, object]) -> None:
    chosen = options(k=3, exact=True, **changes)

    def run(decoding: Decoding) -> TraceBuilder:
        async def go() -> TraceBuilder:
            pair, jobs = toy_pair(7), [make_job(5)]
            [trace] = await decode(pair, jobs, GATES[name], chosen, loop=decoding, concurrency=Concurrency(1, 1))
            return trace

        return asyncio.run(go())

    chunked, lockstep = run("chunked"), run("lockstep")
    if chosen.sampling.greedy:
        assert_same(chunked, lockstep)
    for trace in (chunked, lockstep):
        base, reasoning = trace.base.gathered(), trace.reasoning.gathered()
        assert base is not None
        assert reasoning is not None
        assert base.exact is not None
        assert reasoning.exact is not None
        assert not np.isnan(base.exact.entropy).any()
        assert not np.isnan(reasoning.exact.entropy).any()
        both, of_base, of_reasoning = np.intersect1d(trace.base.positions, trace.reasoning.positions, return_indices=True)
        assert len(both)
        named = reasoning.exact[of_reasoning].at(base.ids[of_base])
        assert not np.isnan(named).any()
