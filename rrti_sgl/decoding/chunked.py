"""Chunked decoding: draft, score, keep up to the first takeover.

The base model drafts n tokens in one call, the reasoning model scores them all in one prefill on its cached prefix, and the
gate walks over them in order. Everything before the first firing is kept, the fired position takes one token from the
reasoning model, and the base model goes on from there. What follows a takeover in the draft is thrown away, unless the
takeover token is the one that the base model had drawn anyway: then the rest of the draft is what it would draw next, and
the walk goes on. Under greedy decoding the result is lockstep's token for token, under sampling it has the same
distribution, because the drafted rest depends on the kept prefix alone.

`ChunkedSample` is the state of one sample, without I/O: it says what to ask next and takes the answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rrti_sgl.decoding.draft_pace import DraftPace
from rrti_sgl.decoding.drawing import draw
from rrti_sgl.decoding.job import Call, DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.records import FloatArray
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Decision, Gate, GateState, Steps, counter_uniform


@dataclass(slots=True)
class _Draft:
    """Drafted tokens that are not decided yet. `cursor` is the first of them; `scores` are the gate's signals."""

    ids: Sequence[int]
    logprobs: FloatArray
    base: Distributions
    reasoning: Distributions | None = None
    reasoning_logprobs: FloatArray | None = None
    reasoning_start: int = 0  # row 0 of `reasoning` belongs to this drafted token
    scores: FloatArray | None = None
    cursor: int = 0
    pending: Decision | None = None  # a takeover whose token is not known yet

    def reasoning_row(self, index: int) -> Distributions | None:
        """The reasoning model's distribution at one drafted position, where it was asked."""
        row = index - self.reasoning_start
        if self.reasoning is None or not 0 <= row < len(self.reasoning):
            return None
        return self.reasoning[row : row + 1]


