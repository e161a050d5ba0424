"""Brings one sample to its end: asks for what its state wants, and tells what was settled on the way."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from rrti_sgl.decoding.alone import ReasoningSample
from rrti_sgl.decoding.chunked import ChunkedSample
from rrti_sgl.decoding.draft_pace import DraftPace
from rrti_sgl.decoding.events import Event, Finished, TextSettled, token_events
from rrti_sgl.decoding.job import Call, DecodeOptions, SampleJob, SampleState
from rrti_sgl.decoding.lockstep import LockstepSample
from rrti_sgl.decoding.scored import ScoredSample
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError
from rrti_sgl.records import FinishReason
from rrti_sgl.science.gates import AlwaysGate, Gate
from rrti_sgl.tokens.generated_text import GeneratedText

Ask = Callable[[Call], Awaitable[Generation]]


class OverSample:
    """A sample whose given beginning leaves nothing to decode.

    Args:
        k: of the trace.
        reason: how the beginning ended it.
    """

    def __init__(self, k: int, reason: FinishReason) -> None:
        self.trace = TraceBuilder(k=k)
        self.trace.finish(reason)

    def next_call(self) -> Call | None:
        """There is nothing to ask."""
        return None

    def receive(self, generation: Generation) -> None:
        """There is nothing to take."""


def begin(job: SampleJob, gate: Gate, options: DecodeOptions, pace: DraftPace | None = None) -> SampleState:
    """The state of a new sample: its continuation is given, or written by the reasoning model alone, or by both."""
    if job.given is not None:
        return ScoredSample(job, job.given, gate, options)
    if (reason := job.ends_with_its_beginning(options)) is not None:
        return OverSample(options.k, reason)
    if options.loop == "lockstep":
        return LockstepSample(job, gate, options)
    if isinstance(gate, AlwaysGate):
        return ReasoningSample(job, gate, options)
    return ChunkedSample(job, gate, options, pace)


async def grow(
    job: SampleJob, gate: Gate, options: DecodeOptions, ask: Ask, pace: DraftPace | None = None
) -> AsyncGenerator[TraceBuilder, None]:
    """Decode one sample on two engines; yields its growing trace after every answer, the last time finished.

    Args:
        job: the sample.
        gate: decides where the reasoning model takes over.
        options: how to decode.
        ask: sends a request to one of the two models.
        pace: how far drafts go; None: as far as the options say.

    Raises:
        EndpointError: a model failed.
    """
    sample = begin(job, gate, options, pace)
    call = sample.next_call()
    if call is None:
        yield sample.trace
    while call is not None:
        answer = await ask(replace(call, request=replace(call.request, seed=job.server_seed(call.role))))
        if call.request.max_new_tokens and not len(answer.output_ids):
            raise EndpointError(f"The {call.role} model gave no token where it was asked for one.", "See its server's log.")
        sample.receive(answer)
        yield sample.trace
        call = sample.next_call()


async def events(
    job: SampleJob, growing: AsyncGenerator[TraceBuilder, None], ask: Ask, text: GeneratedText | None = None
) -> AsyncGenerator[Event, None]:
    """What is settled of a growing trace, at the end `Finished`; a stop string of `text` ends it early.

    Args:
        job: the sample.
        growing: its trace; is closed where a stop string is complete.
        ask: for what a trace that was cut lacks.
        text: empty; takes the tokens and knows the stop strings.
    """
    seen, shown = 0, 0
    async with aclosing(growing):
        async for trace in growing:
            stopped = text is not None and text.add(trace.token_ids[seen:])
            if stopped and text is not None:
                await _stop_after(len(text), job, trace, ask)
            for event in token_events(trace, seen):
                yield event
            seen = len(trace)
            if text is not None and len(settled := text.settled) > shown:
                yield TextSettled(settled[shown:], trace)
                shown = len(settled)
            if stopped:
                break
    if text is not None:
        text.finish()
        if len(text.text) > shown:
            yield TextSettled(text.text[shown:], trace)
    yield Finished(job, trace)


def truncate(trace: TraceBuilder, n: int) -> None:
    """Drop the tokens of a trace from position n on; they count as discarded."""
    for column in (
        trace.token_ids,
        trace.sources,
        trace.base_token_ids,
        trace.reasoning_token_ids,
        trace.base_logprobs,
        trace.reasoning_logprobs,
        trace.decisions,
        trace.seen,
    ):
        del column[n:]
    for rows in (trace.base, trace.reasoning):
        gathered = rows.gathered()
        if gathered is not None:
            kept = sum(position < n for position in rows.positions)  # positions ascend
            rows.positions, rows.parts = rows.positions[:kept], [gathered[:kept]] if kept else []
    if trace.measured is not None:
        trace.measured = trace.measured[:n]
    trace.discarded = trace.drafted - sum(drawn >= 0 for drawn in trace.base_token_ids)


async def _stop_after(n: int, job: SampleJob, trace: TraceBuilder, ask: Ask) -> None:
    """End a trace after n tokens, with the base model's log-probability of the last if its top k did not hold it."""
    truncate(trace, n)
    if trace.base_token_ids[-1] >= 0 and math.isnan(trace.base_logprobs[-1]):
        ids = job.base_ids(trace.token_ids)
        answer = await ask(Call("base", GenerateRequest(ids, max_new_tokens=0, k=1, score_from=len(ids) - 1)))
        trace.base_calls.add(answer)
        trace.with_base_logprob(len(trace) - 1, float(answer.input_logprobs[-1]))
    trace.finish("stop")
