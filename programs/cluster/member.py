"""One pair of a cluster where it runs: an actor of Ray's. It opens its pair, and makes the samples of a lease into parts.

Nothing here needs Ray: what calls these methods may be anything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rrti_sgl import __version__
from rrti_sgl.db.layouts import Precision
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import PairMismatchError
from rrti_sgl.programs.cluster.leases import Counted, LostError
from rrti_sgl.programs.experiments.models import PlannedEngine
from rrti_sgl.programs.running.preparing import PreparedRun
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.serving import opening
from rrti_sgl.serving.arrangement import ServingOptions

FLUSH_S = 10.0  # what an actor that is killed may lose of finished samples
Opening = Callable[[], AbstractAsyncContextManager[PairSession]]


@dataclass(frozen=True)
class PairOpening:
    """How an actor gets its pair: from two addresses, or by starting it. The arguments are those of `open_pair`.

    Args:
        concurrency: how much goes on at once on the pair.
        connecting: further arguments of `rrti_sgl.engines.pair.connect`.
    """

    base_url: str | None = None
    reasoning_url: str | None = None
    base: str | None = None
    reasoning: str | None = None
    server_flags: str = ""
    fused: bool = False
    options: ServingOptions | None = None
    log_dir: Path | None = None
    concurrency: Concurrency = field(default_factory=Concurrency)
    connecting: Mapping[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[PairSession]:
        """The pair, and a session on it, for as long as this lasts."""
        models = (self.base_url, self.reasoning_url, self.base, self.reasoning, self.server_flags)
        opened = opening.open_pair(*models, log_dir=self.log_dir, options=self.options, fused=self.fused)
        with ExitStack() as stack:
            address = await asyncio.to_thread(stack.enter_context, opened)
            connecting = dict(self.connecting)
            if address.served is not None:  # who starts them again is the actor that comes after this one
                connecting["limits"] = replace(connecting.get("limits") or TransportLimits(), patience_s=0)
            async with open_session(address.base_url, address.reasoning_url, self.concurrency, **connecting) as session:
                yield session


class PairMember:
    """A pair at work. A new process of it knows nothing of the one before: it is told of the run again.

    Args:
        opening: gives the pair.
        parts: the folder that all members and the driver share.
    """

    def __init__(self, opening: Opening, parts: Path) -> None:
        self._opening, self._parts = opening, parts
        self._open, self._opened = AsyncExitStack(), asyncio.Lock()
        self._session: PairSession | None = None
        self._run: PreparedRun | None = None
        self._sink: ParquetSink | None = None

    async def pair(self, version: str) -> Pair:
        """The pair as it can be told elsewhere: its engines answer nothing there.

        Args:
            version: the driver's, of this package.

        Raises:
            PairMismatchError: this machine has another one.
            RRTIError: it does not come up.
        """
        if version != __version__:
            message = f"{socket.gethostname()} has rrti-sgl {__version__}, and the driver {version}."
            raise PairMismatchError(message, "Install the same version on all machines.")
        pair = (await self._session_on()).pair
        return replace(pair, base=PlannedEngine(pair.base.info), reasoning=PlannedEngine(pair.reasoning.info))

    async def begin(self, run: PreparedRun, precision: Precision) -> None:
        """Take a run up, whose folder the driver has made; the jobs come later.

        Raises:
            RRTIError: the pair cannot decode so, or the folder is not there.
        """
        session = await self._session_on()
        async with self._opened:
            if self._run is not None and self._run.record.run_id == run.record.run_id:
                return
            await session.check(run.options)
            await self._let_go()
            sink = ParquetSink(self._parts, precision=precision, flush_seconds=FLUSH_S, is_emptied=True)
            await sink.begin(run.record, resume=True)
            await sink.add_problems(run.problems)
            if run.calibration is not None:
                await sink.add_calibration(run.calibration)
            self._run, self._sink = run, sink

    async def work(self, run_id: str, jobs: Sequence[SampleJob]) -> list[Counted]:
        """Decode samples; they are durable when this returns. Cancelling it ends the work.

        Raises:
            LostError: it was not told of the run: its process is a new one.
            EndpointError: the pair failed.
            StoreError: the folder takes nothing.
        """
        run, sink, session = self._run, self._sink, self._session
        if run is None or sink is None or session is None or run.record.run_id != run_id:
            raise LostError(f"This process was not told of run {run_id}.", "Begin it.")
        finished = []
        async with aclosing(session.run(jobs, run.gate, run.options)) as decoded:
            async for sample in decoded:
                trace = await asyncio.to_thread(run.finisher.finish, sample.job, sample.trace)
                await sink.put(trace)
                finished.append(Counted.of(trace.sample))
        await sink.flush()
        return finished

    async def end(self) -> None:
        """Make durable what is finished, and forget the run."""
        async with self._opened:
            await self._let_go()

    async def close(self) -> None:
        """Stop the servers that were started."""
        await self.end()
        await self._open.aclose()

    async def _session_on(self) -> PairSession:
        async with self._opened:
            if self._session is None:
                self._session = await self._open.enter_async_context(self._opening())
            return self._session

    async def _let_go(self) -> None:
        sink, self._sink, self._run = self._sink, None, None
        if sink is not None:
            await sink.close()
