"""Decodes jobs on a pair, as every way of decoding does: through a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.science.gates import Gate


async def decode(
    pair: Pair,
    jobs: Sequence[SampleJob],
    gate: Gate,
    options: DecodeOptions,
    *,
    loop: Decoding = "chunked",
    concurrency: Concurrency | None = None,
) -> list[TraceBuilder]:
    """The finished traces, in the order of the jobs."""
    async with PairSession(pair, concurrency) as session:
        found = session.run(jobs, gate, replace(options, loop=loop))
        traces = {sample.job.sample_id: sample.trace async for sample in found}
    return [traces[job.sample_id] for job in jobs]
