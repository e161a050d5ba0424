"""The endpoint on a socket: opened with its session and its store, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.app import create_app
from rrti_sgl.programs.api.naming import check_served
from rrti_sgl.programs.api.samples import Endpoint
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.serving.keys import LOOPBACK

_FLUSH_S = 5.0  # a batch costs more than its rows: so often, not each second, where answers wait for the same cores
_CONNECTIONS = 1024  # beside those of samples; what is beyond is told 503 without a thread or a task


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint listens, and for whom.

    Args:
        host: address to listen at.
        port: 0 takes a free one.
        endpoint_key: that clients have to show; None on the loopback interface alone.

    Raises:
        UsageError: others could reach it without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    endpoint_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.local and self.endpoint_key is None:
            raise UsageError(
                f"At {self.host} everybody who reaches this machine could use the endpoint.",
                f"Give it a key: {argument('endpoint_key')}. Or leave {argument('host')} out.",
            )

    @property
    def local(self) -> bool:
        """Whether it listens on the loopback interface."""
        return self.host in LOOPBACK

    def listen(self) -> socket.socket:
        """A socket that is bound.

        Raises:
            UsageError: the address is taken, or none of this machine.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=1024)
        except OSError as error:
            why = f"The endpoint cannot listen at {self.host}:{self.port} ({error.strerror or error})."
            raise UsageError(why, f"Name another {argument('port')}.") from error


class _Server(uvicorn.Server):
    """Leaves signals to its caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def open_endpoint(
    session: PairSession, settings: RunSettings, *, limits: Limits, db: Path | None, calibrations: Store | None = None
) -> AsyncIterator[Endpoint]:
    """An endpoint on a session, with its store.

    Args:
        session: on the pair.
        settings: of every request, where it says nothing else.
        limits: of what is taken.
        db: the trace store; None keeps nothing.
        calibrations: a store to take thresholds from, where `db` is None.

    Raises:
        RRTIError: what the settings or the store do not allow.
    """
    check_served(settings)
    async with contextlib.AsyncExitStack() as stack:
        store, sink = calibrations, None
        if db is not None:
            store = stack.enter_context(Store.open(db))
            sink = await stack.enter_async_context(DuckDBSink(store, flush_seconds=_FLUSH_S))
        yield await stack.enter_async_context(Endpoint(session, settings, limits=limits, store=store, sink=sink))


async def serve(endpoint: Endpoint, place: Place, listening: socket.socket) -> None:
    """Answer until cancelled; then take nothing more, and give what runs its time to finish.

    Cancelled a second time it ends at once.
    """
    limits = endpoint.limits
    config = uvicorn.Config(
        create_app(endpoint, place.endpoint_key, local=place.local),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_CONNECTIONS + endpoint.admission.in_flight + limits.waiting,
        timeout_graceful_shutdown=max(1, round(limits.grace_s)),
        timeout_keep_alive=30,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        endpoint.admission.stopping = server.should_exit = True
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.force_exit = True
            await serving
        raise
