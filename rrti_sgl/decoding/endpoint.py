"""Samples through an endpoint of ours: one completion each, and of its packed trace the one that the servers give."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from rrti_sgl.decoding.fused import as_data
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.packed_trace import unpack
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.endpoint import EndpointSide, unreadable
from rrti_sgl.engines.wire import UNREADABLE, longest_answer
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.science.gates import Gate

# What counts the samples at the endpoint, by their gate.
_PROGRAMS = {"never": "diagnose", "always": "reasoning", "entropy": "entropy", "random": "random", "early": "early"}


class EndpointDecoding:
    """A `GuidedEngine` on an endpoint, which stores nothing of these samples.

    Args:
        endpoint: a side of it.
        vocab_size: of both models.
    """

    def __init__(self, endpoint: EndpointSide, vocab_size: int) -> None:
        self._endpoint, self._vocab_size = endpoint, vocab_size

    async def decode(
        self, job: SampleJob, gate: Gate, options: DecodeOptions, *, streamed: bool
    ) -> AsyncGenerator[TraceBuilder, None]:
        """One request for the whole sample; its trace comes once, finished, whether or not pieces are waited for.

        Raises:
            UsageError: what does not go through an endpoint, by name.
            EndpointError: it refused the request or failed.
        """
        body = sample_request(job, gate, options)
        trace = TraceBuilder(options.k, gate)
        limit = options.max_new_tokens
        packed = await self._endpoint.sample(body, longest_answer(limit, 2 * options.k), limit)
        try:
            unpack(packed, trace, self._vocab_size)
            if not 1 <= len(trace) <= limit:
                raise ValueError(f"{len(trace)} tokens where 1 to {limit} were asked for")
        except UNREADABLE as error:
            raise unreadable(self._endpoint.info.name, error) from error
        yield trace


def sample_request(job: SampleJob, gate: Gate, options: DecodeOptions) -> dict[str, object]:
    """The body of a completion that asks an endpoint for a sample.

    Raises:
        UsageError: what does not go through an endpoint, by name.
    """
    servers = f"Name the servers: {argument('base_url')} and {argument('reasoning_url')}."
    for refused, what in (
        (job.given is not None, "Scores of given texts do"),
        (job.prefix is not None, "A sample with a given beginning (counterfactual) does"),
        (options.loop == "lockstep", "Lockstep decoding does"),
        (options.exact, f"The servers' exact numbers ({argument('score_kind', 'plugin')}) do"),
        (gate.made_of is not None, f"A gate of your own ({gate.name}) does"),
    ):
        if refused:
            raise UsageError(f"{what} not go through an endpoint.", servers)
    name, params = as_data(gate)
    return {
        "model": _PROGRAMS.get(name, "guided"),
        "prompt": list(job.base_prompt_ids),
        "max_tokens": options.max_new_tokens,
        "temperature": options.sampling.temperature,
        "top_p": options.sampling.top_p,
        "seed": job.seed,
        "rrti": {
            "sample": {
                "gate": name,
                "gate_params": dict(params),
                "reasoning_prompt": list(job.reasoning_prompt_ids),
                "k": options.k,
                "draft_tokens": options.draft_tokens,
                "paced": options.paced,
                "takeover_tokens": options.takeover_tokens,
                "problem_id": job.problem.problem_id,
                "sample_index": job.sample_index,
            }
        },
    }
