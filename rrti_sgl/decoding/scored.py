"""Scoring a continuation that is given: both models say what they would have written at each of its positions.

`ScoredSample` has the interface of a sample that is decoded (`rrti_sgl.decoding.job.SampleState`), so it goes through
the same session and store. One request a model: the whole sequence, prefilled once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rrti_sgl.decoding.job import Call, DecodeOptions, GivenContinuation, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.gates import Gate, Steps


class ScoredSample:
    """One given continuation.

    Its tokens are stored with source "base", because nobody took over, and without a token that the base model drew: it
    may never have drawn one here.

    Args:
        job: the sample.
        given: its continuation.
        gate: its signal is stored at every position; it decides nothing here.
        options: k, and whether exact numbers are asked for.
    """

    def __init__(self, job: SampleJob, given: GivenContinuation, gate: Gate, options: DecodeOptions) -> None:
        self.trace = TraceBuilder(options.k, gate)
        self._job, self._given, self._gate, self._options = job, given, gate, options
        self._base: Generation | None = None

    def next_call(self) -> Call | None:
        """The base model's distributions first; the plugin is then asked for the reasoning model's at the same tokens."""
        if self._base is None:
            return Call("base", self._request(self._job.base_prompt_ids))
        if len(self.trace):
            return None
        return Call("reasoning", self._request(self._job.reasoning_prompt_ids, self._base))

    def receive(self, generation: Generation) -> None:
        """Take one model's answer; with the second, the sample is finished."""
        if self._base is None:
            self._base = generation
            self.trace.base_calls.add(generation)
            return
        self.trace.reasoning_calls.add(generation)
        self._finish(self._base, generation)

    def _request(self, prompt: Sequence[int], base: Generation | None = None) -> GenerateRequest:
        return GenerateRequest(
            input_ids=[*prompt, *self._given.token_ids],
            max_new_tokens=0,
            k=self._options.k,
            score_from=len(prompt),
            exact=self._options.exact,
            named_ids=None if base is None else base.input.ids,
        )

    def _finish(self, base: Generation, reasoning: Generation) -> None:
        ids, job = self._given.token_ids, self._job
        positions = np.arange(len(ids), dtype=np.int32)
        steps = Steps(positions, base.input, reasoning.input, job.sample_seed, (), ids, job.problem)
        state = self._gate.begin()
        self.trace.scored = len(ids)
        self.trace.emit(
            ids,
            [state.decide(t, float(score)) for t, score in enumerate(self._gate.signal(steps))],
            source="base",
            base=base.input,
            reasoning=reasoning.input,
            base_logprobs=list(base.input_logprobs),
            reasoning_logprobs=list(reasoning.input_logprobs),
            seen=True,
        )
        self.trace.finish(self._given.finish_reason)
