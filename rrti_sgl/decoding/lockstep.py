"""Lockstep decoding: the paper's algorithm as written, one token at a time. The reference for every faster way.

At each position the base model draws a token, the reasoning model is asked for its distribution at the same prefix, the
gate decides, and one of the two tokens is emitted. Two server calls a token, nothing drafted, nothing thrown away.
"""

from __future__ import annotations

import math

import numpy as np

from rrti_sgl.decoding.chunked import emit_relay
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.gates import Gate, Steps


async def decode_lockstep(job: SampleJob, gate: Gate, pair: Pair, options: DecodeOptions) -> TraceBuilder:
    """Decode one sample token by token.

    Args:
        job: the sample.
        gate: decides at which positions the reasoning model takes over.
        pair: both servers.
        options: how to decode; `draft_tokens` has no meaning here.

    Returns:
        The sample's trace, finished.
    """
    trace, state = TraceBuilder(k=options.k), gate.begin()
    while True:
        base = await _ask_base(job, trace, pair, options)
        token = int(base.output_ids[0])
        reasoning = await _ask_reasoning(job, trace, pair, options, base) if gate.needs_reasoning else None
        steps = Steps(
            np.asarray([len(trace)], dtype=np.int32),
            base.output,
            None if reasoning is None else reasoning.output,
            job.sample_seed,
            tuple(trace.token_ids),
            (token,),
            job.problem,
        )
        decision = state.decide(len(trace), float(gate.signal(steps)[0]))
        if decision.fired and options.takeover_tokens > 1:
            room = options.max_new_tokens - len(trace)
            relayed = await _ask_relay(job, trace, pair, options, min(options.takeover_tokens, room), base)
            emit_relay(trace, decision, relayed, base.output, token)
            if _is_over(trace, options):
                return trace
            continue
        if decision.fired and reasoning is None:
            reasoning = await _ask_reasoning(job, trace, pair, options, base)
        taken = int(reasoning.output_ids[0]) if decision.fired and reasoning is not None else None
        trace.emit(
            [token if taken is None else taken],
            [decision],
            source="base" if taken is None else "reasoning",
            base=base.output,
            reasoning=None if reasoning is None else reasoning.output,
            base_token_ids=[token],
            reasoning_token_ids=None if taken is None else [taken],
            base_logprobs=[_base_logprob(base, token, taken)],
            reasoning_logprobs=None if reasoning is None else [_reasoning_logprob(reasoning, taken)],
        )
        if not _is_over(trace, options):
            continue
        if trace.base_token_ids[-1] >= 0 and math.isnan(trace.base_logprobs[-1]):
            await _settle(job, trace, pair)
        return trace


def _is_over(trace: TraceBuilder, options: DecodeOptions) -> bool:
    """Finish the trace if its last token ends it."""
    if trace.token_ids[-1] in options.stop_token_ids:
        trace.finish("stop")
    elif len(trace) == options.max_new_tokens:
        trace.finish("length")
    else:
        return False
    return True


async def _ask_relay(
    job: SampleJob, trace: TraceBuilder, pair: Pair, options: DecodeOptions, n: int, base: Generation
) -> Generation:
    """Let the reasoning model write n tokens."""
    request = GenerateRequest(
        input_ids=[*job.reasoning_prompt_ids, *trace.token_ids],
        max_new_tokens=n,
        k=options.k,
        sampling=options.sampling,
        stop_token_ids=tuple(options.stop_token_ids),
        exact=options.exact,
        named_ids=base.output.ids,
    )
    [generation] = await pair.reasoning.generate([request])
    trace.reasoning_calls.add(generation)
    return generation


async def _ask_base(job: SampleJob, trace: TraceBuilder, pair: Pair, options: DecodeOptions) -> Generation:
    """Draw one token; also settle the log-probability of a takeover token that the last top k did not hold."""
    ids = [*job.base_prompt_ids, *trace.token_ids]
    unsettled = bool(len(trace)) and trace.base_token_ids[-1] >= 0 and math.isnan(trace.base_logprobs[-1])
    request = GenerateRequest(
        input_ids=ids,
        max_new_tokens=1,
        k=options.k,
        sampling=options.sampling,
        stop_token_ids=tuple(options.stop_token_ids),
        score_from=len(ids) - 1 if unsettled else None,
        exact=options.exact,
    )
    [generation] = await pair.base.generate([request])
    trace.base_calls.add(generation)
    trace.drafted += 1
    if unsettled:
        trace.with_base_logprob(len(trace) - 1, float(generation.input_logprobs[-1]))
    return generation


async def _ask_reasoning(
    job: SampleJob, trace: TraceBuilder, pair: Pair, options: DecodeOptions, base: Generation
) -> Generation:
    """Draw one token of the reasoning model, and ask what it thinks of the base model's."""
    request = GenerateRequest(
        input_ids=[*job.reasoning_prompt_ids, *trace.token_ids],
        max_new_tokens=1,
        k=options.k,
        sampling=options.sampling,
        stop_token_ids=tuple(options.stop_token_ids),
        logprob_ids=(int(base.output_ids[0]),),
        exact=options.exact,
        named_ids=base.output.ids,
    )
    [generation] = await pair.reasoning.generate([request])
    trace.reasoning_calls.add(generation)
    trace.scored += 1
    return generation


async def _settle(job: SampleJob, trace: TraceBuilder, pair: Pair) -> None:
    ids = [*job.base_prompt_ids, *trace.token_ids]
    [generation] = await pair.base.generate([GenerateRequest(ids, max_new_tokens=0, k=1, score_from=len(ids) - 1)])
    trace.base_calls.add(generation)
    trace.with_base_logprob(len(trace) - 1, float(generation.input_logprobs[-1]))


def _base_logprob(base: Generation, drawn: int, taken: int | None) -> float:
    if taken is None or taken == drawn:
        return float(base.output_logprobs[0])
    return float(base.output.logprob_of(np.asarray([taken]))[0])


def _reasoning_logprob(reasoning: Generation, taken: int | None) -> float:
    return float(reasoning.id_logprobs[0, 0] if taken is None else reasoning.output_logprobs[0])
