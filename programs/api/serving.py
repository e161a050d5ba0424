"""The endpoint on a socket: opened with its session and its store, and stopped in order."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.app import create_app
from rrti_sgl.programs.api.naming import check_served
from rrti_sgl.programs.api.samples import Endpoint
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.web.serving import Place, serve_app

_FLUSH_S = 5.0  # a batch costs more than its rows: so often, not each second, where answers wait for the same cores
_CONNECTIONS = 1024  # beside those of samples; what is beyond is told 503 without a thread or a task


@contextlib.asynccontextmanager
async def open_endpoint(
    session: PairSession, settings: RunSettings, *, limits: Limits, db: Path | None
) -> AsyncIterator[Endpoint]:
    """An endpoint on a session, with its store.

    Args:
        session: on the pair.
        settings: of every request, where it says nothing else.
        limits: of what is taken.
        db: the trace store; None keeps nothing.

    Raises:
        RRTIError: what the settings or the store do not allow.
    """
    check_served(settings)
    async with contextlib.AsyncExitStack() as stack:
        store = sink = None
        if db is not None:
            store = stack.enter_context(Store.open(db, lasting=True))
            sink = await stack.enter_async_context(DuckDBSink(store, flush_seconds=_FLUSH_S))
        yield await stack.enter_async_context(Endpoint(session, settings, limits=limits, store=store, sink=sink))


async def serve(endpoint: Endpoint, place: Place, listening: socket.socket) -> None:
    """Answer until cancelled; then take nothing more, and give what runs its time to finish.

    Cancelled a second time it ends at once.
    """
    limits, admission = endpoint.limits, endpoint.admission

    def stopping() -> None:
        admission.stopping = True

    await serve_app(
        create_app(endpoint, place.endpoint_key, local=place.local),
        listening,
        most_connections=_CONNECTIONS + admission.in_flight + limits.waiting,
        grace_s=limits.grace_s,
        stopping=stopping,
    )
