"""One pair, kept open: everything that every way of decoding needs, and nothing of problems, grading or stores.

`PairSession` batches what many samples ask for at the same time, prefills shared beginnings once, asks the servers what can
only be found out by trying, and bounds what is in flight. The runner, `score`, `counterfactual`, SGLang's frontend and the
notebook are its users: they hand over jobs with a gate and get traces, or the events of one sample.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from rrti_sgl import bounds
from rrti_sgl.decoding.draft_pace import DraftPace
from rrti_sgl.decoding.driving import events, grow
from rrti_sgl.decoding.events import Event, Finished
from rrti_sgl.decoding.guided import guided_by
from rrti_sgl.decoding.guided_engine import GuidedEngine
from rrti_sgl.decoding.job import Call, DecodeOptions, Role, SampleJob
from rrti_sgl.engines.batching import Batcher
from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.pair import Pair, check_raw_logprobs, connect
from rrti_sgl.engines.plugin_numbers import check_exact
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError, UsageError, argument
from rrti_sgl.fused.pacing import OfGates
from rrti_sgl.science.gates import AlwaysGate, Gate, NeverGate
from rrti_sgl.tokens.generated_text import GeneratedText

TWO_GROUPS_FROM = 64  # samples in flight; by measurement, see docs/performance.md
_REMEMBERED_PREFILLS = 256
_ROLES: tuple[Role, Role] = ("base", "reasoning")


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

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= bounds.IN_FLIGHT:
            raise UsageError(
                f"{argument('in_flight', self.samples)} is out of bounds.", f"Use 1 to {bounds.IN_FLIGHT} samples."
            )

    @property
    def batch(self) -> int:
        """Most sequences in one call."""
        return self.max_batch or (self.samples if self.samples < TWO_GROUPS_FROM else self.samples // 2)


class PairSession:
    """A pair at work; an async context manager, which does not close the pair. Belongs to one event loop.

    Args:
        pair: two engines.
        concurrency: how much goes on at once.
        guided: an engine that decodes whole samples itself, in place of the pair's two; None takes the pair's, if its two
            models are in one server.
    """

    def __init__(self, pair: Pair, concurrency: Concurrency | None = None, guided: GuidedEngine | None = None) -> None:
        self.pair = pair
        self.concurrency = concurrency or Concurrency()
        self._guided = guided or guided_by(pair)
        self._slots = asyncio.Semaphore(self.concurrency.samples)
        self._open = AsyncExitStack()
        self._batchers: dict[tuple[Role, bool], Batcher] = {}
        self._paces = OfGates(DraftPace)
        self._probing = asyncio.Lock()
        self._probed: set[str] = set()
        self._prefills: OrderedDict[tuple[tuple[Role, tuple[int, ...]], ...], asyncio.Task[None]] = OrderedDict()

    async def __aenter__(self) -> Self:
        limits = self.concurrency
        for role in _ROLES:
            # Whole solutions go out one by one, so that the server's own continuous batching fills the gaps as they finish;
            # short drafts go out together, because a server works best on few and full batches.
            for whole, max_batch, max_calls in ((True, 1, limits.samples), (False, limits.batch, 1)):
                batcher = Batcher(self._engine(role), max_batch=max_batch, max_calls=max_calls)
                self._batchers[role, whole] = await self._open.enter_async_context(batcher)
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._open.aclose()

    async def run(self, jobs: Iterable[SampleJob], gate: Gate, options: DecodeOptions) -> AsyncGenerator[Finished, None]:
        """Decode all jobs and yield each sample as soon as it is finished, in the order in which they finish.

        The consumer sets the pace: no new sample starts while as many as may be in flight are finished and not taken.

        Raises:
            EndpointError: an engine failed for good; the samples yielded before are whole.
        """
        await self.check(options)
        finished: asyncio.Queue[Finished | None] = asyncio.Queue(maxsize=self.concurrency.samples)
        remaining = iter(jobs)

        async def work() -> None:
            for job in remaining:  # the iterator is shared by all workers; each job is taken once
                await finished.put(await self._finish(job, gate, options))

        async def work_all() -> None:
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(self.concurrency.samples):
                        workers.create_task(work())
            except ExceptionGroup as group:  # by except*, Python before 3.11.4 would raise a group again
                raise _first_error(group) from None

        async def drive_all() -> None:
            try:
                await work_all()
            except asyncio.CancelledError:
                raise  # nobody takes samples any more: a full queue would never have room for the end
            except BaseException:
                await finished.put(None)
                raise
            await finished.put(None)

        driver = asyncio.create_task(drive_all())
        try:
            while (item := await finished.get()) is not None:
                yield item
            await driver
        finally:
            driver.cancel()
            await asyncio.gather(driver, return_exceptions=True)

    async def stream(
        self,
        job: SampleJob,
        gate: Gate,
        options: DecodeOptions,
        text: GeneratedText | None = None,
        *,
        streamed: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """Decode one sample and yield what is settled as it is, at the end `Finished`.

        Closing the generator, or cancelling who waits for it, ends the work on the servers.

        Args:
            job: the sample.
            gate: decides where the reasoning model takes over.
            options: how to decode; a stream moves on in pieces of `draft_tokens`.
            text: takes the tokens; its stop strings end the sample, and its text comes in `TextSettled`.
            streamed: whether somebody waits for pieces; a server that decodes whole samples then gives them.

        Raises:
            EndpointError: an engine failed for good.
        """
        await self.check(options)
        async with self._slots, aclosing(self._events(job, gate, options, text, streamed=streamed)) as settled:
            async for event in settled:
                yield event

    async def check(self, options: DecodeOptions) -> None:
        """What only trying can tell of the engines, each once: raw log-probabilities where tokens are drawn, exact numbers.

        Raises:
            EndpointError: names the engine and what to start it with.
        """
        if options.exchanged:
            self.pair.exchanged()
        if self._guided is not None:
            return  # it says itself what it cannot do
        if not options.sampling.greedy:
            await self._probe("raw log-probabilities", check_raw_logprobs)
        if options.exact:
            await self._probe("exact numbers", check_exact)

    async def prefill(
        self, base_ids: Sequence[int], reasoning_ids: Sequence[int], gate: Gate, *, exchanged: bool = False
    ) -> None:
        """Put a beginning into the prefix caches of the models that the gate will ask; once, however many ask for it.

        Where the roles are exchanged, the reasoning model is shown the `base_ids`.

        An engine that decodes whole samples itself is asked for nothing else.
        """
        if self._guided is not None:
            return
        shown: dict[Role, tuple[int, ...]] = {"base": tuple(base_ids), "reasoning": tuple(reasoning_ids)}
        if isinstance(gate, AlwaysGate):
            del shown["base"]
        elif isinstance(gate, NeverGate) and not gate.needs_reasoning:
            del shown["reasoning"]
        if not all(shown.values()):
            return
        key = tuple((_in_role(role, exchanged), ids) for role, ids in shown.items())
        if key not in self._prefills:
            requests = [(role, GenerateRequest(ids, 0, k=0)) for role, ids in key]
            self._prefills[key] = asyncio.create_task(self._prefill(requests))
            while len(self._prefills) > _REMEMBERED_PREFILLS:
                self._prefills.popitem(last=False)
        try:
            await asyncio.shield(self._prefills[key])
        except EndpointError:
            self._prefills.pop(key, None)
            raise

    async def ask(self, role: Role, request: GenerateRequest, *, whole: bool = False) -> Generation:
        """One request to one model, batched with what others ask at the same time.

        Args:
            role: which model.
            request: what to ask.
            whole: a whole solution, which goes out by itself.
        """
        return await self._batchers[role, whole].generate(request)

    async def flush(self) -> None:
        """Empty both engines' prefix caches."""
        self._prefills.clear()
        await asyncio.gather(*(self._engine(role).flush() for role in _ROLES))

    def _engine(self, role: Role) -> Engine:
        return self.pair.base if role == "base" else self.pair.reasoning

    async def _finish(self, job: SampleJob, gate: Gate, options: DecodeOptions) -> Finished:
        if job.prefix is not None and not options.sampling.greedy:  # several continuations begin with it
            await self.prefill(job.base_ids(()), job.reasoning_ids(()), gate, exchanged=options.exchanged)
        async with self._slots, aclosing(self._events(job, gate, options)) as settled:
            async for event in settled:
                if isinstance(event, Finished):
                    return event
        raise EndpointError(f"Sample {job.sample_id} came to no end.", "See the servers' logs.")

    async def _events(
        self,
        job: SampleJob,
        gate: Gate,
        options: DecodeOptions,
        text: GeneratedText | None = None,
        *,
        streamed: bool = False,
    ) -> AsyncGenerator[Event, None]:
        whole = options.whole or options.loop == "lockstep"

        async def ask(call: Call) -> Generation:
            role = _in_role(call.role, options.exchanged)
            return await self.ask(role, replace(call.request, sequence_key=job.sample_id), whole=whole)

        if self._guided is None:
            growing = grow(job, gate, options, ask, self._paces.of(gate) if options.paced else None)
        else:
            growing = self._guided.decode(job, gate, options, streamed=streamed)
        async with aclosing(events(job, growing, ask, text)) as settled:
            async for event in settled:
                yield event

    async def _probe(self, name: str, probe: Callable[[Engine], Awaitable[None]]) -> None:
        async with self._probing:
            if name not in self._probed:
                for role in _ROLES:
                    await probe(self._engine(role))
                self._probed.add(name)

    async def _prefill(self, requests: Sequence[tuple[Role, GenerateRequest]]) -> None:
        await asyncio.gather(*(self.ask(role, request) for role, request in requests))


def _in_role(role: Role, exchanged: bool) -> Role:
    """Which model of the pair is asked what a sample asks of a role."""
    return role if not exchanged else "reasoning" if role == "base" else "base"


def _first_error(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first error that caused a group of failures."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)
    return error


@asynccontextmanager
async def open_session(
    base_url: str, reasoning_url: str, concurrency: Concurrency | None = None, **connecting: Any
) -> AsyncIterator[PairSession]:
    """A session on two running servers.

    Args:
        base_url, reasoning_url: their addresses.
        concurrency: how much goes on at once.
        connecting: further arguments of `rrti_sgl.engines.pair.connect`.

    Raises:
        RRTIError: see `connect`.
    """
    async with connect(base_url, reasoning_url, **connecting) as pair, PairSession(pair, concurrency) as session:
        yield session
