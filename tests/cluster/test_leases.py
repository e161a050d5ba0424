"""Sharing out samples among pairs that fail, hang and go, without Ray: members of a few lines, and no clocks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.errors import EndpointError, StoreError
from rrti_sgl.programs.cluster.leases import LANES, Counted, GoneError, LostError, share_out
from rrti_sgl.records import ProblemRecord


def jobs(n: int) -> list[SampleJob]:
    return [
        SampleJob(
            "r1", ProblemRecord(problem_set="set", problem_id=f"p{i}", question="q", answer="a"), 0, 0, "b", [1], "r", [1]
        )
        for i in range(n)
    ]


@dataclass
class Folder:
    """What is durable, and how often each sample was made."""

    made: Counter[str] = field(default_factory=Counter)

    async def durable(self) -> set[str]:
        return set(self.made)


@dataclass(eq=False)
class Toy:
    """A member that does with its n-th lease what `act` says."""

    folder: Folder
    act: Callable[[int, Sequence[SampleJob]], Awaitable[None]]
    leases: list[int] = field(default_factory=list)
    cancelled: int = 0

    async def ready(self) -> None:
        """At once."""

    async def work(self, given: Sequence[SampleJob]) -> list[Counted]:
        self.leases.append(len(given))
        try:
            await self.act(len(self.leases), given)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.folder.made.update(job.sample_id for job in given)
        return [Counted(job.sample_id, 10, 1, True) for job in given]


async def at_once(number: int, given: Sequence[SampleJob]) -> None:
    await asyncio.sleep(0)


async def never(number: int, given: Sequence[SampleJob]) -> None:
    await asyncio.Event().wait()


async def fails(number: int, given: Sequence[SampleJob]) -> None:
    raise LostError("The pair was lost.")


def share(n: int, members: list[Toy], folder: Folder, *, most: int = 16, twice: bool = True) -> list[str]:
    """Share out n samples; returns the ids that were reported, in order."""
    reported: list[str] = []
    go = share_out(
        jobs(n),
        members,
        most=most,
        twice=twice,
        durable=folder.durable,
        on_finished=lambda finished: reported.extend(sample.sample_id for sample in finished),
    )
    asyncio.run(asyncio.wait_for(go, 60))
    return reported


@given(n=st.integers(0, 300), pairs=st.integers(1, 5), most=st.integers(1, 20), twice=st.booleans())
def test_every_sample_is_made_and_reported_once(n: int, pairs: int, most: int, twice: bool) -> None:
    folder = Folder()
    members = [Toy(folder, at_once) for _ in range(pairs)]
    reported = share(n, members, folder, most=most, twice=twice)
    assert sorted(reported) == sorted(job.sample_id for job in jobs(n))
    assert set(folder.made) == set(reported)
    assert max([0, *(size for member in members for size in member.leases)]) <= most
    if not twice:
        assert set(folder.made.values()) <= {1}


def test_leases_get_smaller_towards_the_end() -> None:
    folder = Folder()
    members = [Toy(folder, at_once), Toy(folder, at_once)]
    share(400, members, folder)
    sizes = members[0].leases
    assert sizes[0] == 16
    assert sizes[-1] == 1
    assert len(sizes) < 400 / 2


FATES = st.sampled_from(["fine", "lost before", "lost after"])


@given(fates=st.lists(FATES, min_size=4, max_size=40), n=st.integers(1, 120))
def test_what_was_lost_is_made_by_others_and_what_is_durable_is_kept(fates: list[str], n: int) -> None:
    folder = Folder()

    async def act(number: int, given: Sequence[SampleJob]) -> None:
        await asyncio.sleep(0)
        fate = fates[number % len(fates)]
        if fate == "lost after":
            folder.made.update(job.sample_id for job in given[: 1 + len(given) // 2])
        if fate != "fine" and number % 3:  # never five times in a row
            raise LostError("The pair was lost.")
        if fate == "lost after":
            folder.made.subtract(job.sample_id for job in given[: 1 + len(given) // 2])

    reported = share(n, [Toy(folder, act), Toy(folder, at_once)], folder, twice=False)
    assert sorted(reported) == sorted(job.sample_id for job in jobs(n))
    assert all(times == 1 for times in folder.made.values())


def test_a_pair_that_hangs_is_not_waited_for() -> None:
    folder = Folder()
    slow, quick = Toy(folder, never), Toy(folder, at_once)
    reported = share(100, [slow, quick], folder)
    assert len(reported) == len(set(reported)) == 100
    assert len(slow.leases) == slow.cancelled == LANES
    assert set(folder.made.values()) == {1}


def test_samples_that_are_drawn_anew_are_not_made_twice() -> None:
    """The first of two draws to finish would be the shorter one."""
    folder = Folder()
    gate = asyncio.Event()

    async def act(number: int, given: Sequence[SampleJob]) -> None:
        await gate.wait()

    async def opens(number: int, given: Sequence[SampleJob]) -> None:
        await asyncio.sleep(0)
        if number == LANES + 1:
            gate.set()

    reported = share(100, [Toy(folder, act), Toy(folder, opens)], folder, twice=False)
    assert len(reported) == 100
    assert set(folder.made.values()) == {1}


@pytest.mark.parametrize("end", [LostError("The pair was lost."), GoneError("It was lost once too often.")])
def test_a_pair_that_is_gone_leaves_its_work_to_the_others(end: EndpointError) -> None:
    folder = Folder()

    class Going(Toy):
        async def ready(self) -> None:
            if self.leases:
                raise GoneError("The pair is gone.")

    async def ends(number: int, given: Sequence[SampleJob]) -> None:
        raise end

    going = Going(folder, ends)
    reported = share(50, [going, Toy(folder, at_once)], folder)
    assert len(reported) == len(set(reported)) == 50
    assert 0 < len(going.leases) <= LANES


def test_when_all_are_gone_their_error_is_told() -> None:
    folder = Folder()

    class Gone(Toy):
        async def ready(self) -> None:
            raise GoneError("The servers do not come up.", "Look into their logs.")

    with pytest.raises(GoneError, match="do not come up"):
        share(5, [Gone(folder, at_once), Gone(folder, at_once)], folder)


def test_samples_that_take_every_pair_down_end_the_run() -> None:
    folder = Folder()
    with pytest.raises(EndpointError, match=r"Samples of p\d+, .* were lost with their pair 5 times: The pair was lost"):
        share(100, [Toy(folder, fails), Toy(folder, fails)], folder)


def test_an_error_that_no_other_pair_can_help_ends_the_run() -> None:
    folder = Folder()

    async def full(number: int, given: Sequence[SampleJob]) -> None:
        raise StoreError("No space left.")

    with pytest.raises(StoreError, match="No space left"):
        share(100, [Toy(folder, full), Toy(folder, never)], folder)


def test_a_pair_that_comes_late_takes_part_and_one_that_never_comes_is_not_waited_for() -> None:
    folder = Folder()
    begun = asyncio.Event()

    class Late(Toy):
        async def ready(self) -> None:
            await begun.wait()

    async def act(number: int, given: Sequence[SampleJob]) -> None:
        begun.set()
        await asyncio.sleep(0)

    class Absent(Toy):
        async def ready(self) -> None:
            await asyncio.Event().wait()

    late = Late(folder, at_once)
    assert len(share(200, [Toy(folder, act), late, Absent(folder, at_once)], folder)) == 200
    assert late.leases
