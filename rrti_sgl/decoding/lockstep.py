"""Lockstep decoding: the paper's algorithm as written, one token at a time. The reference for every faster way.

At each position the base model draws a token, the reasoning model is asked for its distribution at the same prefix, the
gate decides, and one of the two tokens is emitted. Two server calls a token, nothing drafted, nothing thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from rrti_sgl.decoding.chunked import begin_after, emit_relay
from rrti_sgl.decoding.job import Call, DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.gates import Gate, Steps

Asking = Generator[Call, Generation, Generation]


class LockstepSample:
    """One sample decoded token by token.

    Args:
        job: the sample.
        gate: decides at which positions the reasoning model takes over.
        options: how to decode; `draft_tokens` has no meaning here.
    """

    def __init__(self, job: SampleJob, gate: Gate, options: DecodeOptions) -> None:
        self.trace = TraceBuilder(options.k, gate)
        self._job, self._gate, self._options = job, gate, options
        self._limit = options.max_new_tokens - len(job.prefix_ids)
        self._algorithm = self._decode()
        self._asked: Call | None = next(self._algorithm)

    def next_call(self) -> Call | None:
        """The next request."""
        return self._asked

    def receive(self, generation: Generation) -> None:
        """Take the answer and go on to the next request."""
        try:
            self._asked = self._algorithm.send(generation)
        except StopIteration:
            self._asked = None

    def _decode(self) -> Generator[Call, Generation, None]:
        trace, gate, options = self.trace, self._gate, self._options
        state = begin_after(self._job, gate)
        while not trace.is_over(options.stop_token_ids, self._limit):
            base = yield from self._ask_base()
            token = int(base.output_ids[0])
            reasoning = (yield from self._ask_reasoning(base)) if gate.needs_reasoning else None
            position = len(self._job.prefix_ids) + len(trace)
            steps = Steps(
                np.asarray([position], dtype=np.int32),
                base.output,
                None if reasoning is None else reasoning.output,
                self._job.sample_seed,
                (*self._job.prefix_ids, *trace.token_ids),
                (token,),
                self._job.problem,
            )
            decision = state.decide(position, float(gate.signal(steps)[0]))
            if decision.fired and options.takeover_tokens > 1:
                relayed = yield from self._ask_relay(base)
                emit_relay(trace, decision, relayed, base.output, token)
                continue
            if decision.fired and reasoning is None:
                reasoning = yield from self._ask_reasoning(base)
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
                seen=True,
            )
        if self._is_unsettled():
            ids = self._job.base_ids(trace.token_ids)
            answer = yield Call("base", GenerateRequest(ids, max_new_tokens=0, k=1, score_from=len(ids) - 1))
            trace.base_calls.add(answer)
            trace.with_base_logprob(len(trace) - 1, float(answer.input_logprobs[-1]))

    def _is_unsettled(self) -> bool:
        """Whether the last token was taken over and the base model's top k did not hold it: its log-probability is open.

        After a takeover of several tokens it stays so, as in chunked decoding.
        """
        trace = self.trace
        if not len(trace) or self._options.takeover_tokens > 1:
            return False
        return trace.base_token_ids[-1] >= 0 and math.isnan(trace.base_logprobs[-1])

    def _ask_base(self) -> Asking:
        """Draw one token; also settle the log-probability of a takeover token that the last top k did not hold."""
        options, trace = self._options, self.trace
        ids, unsettled = self._job.base_ids(trace.token_ids), self._is_unsettled()
        generation = yield Call(
            "base",
            GenerateRequest(
                input_ids=ids,
                max_new_tokens=1,
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
                score_from=len(ids) - 1 if unsettled else None,
                exact=options.exact,
            ),
        )
        trace.base_calls.add(generation)
        trace.drafted += 1
        if unsettled:
            trace.with_base_logprob(len(trace) - 1, float(generation.input_logprobs[-1]))
        return generation

    def _ask_reasoning(self, base: Generation) -> Asking:
        """Draw one token of the reasoning model, and ask what it thinks of the base model's."""
        generation = yield from self._ask_for_tokens(1, base, (int(base.output_ids[0]),))
        self.trace.scored += 1
        return generation

    def _ask_relay(self, base: Generation) -> Asking:
        """Let the reasoning model write several tokens."""
        room = self._limit - len(self.trace)
        return (yield from self._ask_for_tokens(min(self._options.takeover_tokens, room), base, ()))

    def _ask_for_tokens(self, n: int, base: Generation, logprob_ids: tuple[int, ...]) -> Asking:
        options = self._options
        generation = yield Call(
            "reasoning",
            GenerateRequest(
                input_ids=self._job.reasoning_ids(self.trace.token_ids),
                max_new_tokens=n,
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
                logprob_ids=logprob_ids,
                exact=options.exact,
                named_ids=base.output.ids,
            ),
        )
        self.trace.reasoning_calls.add(generation)
        return generation


def _base_logprob(base: Generation, drawn: int, taken: int | None) -> float:
    if taken is None or taken == drawn:
        return float(base.output_logprobs[0])
    return float(base.output.logprob_of(np.asarray([taken]))[0])


def _reasoning_logprob(reasoning: Generation, taken: int | None) -> float:
    return float(reasoning.id_logprobs[0, 0] if taken is None else reasoning.output_logprobs[0])
