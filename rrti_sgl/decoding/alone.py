"""The reasoning model alone: a takeover at every position, and the base model is never asked."""

from __future__ import annotations

import numpy as np

from rrti_sgl.decoding.chunked import begin_after
from rrti_sgl.decoding.job import Call, DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.gates import Gate, Steps


class ReasoningSample:
    """One sample of the reasoning model, written `draft_tokens` at a time: all at once, or in pieces for a stream.

    Args:
        job: the sample.
        gate: gives the decisions that are stored.
        options: how to decode.
    """

    def __init__(self, job: SampleJob, gate: Gate, options: DecodeOptions) -> None:
        self.trace = TraceBuilder(options.k, gate)
        self._job, self._gate, self._options = job, gate, options
        self._state = begin_after(job, gate)
        self._limit = options.max_new_tokens - len(job.prefix_ids)
        self._ended = False

    def next_call(self) -> Call | None:
        """A request for the next piece."""
        if self._ended:
            return None
        options = self._options
        return Call(
            "reasoning",
            GenerateRequest(
                input_ids=self._job.reasoning_ids(self.trace.token_ids),
                max_new_tokens=min(options.draft_tokens, self._limit - len(self.trace)),
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
                exact=options.exact,
            ),
        )

    def receive(self, generation: Generation) -> None:
        """Take all of it."""
        trace, ids = self.trace, [int(i) for i in generation.output_ids]
        trace.reasoning_calls.add(generation)
        start = len(self._job.prefix_ids) + len(trace)
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
        self._ended = trace.is_over(self._options.stop_token_ids, self._limit)
