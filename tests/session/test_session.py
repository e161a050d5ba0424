"""One session behind every way of decoding: engines of one's own, events, shared beginnings, what only trying can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from rrti_sgl.decoding.alone import ReasoningSample
from rrti_sgl.decoding.chunked import ChunkedSample
from rrti_sgl.decoding.events import Event, Finished, Takeover, TextSettled, TokensAccepted
from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.batching import Batcher
from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.wire import GenerateRequest, Generation, Sampling
from rrti_sgl.errors import EndpointError
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import AlwaysGate, DivergenceGate, Gate, NeverGate, ThresholdRule
from rrti_sgl.tokens.generated_text import GeneratedText
from tests.decoded import decode
from tests.decoding.test_conformance import GATES, assert_same, make_job, options
from tests.toy_pair import STOP, VOCAB_SIZE, toy_pair, toy_vocabulary

GUIDED = DivergenceGate("ce", ThresholdRule(tau=3.0))


class OwnEngine:
    """A model in forty lines: the next token's logits are a function of the length and of the last token, no server."""

    def __init__(self, slope: float) -> None:
        self.slope, self.info = slope, EngineInfo("own", f"own-{slope}", "none", "1", VOCAB_SIZE, 999, 8)

    def rows(self, ids: Sequence[int], k: int) -> Distributions:
        logits = np.cos(self.slope * (np.arange(VOCAB_SIZE) + 1) * (ids[-1] + 1) + len(ids)) * 3 + np.eye(VOCAB_SIZE)[STOP]
        return Distributions.from_logits(logits[None].astype(np.float32), k)

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        return [self.answer(request) for request in requests]

    def answer(self, request: GenerateRequest) -> Generation:
        ids, start, k = list(request.input_ids), len(request.input_ids), request.k
        while len(ids) < start + request.max_new_tokens and (len(ids) == start or ids[-1] not in request.stop_token_ids):
            ids.append(int(self.rows(ids, 1).ids[0, 0]))
        drawn, scored = range(start, len(ids)), range(request.score_from or start, start)
        named = [[self.logprob(ids[:at], i) for i in request.logprob_ids] for at in drawn]
        return Generation(
            np.asarray(ids[start:], dtype=np.int32),
            np.asarray([self.logprob(ids[:at], ids[at]) for at in drawn]),
            self.stacked(ids, drawn, k),
            np.asarray([self.logprob(ids[:at], ids[at]) for at in scored]),
            self.stacked(ids, scored, k),
            np.asarray(named).reshape(len(named), len(request.logprob_ids)),
            ids[-1] in request.stop_token_ids,
            start,
            0,
        )

    def logprob(self, ids: Sequence[int], token: int) -> float:
        return float(self.rows(ids, VOCAB_SIZE).logprob_of(np.asarray([token]))[0])

    def stacked(self, ids: Sequence[int], places: range, k: int) -> Distributions:
        rows = [self.rows(ids[:at], k) for at in places]
        return Distributions.concatenate(rows) if rows else Distributions.empty(k, VOCAB_SIZE)

    async def flush(self) -> None:
        """There is no cache."""

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("name", GATES)
def test_an_engine_of_ones_own_decodes_alike_in_both_loops(name: str) -> None:
    pair = Pair(OwnEngine(0.7), OwnEngine(1.9), toy_vocabulary(), toy_vocabulary())
    jobs = [make_job(seed) for seed in range(12)]
    chosen = options(k=3, max_new_tokens=20)
    chunked = asyncio.run(decode(pair, jobs, GATES[name], chosen))
    lockstep = asyncio.run(decode(pair, jobs, GATES[name], chosen, loop="lockstep"))
    for one, other in zip(chunked, lockstep, strict=True):
        assert_same(one, other)
    assert {len(trace) for trace in chunked} != {20}
    if name == "ce, often":
        assert any("reasoning" in trace.sources for trace in chunked)


def streamed(job: SampleJob, gate: Gate, chosen: DecodeOptions, text: GeneratedText | None = None) -> list[Event]:
    async def go() -> list[Event]:
        async with PairSession(toy_pair()) as session:
            return [event async for event in session.stream(job, gate, chosen, text)]

    return asyncio.run(go())