class ChunkedSample:
    """One sample decoded in drafts.

    Args:
        job: the sample.
        gate: decides at which positions the reasoning model takes over.
        options: how to decode.
        pace: how far drafts of the gate go, and what learns of these; None: all as far as the options say.
    """

    def __init__(self, job: SampleJob, gate: Gate, options: DecodeOptions, pace: DraftPace | None = None) -> None:
        self.trace = TraceBuilder(options.k, gate)
        self._pace = pace
        self._job = job
        self._gate = gate
        self._state = begin_after(job, gate)
        self._options = options
        self._limit = options.max_new_tokens - len(job.prefix_ids)
        self._draft: _Draft | None = None
        self._asked: Call | None = None
        self._uncovered: int | None = None  # emitted position whose base log-probability the top k did not hold
        self._ended = False

    def next_call(self) -> Call | None:
        """The next request: a draft, its scores, a takeover token, or a missing log-probability."""
        if self._ended:
            self._asked = self._settle_call() if self._uncovered is not None else None
        elif self._draft is None:
            self._asked = self._draft_call()
        elif self._draft.pending is not None:
            self._asked = self._takeover_call(self._draft)
        else:
            self._asked = self._score_call(self._draft)
        return self._asked

    def receive(self, generation: Generation) -> None:
        """Take the answer to the last request and decide as far as it allows."""
        assert self._asked is not None
        call, self._asked = self._asked, None
        if call.role == "base":
            self.trace.base_calls.add(generation)
            self._receive_base(call, generation)
        else:
            self.trace.reasoning_calls.add(generation)
            self._receive_reasoning(generation)
        if self._draft is not None and self._draft.scores is not None:
            self._walk(self._draft)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _base_ids(self) -> list[int]:
        return self._job.base_ids(self.trace.token_ids)

    def _reasoning_ids(self, drafted: Sequence[int]) -> list[int]:
        return self._job.reasoning_ids([*self.trace.token_ids, *(int(i) for i in drafted)])

    def _position(self) -> int:
        """Position of the next token, the given beginning included."""
        return len(self._job.prefix_ids) + len(self.trace)

    def _draft_call(self) -> Call:
        options, ids = self._options, self._base_ids()
        most = options.draft_tokens if self._pace is None else self._pace.length(options.draft_tokens)
        return Call(
            "base",
            GenerateRequest(
                input_ids=ids,
                max_new_tokens=min(most, self._limit - len(self.trace)),
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
                score_from=None if self._uncovered is None else len(ids) - 1,
                exact=options.exact,
            ),
        )

    def _settle_call(self) -> Call:
        ids = self._base_ids()
        return Call("base", GenerateRequest(input_ids=ids, max_new_tokens=0, k=1, score_from=len(ids) - 1))

    def _score_call(self, draft: _Draft) -> Call:
        """Score the whole draft, its last token included."""
        ids = self._reasoning_ids(draft.ids)
        self.trace.scored += len(draft.ids)
        return Call(
            "reasoning",
            GenerateRequest(
                input_ids=ids,
                max_new_tokens=0,
                k=self._options.k,
                score_from=len(ids) - len(draft.ids),
                exact=self._options.exact,
                named_ids=draft.base.ids,
            ),
        )

    def _takeover_call(self, draft: _Draft) -> Call:
        """Ask for the takeover token. Greedy, the rest of the draft is scored as well: it may survive the takeover."""
        options = self._options
        if options.takeover_tokens > 1:
            request = GenerateRequest(
                self._reasoning_ids(()),
                max_new_tokens=min(options.takeover_tokens, self._limit - len(self.trace)),
                k=options.k,
                sampling=options.sampling,
                stop_token_ids=tuple(options.stop_token_ids),
            )
        elif options.sampling.greedy:
            ids = self._reasoning_ids(draft.ids[draft.cursor :])
            n_scored = len(draft.ids) - draft.cursor
            self.trace.scored += n_scored
            request = GenerateRequest(input_ids=ids, max_new_tokens=0, k=options.k, score_from=len(ids) - n_scored)
        else:
            request = GenerateRequest(self._reasoning_ids(()), max_new_tokens=1, k=options.k, sampling=options.sampling)
        n_named = 1 if request.max_new_tokens else None
        named_ids = draft.base.ids[draft.cursor :][:n_named]
        return Call("reasoning", replace(request, exact=options.exact, named_ids=named_ids))

    # -- answers ----------------------------------------------------------------------------------------------------

    def _receive_base(self, call: Call, generation: Generation) -> None:
        if self._uncovered is not None:
            self.trace.with_base_logprob(self._uncovered, float(generation.input_logprobs[-1]))
            self._uncovered = None
        if call.request.max_new_tokens == 0:
            return
        self.trace.drafted += len(generation.output_ids)
        draft = _Draft([int(i) for i in generation.output_ids], generation.output_logprobs, generation.output)
        self._draft = draft
        if not self._gate.needs_reasoning:
            draft.scores = self._signal(draft)

    def _receive_reasoning(self, generation: Generation) -> None:
        draft = self._draft
        assert draft is not None
        if draft.pending is None:
            draft.reasoning, draft.reasoning_logprobs = generation.input, generation.input_logprobs
            draft.scores = self._signal(draft)
        elif self._options.takeover_tokens > 1:
            self._relay(draft, draft.pending, generation)
        elif self._options.sampling.greedy:
            draft.reasoning, draft.reasoning_start = generation.input, draft.cursor
        else:
            token, logprob = int(generation.output_ids[0]), float(generation.output_logprobs[0])
            self._take_over(draft, draft.pending, token, generation.output, logprob)

    def _signal(self, draft: _Draft) -> FloatArray:
        start = self._position()
        positions = np.arange(start, start + len(draft.ids), dtype=np.int32)
        job, prefix = self._job, (*self._job.prefix_ids, *self.trace.token_ids)
        steps = Steps(positions, draft.base, draft.reasoning, job.sample_seed, prefix, draft.ids, job.problem)
        return self._gate.signal(steps)

    # -- decisions --------------------------------------------------------------------------------------------------

    def _walk(self, draft: _Draft) -> None:
        """Decide on the drafted tokens in order until the draft is used up or something has to be asked."""
        assert draft.scores is not None
        if draft.pending is not None and not self._try_take_over(draft, draft.pending):
            return
        kept: list[Decision] = []
        while self._draft is draft and draft.cursor + len(kept) < len(draft.ids):
            score = float(draft.scores[draft.cursor + len(kept)])
            decision = self._state.decide(self._position() + len(kept), score)
            if not decision.fired:
                kept.append(decision)
                continue
            self._keep(draft, kept)
            kept = []
            if not self._try_take_over(draft, decision):
                return
        self._keep(draft, kept)
        if self._draft is draft and draft.cursor == len(draft.ids):
            self._drop(draft)

    def _keep(self, draft: _Draft, decisions: Sequence[Decision]) -> None:
        """Emit the drafted tokens that did not fire, as the base model drew them."""
        if not decisions:
            return
        rows = slice(draft.cursor, draft.cursor + len(decisions))
        asked = draft.reasoning if draft.reasoning_logprobs is not None else None
        self.trace.emit(
            draft.ids[rows],
            decisions,
            source="base",
            base=draft.base[rows],
            reasoning=asked[rows] if asked is not None else None,
            base_token_ids=draft.ids[rows],
            base_logprobs=list(draft.logprobs[rows]),
            reasoning_logprobs=list(draft.reasoning_logprobs[rows]) if draft.reasoning_logprobs is not None else None,
            seen=True,
        )
        draft.cursor = rows.stop
        self._end_if_due()

    def _try_take_over(self, draft: _Draft, decision: Decision) -> bool:
        """Take over at the cursor if the token can be drawn here; else leave the decision pending and ask."""
        row = draft.reasoning_row(draft.cursor) if self._options.takeover_tokens == 1 else None
        uniform = float(counter_uniform(~self._job.sample_seed, np.asarray([self._position()]))[0])
        token = None if row is None else draw(row, self._options.sampling, uniform)
        if row is None or token is None:
            draft.pending = decision
            return False
        self._take_over(draft, decision, token, row, float(row.logprob_of(np.asarray([token]))[0]), seen=True)
        return True

    def _take_over(
        self, draft: _Draft, decision: Decision, token: int, reasoning: Distributions, logprob: float, *, seen: bool = False
    ) -> None:
        draft.pending = None
        index = draft.cursor
        base = draft.base[index : index + 1]
        base_logprob = float(base.logprob_of(np.asarray([token]))[0])
        self.trace.emit(
            [token],
            [decision],
            source="reasoning",
            base=base,
            reasoning=reasoning,
            base_token_ids=[draft.ids[index]],
            reasoning_token_ids=[token],
            base_logprobs=[draft.logprobs[index] if token == draft.ids[index] else base_logprob],
            reasoning_logprobs=[logprob],
            seen=seen,
        )
        if math.isnan(self.trace.base_logprobs[-1]):
            self._uncovered = len(self.trace) - 1
        draft.cursor = index + 1
        if token != draft.ids[index]:
            self.trace.discarded += len(draft.ids) - draft.cursor
            self._drop(draft, changed=True)
        self._end_if_due()

    def _relay(self, draft: _Draft, decision: Decision, generation: Generation) -> None:
        """Emit a takeover of several tokens; the base model is asked about the first of them alone."""
        index = draft.cursor
        emit_relay(self.trace, decision, generation, draft.base[index : index + 1], draft.ids[index])
        draft.pending, draft.cursor = None, index + 1
        self.trace.discarded += len(draft.ids) - draft.cursor
        self._drop(draft, changed=True)
        self._end_if_due()

    def _drop(self, draft: _Draft, *, changed: bool = False) -> None:
        """Be done with a draft, by a takeover that changed a token or without one."""
        self._draft = None
        if self._pace is not None:
            self._pace.add(draft.cursor, changed=changed)

    def _end_if_due(self) -> None:
        self._ended = self.trace.is_over(self._options.stop_token_ids, self._limit)
        if self._ended and self._draft is not None:
            self._drop(self._draft)


