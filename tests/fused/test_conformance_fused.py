"""One server for both models equals lockstep on two, greedy in float32, for every gate and with different prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, Decoding, Prefix, SampleJob
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


@dataclass(frozen=True)
class Case:
    """What is decoded in both ways."""

    gate: Gate
    n: int = 8
    different: bool = False
    begun: bool = False
    changes: Mapping[str, int] = field(default_factory=lambda: {"max_new_tokens": 30})

    def jobs(self, pair: Pair) -> list[SampleJob]:
        some = jobs(pair, self.n, different_prompts=self.different)
        return with_beginnings(pair, some) if self.begun else some


CASES = {
    **{name: Case(gate, different=name in ("ce", "entropy")) for name, gate in ALL.items()},
    "long takeovers": Case(GATES["ce"], changes={"max_new_tokens": 30, "takeover_tokens": 3}),
    "short drafts": Case(GATES["ce"], changes={"max_new_tokens": 30, "draft_tokens": 3}),
    **{f"{name}, begun": Case(GATES[name], 6, begun=True) for name in ("reverse kl, lambda", "random", "early")},
}
Traces = list[tuple[TraceBuilder, TraceBuilder]]


async def both_ways(served: ServedPair, fused: BothModels, cases: Sequence[Case]) -> list[Traces]:
    """Traces of one server and of two, of each case. Samples of all cases are decoded at once: servers batch them."""
    async with connect(served.base.url, served.reasoning.url) as two, connect(fused.url, fused.url) as one:
        for pair in (one, two):
            await pair.base.flush()
            await pair.reasoning.flush()

        async def decoded(pair: Pair, loop: Decoding) -> list[list[TraceBuilder]]:
            options = DecodeOptions(WHOLE, 110, Sampling(), two.stop_token_ids)
            decoding = [
                decode(pair, case.jobs(two), case.gate, replace(options, **case.changes), loop=loop,  # type: ignore[arg-type]
                       concurrency=Concurrency(32))
                for case in cases
            ]  # fmt: skip
            return await asyncio.gather(*decoding)

        ways = [await decoded(one, "chunked"), await decoded(two, "lockstep")]
        return [list(zip(*both, strict=True)) for both in zip(*ways, strict=True)]


def differences(pairs: Traces, gate: Gate) -> list[str]:
    return [found for one, two in pairs if (found := differing(one, two, gate)) is not None]


@pytest.fixture(scope="module")
def found(served_pair: ServedPair, fused: BothModels) -> dict[str, Traces]:
    return dict(zip(CASES, asyncio.run(both_ways(served_pair, fused, list(CASES.values()))), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_one_server_equals_lockstep_on_two(found: dict[str, Traces], name: str) -> None:
    """Every gate, takeovers of several tokens, drafts that are short, and a beginning that is given."""
    assert len(found[name]) == CASES[name].n
    assert differences(found[name], CASES[name].gate) == []


def test_the_trace_is_the_one_of_two_servers(found: dict[str, Traces]) -> None:
    for one, two in found["ce"]:
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
@pytest.mark.parametrize(("draft_tokens", "limit"), [(1, 40), (5, 110), (8, 23)])
def test_one_server_equals_lockstep_over_many_sequences(
    served_pair: ServedPair, fused: BothModels, draft_tokens: int, limit: int
) -> None:
    """Every gate x 50 sequences, a limit that cuts some of them, and drafts of one length."""
    changes = {"draft_tokens": draft_tokens, "max_new_tokens": limit}
    cases = [Case(gate, 50, name != "random", changes=changes) for name, gate in ALL.items()]
    found = dict(zip(ALL, asyncio.run(both_ways(served_pair, fused, cases)), strict=True))
    assert sum(map(len, found.values())) == 50 * len(ALL)
    assert {name: some for name, traces in found.items() if (some := differences(traces, ALL[name]))} == {}
