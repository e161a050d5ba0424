"""The reasoning model alone, in drafts, so that a stop string ends it early and a stream moves on."""

from __future__ import annotations

import numpy as np

from rrti_sgl.decoding.job import Call, DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.gates import AlwaysGate, Steps


class ReasoningAlone:
    """One sample of the reasoning model: a takeover at every position, and the base model is never asked.

    Args:
        job: the sample.
        gate: gives the decisions that are stored.
        options: how to decode; `draft_tokens` is asked for at a time.
    """

    def __init__(self, job: SampleJob, gate: AlwaysGate, options: DecodeOptions) -> None:
        self.trace = TraceBuilder(k=options.k)
        self._job, self._gate, self._options = job, gate, options
        self._state = gate.begin()
        self._ended = False

    def next_call(self) -> Call | None:
        """A request for the next draft."""
        if self._ended:
            return None
        options = self._options
        return Call(
            "reasoning",
            GenerateRequest(
                input_ids=[*self._job.reasoning_prompt_ids, *self.trace.token_ids],
                max_new_tokens=min(options.draft_tokens, options.max_new_tokens - len(self.trace)),
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
            ),
        )

    def receive(self, generation: Generation) -> None:
        """Take all of it."""
        trace, start, ids = self.trace, len(self.trace), list(generation.output_ids)
        trace.reasoning_calls.add(generation)
        positions = np.arange(start, start + len(ids), dtype=np.int32)
        scores = self._gate.signal(Steps(positions, generation.output, generation.output, self._job.sample_seed))
        trace.emit(
            ids,
            [self._state.decide(start + row, float(score)) for row, score in enumerate(scores)],
            source="reasoning",
            reasoning=generation.output,
            reasoning_token_ids=ids,
            reasoning_logprobs=list(generation.output_logprobs),
        )
        if trace.token_ids[-1] in self._options.stop_token_ids:
            self._end("stop")
        elif len(trace) == self._options.max_new_tokens:
            self._end("length")

    def _end(self, reason: str) -> None:
        self._ended = True
        self.trace.finish("stop" if reason == "stop" else "length")
