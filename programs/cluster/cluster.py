"""A run on the pairs of a Ray cluster: actors hold the pairs, and the driver, this process, shares the samples out.

Ray places the actors, starts them again where their process or machine died, and carries the calls. Plain actors, and not
Ray Data: a run is no pipeline of blocks but many long samples on servers with their own batching, which have to be given
again one by one when a server dies, and their rows go past the driver into the shared folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from rrti_sgl import __version__
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import EndpointError, PairMismatchError, RRTIError, UsageError
from rrti_sgl.programs.cluster.leases import Counted, GoneError, LostError, share_out
from rrti_sgl.programs.cluster.member import Opening, PairMember
from rrti_sgl.programs.cluster.merging import SharedParts
from rrti_sgl.programs.experiments.running import PairIdentity
from rrti_sgl.programs.running.preparing import PreparedRun
from rrti_sgl.programs.running.runner import OnProgress, Progress
from rrti_sgl.rows import is_index

logger = logging.getLogger(__name__)

LOCAL = "local"
_RESTARTS = 4  # of an actor's process; what fails so often fails again
_LEASE = 16  # samples of the largest lease: a part has some 10^4 to 10^5 tokens then
_CALLS = 1000  # of one actor at once, more than it ever gets
_REACHED_S = 10.0
_GRACE_S = 60.0  # for what is finished to become durable when a run is broken off


@dataclass(frozen=True, slots=True)
class Share:
    """What of the machines an actor takes.

    Args:
        gpus: of each pair, parts of one allowed; None: 1 where the cluster has any, else 0.
        cpus: of each pair.
        pairs: how many; None: as many as there are GPUs for, or one a machine.
    """

    gpus: float | None = None
    cpus: float = 1.0
    pairs: int | None = None

    def of(self, resources: dict[str, float], machines: int) -> tuple[float, int]:
        """GPUs of a pair, and pairs, on a cluster with these resources.

        Raises:
            UsageError: not one pair fits.
        """
        gpus = self.gpus if self.gpus is not None else min(1.0, resources.get("GPU", 0.0))
        fitting = int(resources.get("CPU", 0.0) / self.cpus)
        if gpus:
            fitting = min(fitting, int(resources.get("GPU", 0.0) / gpus + 1e-6))
        if not fitting:
            there = f"{resources.get('GPU', 0.0):g} GPUs and {resources.get('CPU', 0.0):g} CPUs"
            raise UsageError(
                f"A pair takes {gpus:g} GPUs and {self.cpus:g} CPUs; the cluster has {there}.",
                "Let a pair take less, or add machines.",
            )
        return gpus, min(fitting, self.pairs or (fitting if gpus else machines))


class RayMember:
    """An actor as the driver sees it: a `rrti_sgl.programs.cluster.leases.Member`, told of one run after the other."""

    def __init__(self, actor: Any, name: str) -> None:
        self.actor, self.name = actor, name
        self._starting = asyncio.Lock()
        self.is_up = False  # and was told of the run
        self._failures = 0
        self._begun: tuple[Any, ...] = ()
        self._run_id = ""
        self._identity: PairIdentity | None = None

    async def pair(self) -> Pair:
        """The pair, once it is there.

        Raises:
            GoneError: it never will be.
        """
        while True:
            try:
                pair: Pair = await _told(self.actor.pair.remote(__version__))
                return pair
            except ActorUnavailableError:  # Ray starts it again
                await asyncio.sleep(0.5)
            except RayActorError as error:
                raise GoneError(f"{self.name} is gone: {_first_line(error)}", "See Ray's logs: `ray logs`.") from error
            except EndpointError as error:
                self._start_again(error)

    def tell(self, run_id: str, identity: PairIdentity, *begun: Any) -> None:
        """The next run: its pair, and the arguments of `PairMember.begin`."""
        self._run_id, self._identity, self._begun, self.is_up = run_id, identity, begun, False

    async def ready(self) -> None:
        """See `Member.ready`."""
        async with self._starting:
            while not self.is_up:
                if (found := PairIdentity.of(await self.pair())) != self._identity:
                    raise PairMismatchError(
                        f"{self.name} has another pair than the first one: {found}, not {self._identity}.",
                        "Serve the same models everywhere.",
                    )
                try:
                    await _told(self.actor.begin.remote(*self._begun))
                    self.is_up = True
                except RayActorError as error:
                    logger.info("%s: %s", self.name, error)
                except EndpointError as error:
                    self._start_again(error)

    async def work(self, jobs: Sequence[SampleJob]) -> list[Counted]:
        """See `Member.work`."""
        call = _handed(lambda: self.actor.work.remote(self._run_id, jobs))
        try:
            finished: list[Counted] = await _told(call)
            return finished
        except (RayActorError, LostError) as error:
            if self.is_up:
                self.is_up = False
                logger.warning("%s died, and Ray starts it again.", self.name)
            raise LostError(f"{self.name} was lost: {_first_line(error)}") from error
        except EndpointError as error:
            if self.is_up:  # the first of its leases to say so
                self.is_up = False
                self._start_again(error)
            raise LostError(f"{self.name} was lost: {error.message}", error.remedy) from error

    def _start_again(self, error: EndpointError) -> None:
        """A pair whose server failed is of no use: let Ray start its actor again, with new servers.

        Raises:
            GoneError: it failed too often.
        """
        self._failures += 1
        if self._failures > _RESTARTS:
            raise GoneError(f"{self.name} is gone: {error.message}", error.remedy) from error
        logger.warning("%s is started again: %s", self.name, error.message)
        ray.kill(self.actor, no_restart=False)


class RayCluster:
    """The pairs of a cluster, as `rrti_sgl.programs.running.runner.Workers`.

    Args:
        members: at least one; those that are not up yet join when they are.
        pair: of one that is up.
        parts: the folder that all machines share.
    """

    def __init__(self, members: Sequence[RayMember], pair: Pair, parts: Path) -> None:
        self.pair, self.members, self._parts = pair, members, parts

    def gather(self, store: Store, run_id: str) -> None:
        """Merge what a driver that was killed left. Raises as `SharedParts.merge` does."""
        with SharedParts(self._parts, run_id, store) as parts:
            parts.merge()

    async def decode(self, store: Store, prepared: PreparedRun, on_progress: OnProgress | None) -> None:
        """Decode what the store and the parts lack of a run, and merge it into the store.

        Raises:
            RRTIError: a pair cannot decode so, all are gone, or the folder takes nothing; what is finished is kept.
        """
        with SharedParts(self._parts, prepared.record.run_id, store) as parts:
            done = await asyncio.to_thread(parts.samples)  # with what a driver that was killed left
            begun = (_handed(lambda: ray.put(replace(prepared, jobs=[]))), store.precision)
            for member in self.members:
                member.tell(prepared.record.run_id, PairIdentity.of(self.pair), *begun)
            try:
                await _until_one_ends(self._share_out(prepared, done, parts, on_progress), parts.keep_merging())
            except BaseException:
                await asyncio.shield(self._end())
                await asyncio.to_thread(parts.merge)
                raise
            await self._end()
            await parts.merge_all({job.sample_id for job in prepared.jobs})

    async def _share_out(
        self, prepared: PreparedRun, done: Collection[str], parts: SharedParts, on_progress: OnProgress | None
    ) -> None:
        progress = Progress(prepared.record.run_id, total=len(prepared.jobs), done=len(done))

        def count(finished: Sequence[Counted]) -> None:
            parts.count(finished)
            for sample in finished:
                progress.add(sample.n_tokens, sample.n_takeovers, sample.correct)
            if on_progress is not None:
                on_progress(progress)

        await share_out(
            [job for job in prepared.jobs if job.sample_id not in done],
            self.members,
            most=_LEASE,
            twice=is_repeatable(self.pair, prepared.options),
            durable=lambda: asyncio.to_thread(parts.samples),
            on_finished=count,
        )

    async def _end(self) -> None:
        """Let those that are up make durable what they have finished."""
        await _in_time([member.actor.end.remote() for member in self.members if member.is_up])


def is_repeatable(pair: Pair, options: DecodeOptions) -> bool:
    """Whether a sample that is made again has the same tokens: greedy ones, and those of servers that draw by seeds."""
    seeded = (engine.info.details.get("enable_deterministic_inference") for engine in (pair.base, pair.reasoning))
    return options.sampling.greedy or all(seeded)


@asynccontextmanager
async def open_cluster(address: str, openings: Sequence[Opening], parts: Path, share: Share) -> AsyncIterator[RayCluster]:
    """Actors with pairs on a cluster, for as long as this lasts.

    Args:
        address: of a running cluster ("auto" finds the one of this machine), or "local" for one of this process's own.
        openings: how the actors get their pairs: one for each, or a single one for as many as `share` allows.
        parts: the folder that all machines share.
        share: what each takes.

    Raises:
        UsageError: there is no such cluster, or no room on it.
        RRTIError: no pair comes up.
    """
    parts = parts.resolve()
    parts.mkdir(parents=True, exist_ok=True)
    ours = signal.getsignal(signal.SIGTERM)
    try:
        _check_reachable(address)
        dashboard = None
        if address == LOCAL:
            dashboard = False
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        ray.init(address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        remedy = "If it asks for a token, set RAY_AUTH_MODE=token: see docs/cluster.md."
        raise UsageError(f"There is no Ray cluster at {address!r}: {_first_line(error)}", remedy) from error
    finally:
        signal.signal(signal.SIGTERM, ours)  # Ray's own would leave what is finished unwritten
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray says there who died; results are for it alone
        machines = sum(node["Alive"] for node in ray.nodes())
        gpus, pairs = share.of(ray.cluster_resources(), machines)
        chosen = list(openings) if len(openings) > 1 else list(openings) * pairs
        kind = ray.remote(PairMember).options(
            num_cpus=share.cpus, num_gpus=gpus, max_restarts=_RESTARTS, max_concurrency=_CALLS, scheduling_strategy="SPREAD"
        )
        members = [RayMember(kind.remote(each, parts), f"Pair {number}") for number, each in enumerate(chosen, 1)]
        try:
            yield RayCluster(members, await _first_pair(members), parts)
        finally:
            await _in_time([member.actor.close.remote() for member in members if member.is_up])


def _check_reachable(address: str) -> None:
    """Ray itself tries for many minutes. Raises OSError or ValueError where nobody answers at `HOST:PORT`."""
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if "/" in address or not is_index(port, 2**16):
        raise ValueError(f"an address is HOST:PORT, {LOCAL} or auto.")
    socket.create_connection((host, int(port)), timeout=_REACHED_S).close()


async def _first_pair(members: Sequence[RayMember]) -> Pair:
    """The first pair that comes up; the error of the last where none does."""
    asked: set[asyncio.Task[Pair]] = {asyncio.create_task(member.pair()) for member in members}
    waiting, error = asked, RRTIError("There is no pair.")
    try:
        while waiting:
            finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                try:
                    return task.result()
                except GoneError as gone:
                    error = gone
        raise error
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _until_one_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Do several things at once, all of them until one ends; raises its error."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_time(answers: Sequence[Any]) -> None:
    """Wait until actors have answered, and no longer than is reasonable for those that do not."""
    calls = [asyncio.create_task(_told(answer)) for answer in answers]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_S):
            for error in await asyncio.gather(*calls, return_exceptions=True):
                if error is not None:
                    logger.warning("An actor did not end in order: %s", error)


def _handed(call: Callable[[], Any]) -> Any:
    """What a call gives that hands something to the cluster.

    Raises:
        EndpointError: there is no room for it.
    """
    try:
        return call()
    except RayError as error:
        raise EndpointError(
            f"The cluster could not be told of the run: {_first_line(error)}",
            "Ray keeps it in its object store, and beyond that on the disk of this machine: make room there.",
        ) from error


async def _told(answer: Any) -> Any:
    """What an actor's method gives, or raises as it raised it; cancelling ends it there."""
    try:
        return await answer
    except RayTaskError as error:
        if isinstance(error.cause, RayError):
            told = f"An actor could not answer: {_first_line(error.cause)}"
            raise EndpointError(told, "See Ray's logs: `ray logs`.") from error
        raise error.cause from error
    except asyncio.CancelledError:
        ray.cancel(answer)
        raise


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
