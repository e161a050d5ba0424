"""An endpoint on a socket, over servers that run, for clients in the same process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.samples import Endpoint
from rrti_sgl.programs.api.serving import open_endpoint, serve
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import settings_from
from rrti_sgl.programs.web.serving import Place


@contextlib.asynccontextmanager
async def _served(
    urls: tuple[str, str], db: Path | None, key: str | None, limits: Limits, settings: dict[str, Any]
) -> AsyncIterator[tuple[str, Endpoint]]:
    place = Place(port=0, endpoint_key=key)
    opening = open_session(*urls, Concurrency(16))
    asked = settings_from("base", **settings)
    async with opening as session, open_endpoint(session, asked, limits=limits, db=db) as endpoint:
        with place.listen() as listening:
            serving = asyncio.create_task(serve(endpoint, place, listening))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}", endpoint
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)


@contextlib.contextmanager
def served(
    urls: tuple[str, str], db: Path | None = None, *, key: str | None = None, limits: Limits | None = None, **settings: Any
) -> Iterator[tuple[str, Endpoint]]:
    """The endpoint's address (without /v1), and the endpoint, which belongs to a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_served(urls, db, key, limits or Limits(), settings)) as found,
    ):
        yield found