def begin_after(job: SampleJob, gate: Gate) -> GateState:
    """A gate's memory at the start of a sample, with what it saw in a given beginning."""
    state = gate.begin()
    if job.prefix is not None:
        for position, score in enumerate(job.prefix.scores):
            state.decide(position, score)
    return state


def emit_relay(
    trace: TraceBuilder, decision: Decision, generation: Generation, base: Distributions, base_token: int
) -> None:
    """Emit what the reasoning model wrote at a takeover of several tokens.

    The first token has the gate's decision and both models' distributions; the others were relayed without asking.
    """
    ids, relayed = [int(i) for i in generation.output_ids], Decision(False, math.nan, decision.threshold, None, "relayed")
    covered = float(base.logprob_of(np.asarray(ids[:1]))[0])
    trace.emit(
        ids[:1],
        [decision],
        source="reasoning",
        base=base,
        reasoning=generation.output[:1],
        base_token_ids=[base_token],
        reasoning_token_ids=ids[:1],
        base_logprobs=[covered],
        reasoning_logprobs=list(generation.output_logprobs[:1]),
    )
    if len(ids) > 1:
        trace.emit(
            ids[1:],
            [relayed] * (len(ids) - 1),
            source="reasoning",
            reasoning=generation.output[1:],
            reasoning_token_ids=ids[1:],
            reasoning_logprobs=list(generation.output_logprobs[1:]),
        )
