"""A place to listen at, and an application that is served there until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.serving.keys import LOOPBACK


@dataclass(frozen=True, slots=True)
class Place:
    """Where something listens, and for whom.

    Args:
        host: address to listen at.
        port: 0 takes a free one.
        endpoint_key: that clients have to show; None on the loopback interface alone.
        what: is served there.

    Raises:
        UsageError: others could reach it without a key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    endpoint_key: str | None = field(default=None, repr=False)
    what: str = "endpoint"

    def __post_init__(self) -> None:
        if not self.local and self.endpoint_key is None:
            raise UsageError(
                f"At {self.host} everybody who reaches this machine could use the {self.what}.",
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
            why = f"The {self.what} cannot listen at {self.host}:{self.port} ({error.strerror or error})."
            raise UsageError(why, f"Name another {argument('port')}.") from error


def url_of(listening: socket.socket) -> str:
    """The address of a bound socket, as a browser takes it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def named_host(header: str) -> str:
    """The host that a request's Host header names; none where it names it in no form that there is."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


class _Server(uvicorn.Server):
    """Leaves signals to its caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_app(
    app: Any, listening: socket.socket, *, most_connections: int, grace_s: float, stopping: Callable[[], None] | None = None
) -> None:
    """Answer until cancelled; then take nothing more, and give what runs its time to finish.

    Cancelled a second time it ends at once.

    Args:
        app: an ASGI application.
        listening: a bound socket.
        most_connections: what is beyond them is told 503 without a thread or a task.
        grace_s: seconds that running requests have.
        stopping: called when it is cancelled.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        limit_concurrency=most_connections,
        timeout_graceful_shutdown=max(1, round(grace_s)),
        timeout_keep_alive=30,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        if stopping is not None:
            stopping()
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.force_exit = True
            await serving
        raise
