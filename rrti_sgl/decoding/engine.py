"""Runs many samples at once over a pair, in bounded memory, and hands over each as soon as it is finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal

from rrti_sgl.decoding.chunked import ChunkedSample, ReasoningSample
from rrti_sgl.decoding.job import DecodeOptions, Generator, SampleJob
from rrti_sgl.decoding.lockstep import decode_lockstep
from rrti_sgl.decoding.scored import ScoredSample
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.endpoint import SEQUENCE_KEY, Batcher
from rrti_sgl.engines.pair import Pair
from rrti_sgl.science.gates import AlwaysGate, Gate

Decoding = Literal["chunked", "lockstep"]
Finished = tuple[SampleJob, TraceBuilder]


TWO_GROUPS_FROM = 64  # samples in flight; by measurement, see docs/performance.md


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How much goes on at once.

    Args:
        samples: samples in flight.
        max_batch: most sequences in one call to a server; None takes all samples in flight, or from 64 samples on half
            of them, so that one half is drafted while the other is scored.
    """

    samples: int = 64
    max_batch: int | None = None

    @property
    def batch(self) -> int:
        """Most sequences in one call."""
        return self.max_batch or (self.samples if self.samples < TWO_GROUPS_FROM else self.samples // 2)


async def decode(
    pair: Pair,
    jobs: Iterable[SampleJob],
    gate: Gate,
    options: DecodeOptions,
    *,
    decoding: Decoding = "chunked",
    concurrency: Concurrency | None = None,
) -> AsyncGenerator[Finished, None]:
    """Decode all jobs and yield each finished sample with its trace, in the order in which they finish.

    The consumer sets the pace: no new sample starts while `samples` of them are finished and not taken.

    Raises:
        EndpointError: a server failed for good; the samples yielded before are whole.
    """
    concurrency = concurrency or Concurrency()
    finished: asyncio.Queue[Finished | None] = asyncio.Queue(maxsize=concurrency.samples)
    remaining = iter(jobs)
    async with AsyncExitStack() as stack:
        decode_one = await _decoder(stack, pair, gate, options, decoding, concurrency)

        async def work() -> None:
            for job in remaining:  # the iterator is shared by all workers; each job is taken once
                SEQUENCE_KEY.set(job.sample_id)
                await finished.put((job, await decode_one(job)))

        async def work_all() -> None:
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(concurrency.samples):
                        workers.create_task(work())
            except* Exception as group:
                raise _first_error(group) from None

        async def drive() -> None:
            try:
                await work_all()
            except asyncio.CancelledError:
                raise  # nobody takes samples any more: a full queue would never have room for the end
            except BaseException:
                await finished.put(None)
                raise
            await finished.put(None)

        driver = asyncio.create_task(drive())
        try:
            while (item := await finished.get()) is not None:
                yield item
            await driver
        finally:
            driver.cancel()
            await asyncio.gather(driver, return_exceptions=True)


async def _decoder(
    stack: AsyncExitStack, pair: Pair, gate: Gate, options: DecodeOptions, decoding: Decoding, concurrency: Concurrency
) -> Callable[[SampleJob], asyncio.Future[TraceBuilder]]:
    """Choose the loop for one sample, with the batching that suits it."""
    if decoding == "lockstep":
        return lambda job: asyncio.ensure_future(decode_lockstep(job, gate, pair, options))
    whole_solutions = options.draft_tokens >= options.max_new_tokens
    # Whole solutions go out one by one, so that the server's own continuous batching fills the gaps as they finish; short
    # drafts go out together, because a server works best on few and full batches.
    batches = (1, concurrency.samples) if whole_solutions else (concurrency.batch, 1)
    servers = {
        "base": await stack.enter_async_context(Batcher(pair.base, max_batch=batches[0], max_calls=batches[1])),
        "reasoning": await stack.enter_async_context(Batcher(pair.reasoning, max_batch=batches[0], max_calls=batches[1])),
    }

    async def decode_chunked(job: SampleJob) -> TraceBuilder:
        sample = _sample(job, gate, options)
        while (call := sample.next_call()) is not None:
            sample.receive(await servers[call.role].generate(call.request))
        return sample.trace

    return lambda job: asyncio.ensure_future(decode_chunked(job))


def _sample(job: SampleJob, gate: Gate, options: DecodeOptions) -> Generator:
    """What drives one sample: its continuation is given, or written by the reasoning model alone, or by both."""
    if job.given is not None:
        return ScoredSample(job, job.given, gate, options)
    return (ReasoningSample if isinstance(gate, AlwaysGate) else ChunkedSample)(job, gate, options)


def _first_error(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first error that caused a group of failures."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error