@pytest.mark.parametrize("loop", ["chunked", "lockstep"])
@pytest.mark.parametrize("gate", [GUIDED, NeverGate("ce"), AlwaysGate()], ids=["guided", "never", "always"])
def test_events_tell_the_trace_token_by_token(loop: str, gate: Gate) -> None:
    chosen = options(loop=loop)
    for seed in range(20):
        *events, finished = streamed(make_job(seed), gate, chosen)
        assert isinstance(finished, Finished)
        trace, told = finished.trace, []
        for event in events:
            assert isinstance(event, TokensAccepted | Takeover)
            assert event.position == len(told)
            if isinstance(event, Takeover):
                assert trace.sources[event.position] == "reasoning"
                assert event.decision is trace.decisions[event.position]
                assert event.drawn == (None if trace.base_token_ids[event.position] < 0 else event.drawn)
            else:
                assert set(trace.sources[event.position : event.position + len(event.token_ids)]) == {"base"}
            told += [event.token_id] if isinstance(event, Takeover) else event.token_ids
        assert told == trace.token_ids
        [same] = asyncio.run(decode(toy_pair(), [make_job(seed)], gate, chosen))
        assert trace.token_ids == same.token_ids


def test_a_stop_string_cuts_text_and_trace_and_settles_the_last_token() -> None:
    cut = 0
    for seed in range(30):
        whole = streamed(make_job(seed), GUIDED, options(k=2))[-1]
        assert isinstance(whole, Finished)
        words = toy_vocabulary().decode(whole.trace.token_ids).split()
        if len(words) < 4 or words[2] in words[:2]:
            continue
        text = GeneratedText(toy_vocabulary(), [1], (words[2],), {STOP})
        *events, finished = streamed(make_job(seed), GUIDED, options(k=2), text)
        assert isinstance(finished, Finished)
        assert finished.trace.token_ids == whole.trace.token_ids[:3]
        assert finished.trace.finish_reason == "stop"
        assert np.isfinite(finished.trace.base_logprobs).all()
        settled = "".join(event.text for event in events if isinstance(event, TextSettled))
        assert settled == text.text
        assert settled.split() == words[:2]
        cut += 1
    assert cut > 5


def test_a_shared_beginning_is_prefilled_once_and_again_after_a_failure() -> None:
    async def go() -> None:
        pair = toy_pair()
        async with PairSession(pair) as session:
            await asyncio.gather(*(session.prefill([1, 2], [1, 2, 3], GUIDED) for _ in range(5)))
            await session.prefill([1, 2], [1, 2, 3], NeverGate())
        assert [list(request.input_ids) for request in pair.base.requests] == [[1, 2], [1, 2]]  # type: ignore[attr-defined]
        assert [list(request.input_ids) for request in pair.reasoning.requests] == [[1, 2, 3]]  # type: ignore[attr-defined]

        failing = Failing(pair.base)  # type: ignore[arg-type]
        async with PairSession(replace(pair, base=failing)) as session:
            with pytest.raises(EndpointError):
                await session.prefill([4], [4], NeverGate())
            failing.broken = False
            await session.prefill([4], [4], NeverGate())

    asyncio.run(go())


class Failing(OwnEngine):
    """Fails until it is mended; scales log-probabilities if asked to."""

    def __init__(self, _: object) -> None:
        super().__init__(1.0)
        self.broken, self.asked = True, 0

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        self.asked += 1
        if self.broken:
            raise EndpointError("It is broken.")
        return await super().generate(requests)


class Short(OwnEngine):
    """Forgets the last request of a batch."""

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        return (await super().generate(requests))[:-1]


def test_an_engine_that_gives_too_few_answers_is_told_and_nobody_waits() -> None:
    pair = Pair(Short(0.7), OwnEngine(1.9), toy_vocabulary(), toy_vocabulary())
    with pytest.raises(EndpointError, match=r"own gave [0-2] answers to [1-3] requests"):
        asyncio.run(asyncio.wait_for(decode(pair, [make_job(seed) for seed in range(3)], GUIDED, options()), 60))


