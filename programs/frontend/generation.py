"""One `gen`: a sample decoded under the gate, with its text cut at a stop string and its trace cut with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rrti_sgl.decoding.chunked import ChunkedSample
from rrti_sgl.decoding.job import Call, DecodeOptions, Generator, Role, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.endpoint import Batcher
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.programs.frontend.alone import ReasoningAlone
from rrti_sgl.science.gates import AlwaysGate, Gate
from rrti_sgl.tokens.generated_text import GeneratedText

OnText = Callable[[str], None]


@dataclass(slots=True)
class Decoded:
    """A finished sample: its trace, its text, and each server's answer to its first request about it."""

    job: SampleJob
    trace: TraceBuilder
    text: GeneratedText
    first: dict[Role, Generation] = field(default_factory=dict)

    @property
    def meta_info(self) -> dict[str, Any]:
        """What `state.get_meta_info` gives: SGLang's names, and where the sample is in the store.

        `prompt_tokens` and `cached_tokens` are of the base model's first call, so a prompt that was in its radix cache has
        `cached_tokens = prompt_tokens - 1`; `reasoning_*` are the same of the reasoning model, whose first call holds the
        first draft after the prompt. Absent where a model was not asked.
        """
        trace, matched = self.trace, self.text.matched
        finish: dict[str, Any] = {"type": trace.finish_reason}
        if trace.finish_reason == "stop":
            finish["matched"] = trace.token_ids[-1] if matched is None else matched
        else:
            finish["length"] = len(trace)
        info: dict[str, Any] = {
            "id": self.job.sample_id,
            "run_id": self.job.run_id,
            "sample_id": self.job.sample_id,
            "problem_id": self.job.problem.problem_id,
            "sample_index": self.job.sample_index,
            "finish_reason": finish,
            "completion_tokens": len(trace),
            "takeovers": trace.sources.count("reasoning"),
        }
        for role, prefix in (("base", ""), ("reasoning", "reasoning_")):
            if role in self.first:
                info[f"{prefix}prompt_tokens"] = self.first[role].prompt_tokens
                info[f"{prefix}cached_tokens"] = self.first[role].cached_tokens
        return info


async def generate(
    job: SampleJob,
    gate: Gate,
    options: DecodeOptions,
    text: GeneratedText,
    servers: Mapping[Role, Batcher],
    on_text: OnText | None = None,
) -> Decoded:
    """Decode one sample until an end token, a stop string or the length limit.

    Args:
        job: the sample.
        gate: decides where the reasoning model takes over.
        options: how to decode.
        text: empty; takes the tokens and knows the stop strings.
        servers: where requests go.
        on_text: called with each piece of text as soon as nothing can take it back.

    Raises:
        EndpointError: a server failed.
    """
    sample: Generator
    sample = ReasoningAlone(job, gate, options) if isinstance(gate, AlwaysGate) else ChunkedSample(job, gate, options)
    decoded, shown = Decoded(job, sample.trace, text), 0
    while (call := sample.next_call()) is not None:
        answer = await servers[call.role].generate(call.request)
        decoded.first.setdefault(call.role, answer)
        sample.receive(answer)
        if text.add(sample.trace.token_ids[len(text) :]):
            break
        if on_text is not None and len(settled := text.settled) > shown:
            on_text(settled[shown:])
            shown = len(settled)
    if text.matched is not None:
        truncate(sample.trace, len(text))
        await _settle(job, sample.trace, servers)
        sample.trace.finish("stop")
    text.finish()
    if on_text is not None and len(text.text) > shown:
        on_text(text.text[shown:])
    return decoded


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
    ):
        del column[n:]
    for rows in (trace.base, trace.reasoning):
        gathered = rows.gathered()
        if gathered is not None:
            kept = sum(position < n for position in rows.positions)  # positions ascend
            rows.positions, rows.parts = rows.positions[:kept], [gathered[:kept]] if kept else []
    trace.discarded = trace.drafted - sum(drawn >= 0 for drawn in trace.base_token_ids)


async def _settle(job: SampleJob, trace: TraceBuilder, servers: Mapping[Role, Batcher]) -> None:
    """Ask for the base model's log-probability of a last takeover token, if its top k did not hold it."""
    if trace.base_token_ids[-1] < 0 or not math.isnan(trace.base_logprobs[-1]):
        return
    ids = [*job.base_prompt_ids, *trace.token_ids]
    call = Call("base", GenerateRequest(ids, max_new_tokens=0, k=1, score_from=len(ids) - 1))
    answer = await servers[call.role].generate(call.request)
    trace.base_calls.add(answer)
    trace.with_base_logprob(len(trace) - 1, float(answer.input_logprobs[-1]))
