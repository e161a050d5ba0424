"""How the samples of a run are shared out among pairs that come, fail and go: in leases, the first to finish a lease counts.

Nothing here knows of Ray, servers or files. A pair is a `Member`, what it finishes it has made durable, and what it loses
comes back and is given to others. Leases get smaller as less is left, so that the pairs end at about the same time.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.errors import EndpointError, RRTIError
from rrti_sgl.records import SampleRecord

logger = logging.getLogger(__name__)

LANES = 8  # leases that a pair has at once: while one has its longest sample left, the others fill its batch
_LOSSES = 5  # of one lease: then it is not the pairs that are to blame


@dataclass(frozen=True, slots=True)
class Counted:
    """What is told of a finished sample whose tokens are elsewhere."""

    sample_id: str
    n_tokens: int
    n_takeovers: int
    correct: bool | None

    @classmethod
    def of(cls, sample: SampleRecord) -> Counted:
        """Of its record."""
        return cls(sample.sample_id, sample.n_tokens, sample.n_takeovers, sample.correct)


class LostError(EndpointError):
    """A pair failed while it had a lease, and may come up again."""


class GoneError(EndpointError):
    """A pair failed and does not come up again."""


class Member(Protocol):
    """A pair that takes leases."""

    async def ready(self) -> None:
        """Return once it can take leases; called at first, and after each loss.

        Raises:
            GoneError: it never will.
        """

    async def work(self, jobs: Sequence[SampleJob]) -> list[Counted]:
        """Decode samples and make them durable; cancelling ends the work.

        Raises:
            LostError: it failed; others are to be asked.
            GoneError: likewise, and it takes no lease again.
            RRTIError: nobody need be asked again.
        """


@dataclass(eq=False)
class Lease:
    """Some samples that one pair is to make, or several of which the first counts."""

    jobs: Sequence[SampleJob]
    losses: int = 0
    calls: dict[asyncio.Task[list[Counted]], Member] = field(default_factory=dict)


async def share_out(
    jobs: Sequence[SampleJob],
    members: Sequence[Member],
    *,
    most: int,
    twice: bool,
    durable: Callable[[], Awaitable[Collection[str]]],
    on_finished: Callable[[Sequence[Counted]], None],
) -> None:
    """Have every sample made by some member.

    Args:
        jobs: the samples.
        members: the pairs; those that are not ready yet join when they are.
        most: samples of the largest lease.
        twice: give what is under way to a member that has nothing else to do, too. Only where the samples are the same
            whoever makes them: where they are drawn anew, the first to finish would be the shorter one.
        durable: ids of the samples that are there, asked for when a member was lost: it may have kept some of its lease.
        on_finished: called with the samples of each finished lease.

    Raises:
        RRTIError: of a member, where no other one can help; of the last member where all are gone.
    """
    book = _Book(jobs, len(members), most, twice, durable, on_finished)
    lanes = [asyncio.create_task(book.lane(member)) for member in members for _ in range(LANES)]
    over = asyncio.create_task(book.over.wait())
    waiting: set[asyncio.Task[object]] = {over, *lanes}
    try:
        while not over.done():
            if waiting == {over}:
                raise book.error or EndpointError("No pair is left.", "Run it again: it goes on.")
            finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
    finally:
        for task in (over, *lanes):
            task.cancel()
        await asyncio.gather(over, *lanes, return_exceptions=True)


class _Book:
    """What is waiting, what is out with whom, and how much is left. See `share_out` for the arguments."""

    def __init__(
        self,
        jobs: Sequence[SampleJob],
        n_members: int,
        most: int,
        twice: bool,
        durable: Callable[[], Awaitable[Collection[str]]],
        on_finished: Callable[[Sequence[Counted]], None],
    ) -> None:
        self._jobs, self._most, self._n_lanes = deque(jobs), most, n_members * LANES
        self._twice, self._durable, self._on_finished = twice, durable, on_finished
        self._returned: deque[Lease] = deque()
        self._out: dict[Lease, None] = {}  # in the order in which they went out
        self._changed = asyncio.Condition()
        self.over = asyncio.Event()
        self.error: RRTIError | None = None
        if not jobs:
            self.over.set()

    async def lane(self, member: Member) -> None:
        """Let a member work on one lease after another; ends when the member is gone."""
        try:
            await member.ready()
            while True:
                lease = await self._next(member)
                call = asyncio.create_task(member.work(lease.jobs))
                lease.calls[call] = member
                try:
                    await asyncio.wait({call})
                finally:
                    del lease.calls[call]
                    call.cancel()
                if call.cancelled():  # another one finished it first
                    continue
                error = call.exception()
                if isinstance(error, LostError | GoneError):
                    await self._take_back(lease, error)
                    if isinstance(error, GoneError):
                        raise error
                    await member.ready()
                else:
                    await self._finish(lease, call.result())
        except GoneError as error:
            logger.warning("%s", error)
            self.error = error

    async def _next(self, member: Member) -> Lease:
        async with self._changed:
            while (lease := self._take(member)) is None:
                await self._changed.wait()
            self._out[lease] = None
            return lease

    def _take(self, member: Member) -> Lease | None:
        if self._returned:
            return self._returned.popleft()
        if self._jobs:
            size = min(self._most, math.ceil(len(self._jobs) / self._n_lanes))
            return Lease([self._jobs.popleft() for _ in range(size)])
        if self._twice and not any(member in lease.calls.values() for lease in self._out):
            return next((lease for lease in self._out if len(lease.calls) == 1), None)
        return None

    async def _finish(self, lease: Lease, finished: Sequence[Counted]) -> None:
        async with self._changed:
            if lease not in self._out:
                return
            del self._out[lease]
            for call in lease.calls:
                call.cancel()
            self._on_finished(finished)
            self._changed.notify_all()
            self._end_if_over()

    async def _take_back(self, lease: Lease, error: LostError | GoneError) -> None:
        """Give a lease to others, without what is durable of it."""
        logger.info("%d samples come back: %s", len(lease.jobs), error)
        lease.losses += 1
        if lease.losses >= _LOSSES:
            ids = ", ".join(job.problem.problem_id for job in lease.jobs[:3])
            raise EndpointError(f"Samples of {ids} were lost with their pair {_LOSSES} times: {error.message}", error.remedy)
        there = await self._durable()
        async with self._changed:
            self._changed.notify_all()
            if lease not in self._out or lease.calls:  # finished, or somebody else is at it
                return
            del self._out[lease]
            kept = [job for job in lease.jobs if job.sample_id in there]
            lease.jobs = [job for job in lease.jobs if job.sample_id not in there]
            self._on_finished([Counted(job.sample_id, 0, 0, None) for job in kept])
            if lease.jobs:
                self._returned.append(lease)
            self._end_if_over()

    def _end_if_over(self) -> None:
        if not (self._jobs or self._returned or self._out):
            self.over.set()
