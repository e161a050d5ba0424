"""Samples of a server that holds both models: one request each, and of its records the trace that two servers give."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.decoding.chunked import begin_after
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import CallTotals, TraceBuilder
from rrti_sgl.engines.fused_server import FusedServer, GuidedAnswer, GuidedRequest
from rrti_sgl.engines.wire import UNREADABLE, token_ids
from rrti_sgl.errors import EndpointError, UsageError, argument, command
from rrti_sgl.fused.protocol import Steering, decode
from rrti_sgl.records import Json
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Decision, Gate, gate_of
from rrti_sgl.science.metrics import METRICS


class FusedDecoding:
    """A `GuidedEngine` on a fused server, or on several alike: what begins alike goes to one, which has it in its caches.

    Args:
        servers: each holds both models.
        vocab_size: of both.
    """

    def __init__(self, servers: Sequence[FusedServer], vocab_size: int) -> None:
        self._servers, self._vocab_size = servers, vocab_size

    async def decode(
        self, job: SampleJob, gate: Gate, options: DecodeOptions, *, streamed: bool
    ) -> AsyncGenerator[TraceBuilder, None]:
        """One request for the whole sample; its trace grows as it is streamed, or comes once, finished.

        Raises:
            UsageError: lockstep decoding, or a gate that such a server cannot be told.
            EndpointError: the server refused the request or failed.
        """
        if options.loop == "lockstep":
            raise UsageError(
                "Lockstep decoding needs two servers.", f"Leave {argument('decoding')} out, or use `{command('serve')}`."
            )
        trace = TraceBuilder(options.k, gate)
        if job.given is None and (reason := job.ends_with_its_beginning(options)) is not None:
            trace.finish(reason)
            yield trace
            return
        server = self.server_for(job.reasoning_ids(()))
        request = self.request(job, gate, options, server.draft_tokens)
        growing = _Growing(trace, job, gate, request.steering.trace, self._vocab_size, server.info.name)
        async with aclosing(server.answers(request, streamed=streamed)) as answers:
            async for answer in answers:
                growing.take(answer)
                yield trace

    def server_for(self, prompt: Sequence[int]) -> FusedServer:
        """Where a sample goes that begins so."""
        return self._servers[zlib.crc32(np.asarray(prompt, "<i4").tobytes()) % len(self._servers)]

    def request(self, job: SampleJob, gate: Gate, options: DecodeOptions, most_drafted: int) -> GuidedRequest:
        """What asks for a sample of a server that drafts so many tokens at most.

        Raises:
            UsageError: a gate that such a server cannot be told.
        """
        name, params = as_data(gate)
        base_ids, reasoning_ids = job.base_ids(()), job.reasoning_ids(())
        given = job.given.token_ids if job.given is not None else ()
        return GuidedRequest(
            input_ids=reasoning_ids,
            max_new_tokens=len(given) or options.max_new_tokens - len(job.prefix_ids),
            sampling=options.sampling,
            stop_token_ids=() if given else tuple(sorted(options.stop_token_ids)),
            ignore_eos=bool(given),
            steering=Steering(
                gate=name,
                gate_params=params,
                takeover_tokens=options.takeover_tokens,
                draft_tokens=min(options.draft_tokens, most_drafted),
                trace=min(max(1, options.k), self._vocab_size),
                seed=job.sample_seed,
                position=len(job.prefix_ids),
                history=job.prefix.scores if job.prefix is not None else (),
                base_input_ids=() if base_ids == reasoning_ids else base_ids,
                given=given,
            ),
        )


class _Growing:
    """The trace of a sample that a fused server writes, taken over from its records piece by piece.

    Args:
        trace: empty.
        job: the sample.
        gate: as the server has it, to check what it decided.
        k: length of the lists in the records.
        vocab_size: of both models.
        server: its name, for messages.
    """

    def __init__(self, trace: TraceBuilder, job: SampleJob, gate: Gate, k: int, vocab_size: int, server: str) -> None:
        self._trace, self._gate, self._k, self._vocab_size, self._server = trace, gate, k, vocab_size, server
        self._state, self._start, self._given = begin_after(job, gate), len(job.prefix_ids), job.given
        trace.measured = np.empty((0, len(METRICS)))

    def take(self, answer: GuidedAnswer) -> None:
        """Add an answer's tokens.

        Raises:
            EndpointError: its records cannot be read, or contradict the gate.
        """
        trace = self._trace
        assert trace.measured is not None
        records = self._read(answer)
        if len(records):
            self._emit(token_ids(answer.output_ids, self._vocab_size).tolist(), records)
            trace.measured = np.concatenate([trace.measured, records["metrics"]])
            trace.scored += int(records["drafted"].sum())
            if self._given is None:
                trace.drafted, trace.discarded = trace.scored, trace.scored - len(trace)
            base = int(records["base_prompt_tokens"][0]), int(records["base_cached_tokens"][0])
            trace.base_calls = CallTotals(1, 0.0, *base, base)
        reasoning = answer.prompt_tokens, answer.cached_tokens
        trace.reasoning_calls = CallTotals(1, answer.elapsed_ms, *reasoning, reasoning)
        if answer.finish is not None and self._given is not None:
            trace.finish(self._given.finish_reason)
        elif answer.finish is not None:
            trace.finish("stop" if answer.finish == "stop" else "length")

    def _read(self, answer: GuidedAnswer) -> NDArray[np.void]:
        try:
            records = decode(answer.records, self._k)
            if len(records) != len(answer.output_ids) or (answer.finish and len(records) + len(self._trace) == 0):
                raise ValueError(f"{len(records)} records for {len(answer.output_ids)} tokens")
            drawn = np.maximum(records["reasoning_token"], 0)  # -1 where it was not asked
            for ids in (answer.output_ids, records["base_token"], records["base_ids"], records["reasoning_ids"], drawn):
                token_ids(ids, self._vocab_size)
        except UNREADABLE as error:
            raise self._unreadable(error) from error
        return records

    def _unreadable(self, error: Exception) -> EndpointError:
        return EndpointError(
            f"{self._server} told what cannot be read of its tokens: {error}.",
            "Are the server's and this installation of the same version?",
        )

    def _emit(self, tokens: Sequence[int], records: NDArray[np.void]) -> None:
        gate, start = self._gate, self._start + len(self._trace)
        sides = {
            side: Distributions(
                np.ascontiguousarray(records[f"{side}_ids"]),
                np.ascontiguousarray(records[f"{side}_logprobs"]),
                self._vocab_size,
            )
            for side in ("base", "reasoning")
        }
        threshold = gate.rule.tau if gate.rule is not None else math.inf
        for row, (token, record) in enumerate(zip(tokens, records, strict=True)):
            if record["kept"]:
                try:
                    decision = self._state.decide(start + row, float(record["score"]))
                except ValueError as error:
                    raise self._unreadable(error) from error
            else:
                decision = Decision(False, math.nan, threshold, None, "relayed")
            if decision.fired != bool(record["fired"]):
                raise EndpointError(
                    f"{self._server} decided otherwise at position {start + row} than its own score says.",
                    "Are the server's and this installation of the same version?",
                )
            by_reasoning = decision.fired or not record["kept"]
            asked = by_reasoning or gate.needs_reasoning
            self._trace.emit(
                [token],
                [decision],
                source="reasoning" if by_reasoning else "base",
                base=sides["base"][row : row + 1] if record["kept"] else None,
                reasoning=sides["reasoning"][row : row + 1] if asked else None,
                base_token_ids=[int(record["base_token"])] if record["kept"] and self._given is None else None,
                reasoning_token_ids=[int(record["reasoning_token"])] if by_reasoning else None,
                base_logprobs=[float(record["base_logprob"])] if record["kept"] else None,
                reasoning_logprobs=[float(record["reasoning_logprob"])] if asked else None,
                seen=True,
            )


def as_data(gate: Gate) -> tuple[str, Mapping[str, Json]]:
    """A gate as a name and parameters: one of ours as the store has it, one of somebody's own by its class.

    Raises:
        UsageError: it is neither ours nor was it named.
    """
    if gate.made_of is not None:
        return gate.made_of
    params = gate.identity
    with contextlib.suppress(UsageError):
        if type(gate_of(gate.name, params)) is type(gate):
            return gate.name, params
    raise UsageError(
        f"The gate {gate.name} is not made of a name and parameters alone: one server for both models cannot be told it.",
        f"Serve the models as two servers (`{command('serve')}`), or name a class of your own: {argument('gate')}.",
    )
