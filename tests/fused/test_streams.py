"""A sample of a fused server while it is written: its events are those of two servers, and leaving early ends the work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from rrti_sgl.decoding.events import Event, Finished, TextSettled
from rrti_sgl.decoding.job import DecodeOptions
from rrti_sgl.engines.pair import connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.science.gates import Gate, NeverGate
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tokens.generated_text import GeneratedText
from tests.decoding.test_conformance_real import GATES, differing, jobs
from tests.fused.test_requests import free_slots, generate

pytestmark = pytest.mark.server


async def events(
    urls: tuple[str, str], gate: Gate, n: int, *, stops: Sequence[str] = (), limit: int = 60
) -> list[list[Event]]:
    async with connect(*urls) as pair, PairSession(pair) as session:
        options = DecodeOptions(8, limit, Sampling(), pair.stop_token_ids)
        found = []
        for job in jobs(pair, n, different_prompts=True):
            text = GeneratedText(pair.vocabulary, job.base_prompt_ids, stops, pair.stop_token_ids) if stops else None
            found.append([event async for event in session.stream(job, gate, options, text)])
        return found


def both(served_pair: ServedPair, fused: BothModels, gate: Gate, **how: object) -> list[tuple[list[Event], list[Event]]]:
    two, one = (served_pair.base.url, served_pair.reasoning.url), (fused.url, fused.url)
    return list(zip(*(asyncio.run(events(urls, gate, 4, **how)) for urls in (one, two)), strict=True))  # type: ignore[arg-type]


def settled(told: list[Event]) -> list[tuple[int, bool]]:
    """(token, whether it was taken over) in order; runs of base tokens are cut where each way happens to cut them."""
    found = []
    for event in told:
        ids = getattr(event, "token_ids", None) or ((event.token_id,) if hasattr(event, "token_id") else ())
        found += [(token, hasattr(event, "decision")) for token in ids]
    return found


def test_events_are_those_of_two_servers_and_come_while_it_decodes(served_pair: ServedPair, fused: BothModels) -> None:
    for one, two in both(served_pair, fused, GATES["ce"]):
        assert settled(one) == settled(two)
        assert isinstance(one[-1], Finished)
        assert isinstance(two[-1], Finished)
        trace = one[-1].trace
        # top-k scores of two servers are bounds of what this one measures, so scores are not compared here
        assert [token for token, _ in settled(one)] == trace.token_ids
        assert trace.finish_reason == two[-1].trace.finish_reason
        assert len(one) > len(trace) // fused.draft_tokens, "it came in one piece"


def test_a_stop_string_ends_the_sample_and_its_work(served_pair: ServedPair, fused: BothModels) -> None:
    for one, two in both(served_pair, fused, GATES["ce"], stops=[" ."], limit=110):
        assert settled(one) == settled(two)
        assert "".join(e.text for e in one if isinstance(e, TextSettled)) == "".join(
            e.text for e in two if isinstance(e, TextSettled)
        )
    free, size = free_slots(fused)
    assert free == size


def test_who_leaves_a_stream_ends_its_work(fused: BothModels) -> None:
    async def run() -> int:
        async with connect(fused.url, fused.url) as pair, PairSession(pair) as session:
            options = DecodeOptions(4, 400, Sampling(), frozenset())
            [job] = jobs(pair, 1, different_prompts=True)
            async with aclosing(session.stream(job, NeverGate("ce"), options)) as told:
                return len((await anext(told)).token_ids)  # type: ignore[union-attr]

    assert 1 <= asyncio.run(run()) < 400
    generate(fused, {"tau": 0.5})
    free, size = free_slots(fused)
    assert free == size


def test_a_streamed_trace_is_the_whole_one(fused: BothModels) -> None:
    async def run() -> None:
        async with connect(fused.url, fused.url) as pair, PairSession(pair) as session:
            options = replace(DecodeOptions(8, 110, Sampling(), pair.stop_token_ids), takeover_tokens=3)
            for job in jobs(pair, 4, different_prompts=True):
                *_, streamed = [event async for event in session.stream(job, GATES["ce"], options)]
                [whole] = [found async for found in session.run([job], GATES["ce"], options)]
                assert differing(streamed.trace, whole.trace, GATES["ce"]) is None  # type: ignore[union-attr]
                for name, values in streamed.trace.metrics().items():  # type: ignore[union-attr]
                    assert values.tolist() == pytest.approx(whole.trace.metrics()[name].tolist(), abs=2e-3, nan_ok=True)
                for count in ("drafted", "discarded", "scored"):
                    assert getattr(streamed.trace, count) == getattr(whole.trace, count)  # type: ignore[union-attr]

    asyncio.run(run())
