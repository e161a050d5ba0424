"""Samples of a server that holds both models: one request each, and of its records the trace that two servers give."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.decoding.chunked import begin_after
from rrti_sgl.decoding.guided_engine import GuidedEngine
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import CallTotals, TraceBuilder
from rrti_sgl.engines.fused_server import FusedServer, FusedSide, GuidedAnswer, GuidedRequest
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import EndpointError, UsageError, argument, command
from rrti_sgl.fused.protocol import Steering, decode
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Decision, Gate, gate_of


def guided_by(pair: Pair) -> GuidedEngine | None:
    """What decodes whole samples of a pair; None where its models are two servers'."""
    return FusedDecoding(pair.base.server, pair.vocab_size) if isinstance(pair.base, FusedSide) else None


class FusedDecoding:
    """A `GuidedEngine` on a fused server.

    Args:
        server: that holds both models.
        vocab_size: of both.
    """

    def __init__(self, server: FusedServer, vocab_size: int) -> None:
        self._server, self._vocab_size = server, vocab_size

    async def decode(self, job: SampleJob, gate: Gate, options: DecodeOptions) -> AsyncGenerator[TraceBuilder, None]:
        """One request for the whole sample; its trace comes once, finished.

        Raises:
            UsageError: a given text, which no server of this kind scores, or lockstep decoding.
            EndpointError: the server refused the request or failed.
        """
        if job.given is not None:
            raise UsageError(
                "A server that holds both models scores no given texts.",
                f"Serve the models as two servers (`{command('serve')}`).",
            )
        if options.loop == "lockstep":
            raise UsageError(
                "Lockstep decoding needs two servers.", f"Leave {argument('decoding')} out, or use `{command('serve')}`."
            )
        trace = TraceBuilder(options.k, gate)
        if (reason := job.ends_with_its_beginning(options)) is not None:
            trace.finish(reason)
            yield trace
            return
        trace_k = min(max(1, options.k), self._vocab_size)
        answer = await self._server.generate(self._request(job, gate, options, trace_k))
        try:
            records = decode(answer.records, trace_k)
            if len(records) != len(answer.output_ids) or not len(records):
                raise ValueError(f"{len(records)} records for {len(answer.output_ids)} tokens")
        except ValueError as error:
            raise EndpointError(
                f"{self._server.info.name} told what cannot be read of its tokens: {error}.",
                "Are the server's and this installation of the same version?",
            ) from error
        self._fill(trace, job, gate, options, answer, records)
        yield trace

    def _request(self, job: SampleJob, gate: Gate, options: DecodeOptions, trace_k: int) -> GuidedRequest:
        name, params = _as_data(gate)
        base_ids, reasoning_ids = job.base_ids(()), job.reasoning_ids(())
        return GuidedRequest(
            input_ids=reasoning_ids,
            max_new_tokens=options.max_new_tokens - len(job.prefix_ids),
            sampling=options.sampling,
            stop_token_ids=tuple(sorted(options.stop_token_ids)),
            steering=Steering(
                gate=name,
                gate_params=params,
                takeover_tokens=options.takeover_tokens,
                draft_tokens=min(options.draft_tokens, self._server.draft_tokens),
                trace=trace_k,
                seed=job.sample_seed,
                position=len(job.prefix_ids),
                history=job.prefix.scores if job.prefix is not None else (),
                base_input_ids=() if base_ids == reasoning_ids else base_ids,
            ),
        )

    def _fill(
        self,
        trace: TraceBuilder,
        job: SampleJob,
        gate: Gate,
        options: DecodeOptions,
        answer: GuidedAnswer,
        records: NDArray[np.void],
    ) -> None:
        state, start = begin_after(job, gate), len(job.prefix_ids)
        sides = {
            side: Distributions(
                np.ascontiguousarray(records[f"{side}_ids"]),
                np.ascontiguousarray(records[f"{side}_logprobs"]),
                self._vocab_size,
            )
            for side in ("base", "reasoning")
        }
        threshold = gate.rule.tau if gate.rule is not None else math.inf
        for row, (token, record) in enumerate(zip(answer.output_ids, records, strict=True)):
            if record["kept"]:
                decision = state.decide(start + row, float(record["score"]))
            else:
                decision = Decision(False, math.nan, threshold, None, "relayed")
            if decision.fired != bool(record["fired"]):
                raise EndpointError(
                    f"{self._server.info.name} decided otherwise at position {start + row} than its own score says.",
                    "Are the server's and this installation of the same version?",
                )
            by_reasoning = decision.fired or not record["kept"]
            asked = by_reasoning or gate.needs_reasoning
            trace.emit(
                [token],
                [decision],
                source="reasoning" if by_reasoning else "base",
                base=sides["base"][row : row + 1] if record["kept"] else None,
                reasoning=sides["reasoning"][row : row + 1] if asked else None,
                base_token_ids=[int(record["base_token"])] if record["kept"] else None,
                reasoning_token_ids=[int(record["reasoning_token"])] if by_reasoning else None,
                base_logprobs=[float(record["base_logprob"])] if record["kept"] else None,
                reasoning_logprobs=[float(record["reasoning_logprob"])] if asked else None,
                seen=True,
            )
        trace.measured = records["metrics"].astype(np.float64)
        trace.drafted = trace.scored = int(records["drafted"].sum())
        trace.discarded = trace.drafted - len(records)
        trace.base_calls = _totals(0.0, int(records["base_prompt_tokens"][0]), int(records["base_cached_tokens"][0]))
        trace.reasoning_calls = _totals(answer.elapsed_ms, answer.prompt_tokens, answer.cached_tokens)
        trace.finish("stop" if answer.stopped else "length")


def _as_data(gate: Gate) -> tuple[str, dict[str, object]]:
    """A gate as a name and parameters: one of ours as the store has it, one of somebody's own by its class."""
    params = dict(gate.params())
    try:
        if type(gate_of(gate.name, params)) is type(gate):
            return gate.name, params
    except UsageError:
        pass
    return f"{type(gate).__module__}:{type(gate).__qualname__}", params


def _totals(elapsed_ms: float, prompt_tokens: int, cached_tokens: int) -> CallTotals:
    """Of the one request that a sample is."""
    return CallTotals(1, elapsed_ms, prompt_tokens, cached_tokens, (prompt_tokens, cached_tokens))
