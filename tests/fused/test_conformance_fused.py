"""One server for both models equals lockstep on two, greedy in float32, for every gate and with different prompts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, Prefix, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.science.gates import AlwaysGate, Gate, NeverGate
from rrti_sgl.science.matched import PositionGate
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import ServedPair
from tests.decoded import decode
from tests.decoding.test_conformance_real import GATES, differing, jobs

pytestmark = pytest.mark.server

ALL: dict[str, Gate] = {
    **GATES,
    "position": PositionGate([0, 8], [0.4, 0.05]),
    "never": NeverGate("ce"),
    "always": AlwaysGate(),
}
WHOLE = 56  # the whole vocabulary, so that two servers score as one does


def with_beginnings(pair: Pair, some: list[SampleJob]) -> list[SampleJob]:
    ids = tuple(pair.vocabulary.encode("ann has"))
    return [replace(job, prefix=Prefix(ids, "ann has", (0.1,) * len(ids), "parent", "taken")) for job in some]


async def both_ways(
    served: ServedPair,
    fused: BothModels,
    gate: Gate,
    n: int,
    *,
    different: bool = False,
    begun: bool = False,
    **changes: int,
) -> list[tuple[TraceBuilder, TraceBuilder]]:
    async with connect(served.base.url, served.reasoning.url) as two, connect(fused.url, fused.url) as one:
        options = replace(DecodeOptions(WHOLE, 110, Sampling(), two.stop_token_ids), **changes)  # type: ignore[arg-type]
        some = jobs(two, n, different_prompts=different)
        some = with_beginnings(two, some) if begun else some
        for pair in (one, two):
            await pair.base.flush()
            await pair.reasoning.flush()
        fast = await decode(one, some, gate, options, concurrency=Concurrency(32))
        return list(
            zip(fast, await decode(two, some, gate, options, loop="lockstep", concurrency=Concurrency(32)), strict=True)
        )


def differences(pairs: list[tuple[TraceBuilder, TraceBuilder]], gate: Gate) -> list[str]:
    return [found for one, two in pairs if (found := differing(one, two, gate)) is not None]


@pytest.mark.parametrize("name", ALL)
def test_one_server_equals_lockstep_on_two(served_pair: ServedPair, fused: BothModels, name: str) -> None:
    found = asyncio.run(both_ways(served_pair, fused, ALL[name], 8, max_new_tokens=30, different=name in ("ce", "entropy")))
    assert differences(found, ALL[name]) == []


@pytest.mark.parametrize("changes", [{"takeover_tokens": 3}, {"draft_tokens": 3}], ids=str)
def test_long_takeovers_and_short_drafts(served_pair: ServedPair, fused: BothModels, changes: dict[str, int]) -> None:
    found = asyncio.run(both_ways(served_pair, fused, GATES["ce"], 8, max_new_tokens=30, **changes))
    assert differences(found, GATES["ce"]) == []


@pytest.mark.parametrize("name", ["reverse kl, lambda", "random", "early"])
def test_a_given_beginning_counts(served_pair: ServedPair, fused: BothModels, name: str) -> None:
    found = asyncio.run(both_ways(served_pair, fused, GATES[name], 6, max_new_tokens=30, begun=True))
    assert differences(found, GATES[name]) == []


def test_the_trace_is_the_one_of_two_servers(served_pair: ServedPair, fused: BothModels) -> None:
    gate = GATES["ce"]
    for one, two in asyncio.run(both_ways(served_pair, fused, gate, 6, max_new_tokens=30, different=True)):
        for column in ("base_token_ids", "reasoning_token_ids", "sources", "finish_reason"):
            assert getattr(one, column) == getattr(two, column), column
        measured, computed = one.metrics(), two.metrics()
        for name, values in computed.items():
            np.testing.assert_allclose(measured[name], values, atol=2e-3, err_msg=name)
        assert one.base.gathered().ids.shape == two.base.gathered().ids.shape
        # a takeover of several tokens apart, the base model's log-probability is known everywhere without another call
        assert not np.isnan(one.base_logprobs).any()
        assert one.drafted == one.scored == len(one) + one.discarded
        assert one.base_calls.prompt_tokens > 0
        assert one.base_calls.first != one.reasoning_calls.first, "the two prompts differ"


def test_the_second_sample_of_a_problem_finds_both_prompts_cached(fused: BothModels) -> None:
    async def run() -> list[TraceBuilder]:
        async with connect(fused.url, fused.url) as pair:
            await pair.base.flush()
            options = DecodeOptions(8, 20, Sampling(), pair.stop_token_ids)
            job = jobs(pair, 1, different_prompts=True)
            return [(await decode(pair, job, GATES["ce"], options))[0] for _ in range(2)]

    first, second = asyncio.run(run())
    assert first.base_calls.cached_tokens == first.reasoning_calls.cached_tokens == 0
    # all but the last token, which has to be read for its distribution
    assert second.base_calls.cached_tokens == second.base_calls.prompt_tokens - 1
    assert second.reasoning_calls.cached_tokens == second.reasoning_calls.prompt_tokens - 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ALL)
def test_one_server_equals_lockstep_over_many_sequences(served_pair: ServedPair, fused: BothModels, name: str) -> None:
    """Every gate x 150 sequences, with limits that cut some of them and drafts of several lengths."""
    found = []
    for draft_tokens, limit in ((1, 40), (5, 110), (8, 23)):
        pairs = asyncio.run(
            both_ways(
                served_pair,
                fused,
                ALL[name],
                50,
                different=name != "random",
                draft_tokens=draft_tokens,
                max_new_tokens=limit,
            )
        )
        found += differences(pairs, ALL[name])
    assert found == []