class Mute(OwnEngine):
    """Gives no token."""

    def answer(self, request: GenerateRequest) -> Generation:
        found = super().answer(request)
        return replace(found, output_ids=found.output_ids[:0]) if request.max_new_tokens else found


@pytest.mark.parametrize(("gate", "loop"), [(GUIDED, "chunked"), (GUIDED, "lockstep"), (AlwaysGate(), "chunked")])
def test_an_engine_that_gives_no_token_is_told(gate: Gate, loop: Decoding) -> None:
    pair = Pair(Mute(0.7), Mute(1.9), toy_vocabulary(), toy_vocabulary())
    with pytest.raises(EndpointError, match=r"The (base|reasoning) model gave no token"):
        asyncio.run(decode(pair, [make_job(1)], gate, replace(options(), loop=loop)))


def test_who_waits_behind_a_call_is_let_go_when_the_batcher_ends() -> None:
    async def go() -> None:
        async with Batcher(Held(0.7), max_batch=1) as batcher:
            waiting = [asyncio.create_task(batcher.generate(GenerateRequest((1,), 1, 1))) for _ in range(3)]
            await asyncio.sleep(0)
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
        assert all(isinstance(each, asyncio.CancelledError) for each in done)

    asyncio.run(go())


class Held(OwnEngine):
    """Never answers."""

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        await asyncio.Event().wait()
        raise AssertionError


class Scaled(OwnEngine):
    """Returns log-probabilities after temperature scaling."""

    def answer(self, request: GenerateRequest) -> Generation:
        found = super().answer(request)
        rows = replace(found.output, logprobs=found.output.logprobs / max(request.sampling.temperature, 1.0))
        return replace(found, output=rows)


def test_scaled_log_probabilities_are_refused_before_the_first_draw() -> None:
    async def run(sampling: Sampling) -> list[TraceBuilder]:
        pair = Pair(Scaled(0.7), OwnEngine(1.9), toy_vocabulary(), toy_vocabulary())
        return await decode(pair, [make_job(1)], GUIDED, options(sampling=sampling))

    assert len(asyncio.run(run(Sampling()))) == 1
    with pytest.raises(EndpointError, match="own returns log-probabilities after temperature scaling"):
        asyncio.run(run(Sampling(1.0)))


class OwnGuided:
    """An engine that decodes whole samples itself, as a server with both models would."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.decoded = pair, 0

    async def decode(
        self, job: SampleJob, gate: Gate, chosen: DecodeOptions, *, streamed: bool
    ) -> AsyncGenerator[TraceBuilder, None]:
        self.decoded += 1
        state = ReasoningSample(job, gate, chosen) if isinstance(gate, AlwaysGate) else ChunkedSample(job, gate, chosen)
        while (call := state.next_call()) is not None:
            engine = self.pair.base if call.role == "base" else self.pair.reasoning
            [answer] = await engine.generate([call.request])
            state.receive(answer)
            yield state.trace


def test_an_engine_that_decodes_whole_samples_takes_the_place_of_two() -> None:
    jobs = [make_job(seed) for seed in range(10)]

    async def go() -> list[TraceBuilder]:
        guided = OwnGuided(toy_pair())
        async with PairSession(toy_pair(), Concurrency(4), guided=guided) as session:
            found = {sample.job.sample_id: sample.trace async for sample in session.run(jobs, GUIDED, options())}
            assert all(not engine.requests for engine in (session.pair.base, session.pair.reasoning))  # type: ignore[attr-defined]
        assert guided.decoded == len(jobs)
        return [found[job.sample_id] for job in jobs]

    for one, other in zip(asyncio.run(go()), asyncio.run(decode(toy_pair(), jobs, GUIDED, options())), strict=True):
        assert_same(one, other)


def test_no_more_samples_are_in_flight_than_allowed() -> None:
    async def go() -> int:
        pair, most = toy_pair(), 0
        async with PairSession(pair, Concurrency(3, 3)) as session:

            async def stream(seed: int) -> None:
                nonlocal most
                async for _ in session.stream(make_job(seed), GUIDED, options()):
                    most = max(most, 3 - session._slots._value)

            await asyncio.gather(*(stream(seed) for seed in range(12)))
        return most

    assert asyncio.run(go()) == 3
