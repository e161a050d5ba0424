"""Samples that a client keeps itself, through an endpoint: the same traces as from the models directly, or a refusal."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rrti_sgl.decoding.driving import truncate
from rrti_sgl.decoding.endpoint import EndpointDecoding
from rrti_sgl.decoding.job import DecodeOptions, GivenContinuation, Prefix, SampleJob
from rrti_sgl.decoding.packed_trace import pack, unpack
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.endpoint import EndpointSide, connect_endpoint
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.engines.wire import UNREADABLE, Sampling
from rrti_sgl.errors import EndpointError, RRTIError, UsageError, command
from rrti_sgl.programs.api.serving import Place, serve
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.gates import (
    AlwaysGate,
    DivergenceGate,
    EarlyGate,
    EntropyGate,
    Gate,
    NeverGate,
    RandomGate,
    ThresholdRule,
    load_gate,
)  # fmt: skip
from rrti_sgl.science.matched import PositionGate
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.sinks.memory import MemorySink
from tests.api.toy import opened
from tests.decoded import decode
from tests.toy_pair import STOP, toy_pair, toy_vocabulary

OPTIONS = DecodeOptions(3, 30, Sampling(), frozenset({STOP}), draft_tokens=4)
GATES = [
    NeverGate(), NeverGate("ce"), AlwaysGate(), DivergenceGate("kl", ThresholdRule(0.5)), EntropyGate(ThresholdRule(1.0)),
    DivergenceGate("ce", ThresholdRule(1.0, lambda_=1.1, window=4, warmup="partial")), RandomGate(0.3), EarlyGate(4.5),
    PositionGate([0, 5], [0.5, 0.1]),
]  # fmt: skip


def job(index: int = 0, **fields: Any) -> SampleJob:
    problem = ProblemRecord("p1", "toy", "w1 w2", None)
    return replace(SampleJob("run", problem, index, 5, "w1 w2", [1, 2], "w3 w1 w2", [3, 1, 2]), **fields)


async def through(
    jobs: list[SampleJob],
    gate: Gate,
    options: DecodeOptions,
    key: str | None = None,
    shown: str | None = None,
    limits: TransportLimits | None = None,
) -> list[TraceBuilder]:
    """By an endpoint over a toy pair of its own, which keeps nothing of it."""
    sink, place = MemorySink(), Place(port=0, endpoint_key=key)
    async with opened(sink=sink, settings={"k": 2}) as endpoint:
        with place.listen() as listening:
            serving = asyncio.create_task(serve(endpoint, place, listening))
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            try:
                async with connect_endpoint(url, api_key=shown, limits=limits) as (base, reasoning):
                    base.check(toy_vocabulary(), "mapped")
                    pair = replace(toy_pair(), base=base, reasoning=reasoning)
                    async with PairSession(pair) as session:
                        found = {one.job.sample_id: one.trace async for one in session.run(jobs, gate, options)}
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
    assert not sink.traces
    return [found[one.sample_id] for one in jobs]


@pytest.mark.parametrize("takeover_tokens", [1, 3])
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: f"{gate.name}-{gate.metric}")
def test_a_trace_is_that_of_the_models_themselves(gate: Gate, takeover_tokens: int) -> None:
    jobs, options = [job(index) for index in range(3)], replace(OPTIONS, takeover_tokens=takeover_tokens)
    own = asyncio.run(decode(toy_pair(), jobs, gate, options))
    for mine, theirs in zip(own, asyncio.run(through(jobs, gate, options)), strict=True):
        assert len(mine) > 1
        for name in ("token_ids", "sources", "base_token_ids", "reasoning_token_ids", "seen", "finish_reason", "k"):
            assert getattr(theirs, name) == getattr(mine, name), name
        for name in ("drafted", "discarded", "scored"):
            assert getattr(theirs, name) == getattr(mine, name), name
        np.testing.assert_equal([repr(each) for each in theirs.decisions], [repr(each) for each in mine.decisions])
        np.testing.assert_array_equal(theirs.base_logprobs, mine.base_logprobs)
        np.testing.assert_array_equal(theirs.reasoning_logprobs, mine.reasoning_logprobs)
        n = len(mine)
        for side in ("base", "reasoning"):
            for a, b in zip(getattr(theirs, side).padded(n, 3), getattr(mine, side).padded(n, 3), strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(getattr(theirs, side).tail_mass(n), getattr(mine, side).tail_mass(n))
            assert getattr(theirs, f"{side}_calls").calls == getattr(mine, f"{side}_calls").calls
        for name, values in mine.metrics().items():
            np.testing.assert_array_equal(theirs.metrics()[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("fields", "options", "gate", "named"),
    [
        ({"given": GivenContinuation((1, 2), "stop")}, {}, NeverGate(), "given texts"),
        ({"prefix": Prefix((1,), "w1", (), "parent", "taken")}, {}, NeverGate(), "given beginning"),
        ({}, {"loop": "lockstep"}, NeverGate(), "Lockstep"),
        ({}, {"exact": True}, NeverGate(), "score_kind"),
        ({}, {}, load_gate("rrti_sgl.science.gates:RandomGate", {"rho": 0.5}), "gate of your own"),
    ],
)
def test_what_does_not_go_through_is_refused_by_name(
    fields: dict[str, Any], options: dict[str, Any], gate: Gate, named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        asyncio.run(through([job(**fields)], gate, replace(OPTIONS, **options)))


def test_what_asks_one_model_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="is an endpoint"):
        asyncio.run(EndpointSide(None, toy_pair().base.info, {}).generate([]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("differs", "named"), [({"tokenizer_hash": "other"}, "tokenizer"), ({"special_tokens": "as-is"}, "special tokens")]
)
def test_a_pair_of_other_tokens_is_refused(differs: dict[str, Any], named: str) -> None:
    vocabulary = toy_vocabulary()
    of = {"tokenizer_hash": vocabulary.digest, "vocab_size": vocabulary.size, "special_tokens": "mapped"}
    EndpointSide(None, toy_pair().base.info, of).check(vocabulary, "mapped")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=named):
        EndpointSide(None, toy_pair().base.info, of | differs).check(vocabulary, "mapped")  # type: ignore[arg-type]


def test_an_endpoint_asks_for_its_key() -> None:
    key = "sixteen-letters-or-more"
    [trace] = asyncio.run(through([job()], NeverGate(), OPTIONS, key, key))
    assert len(trace) > 1
    with pytest.raises(EndpointError, match="refuses access"):
        asyncio.run(through([job()], NeverGate(), OPTIONS, key, "another-key-of-letters"))


def test_a_sample_has_more_time_than_the_calls_of_servers_have() -> None:
    limits = TransportLimits(timeout_s=1e-6, retries=0)
    [trace] = asyncio.run(through([job()], NeverGate(), OPTIONS, limits=limits))
    assert len(trace) > 1


def test_a_prompt_that_does_not_fit_is_told() -> None:
    with pytest.raises(RRTIError, match="context_length_exceeded"):
        asyncio.run(through([job(base_prompt_ids=[1] * 10_000)], NeverGate(), OPTIONS))


@pytest.mark.parametrize(
    "changed",
    [
        {"tokens": "no base64"}, {"tokens": "AAAA"}, {"finish_reason": "bored"}, {"counts": [1, 2]}, {"calls": [{}]},
        {"base": {"positions": "AAAAAA==", "ids": "", "logprobs": ""}}, {"measured": "AAAAAAAAAAA="}, {"base": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_trace_that_cannot_be_read_is_none(changed: dict[str, Any]) -> None:
    [trace] = asyncio.run(decode(toy_pair(), [job()], NeverGate("ce"), OPTIONS))
    packed = pack(trace)
    unpack(packed, TraceBuilder(3, NeverGate("ce")), 7)
    with pytest.raises(UNREADABLE):
        unpack(packed | changed, TraceBuilder(3, NeverGate("ce")), 7)
    with pytest.raises(ValueError, match="0 to 2"):
        unpack(packed, TraceBuilder(3, NeverGate("ce")), 3)


def test_a_trace_that_a_stop_string_cut_is_packed_as_one() -> None:
    [trace] = asyncio.run(decode(toy_pair(), [job()], NeverGate("ce"), OPTIONS))
    trace.measured = np.zeros((len(trace), len(METRICS)))  # as a server with both models tells it
    truncate(trace, 2)
    again = TraceBuilder(3, NeverGate("ce"))
    unpack(pack(trace), again, 7)
    assert len(again) == 2
    assert again.metrics()["ce"].tolist() == trace.metrics()["ce"].tolist()


class Garbled(EndpointSide):
    """Gives what is no trace."""

    async def sample(self, request: Any, most: int, new_tokens: int) -> Any:
        return {"tokens": ""}


def test_an_answer_that_cannot_be_read_names_the_endpoint() -> None:
    side = Garbled(None, toy_pair().base.info, {})  # type: ignore[arg-type]

    async def go() -> None:
        async for _ in EndpointDecoding(side, 7).decode(job(), NeverGate(), OPTIONS, streamed=False):
            pass

    with pytest.raises(EndpointError, match=f"toy cannot be read.*{command('api')}"):
        asyncio.run(go())
