"""An id for every request, in its answer's `x-request-id` and in what is logged of it: the client's own, or a new one."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
_PLAIN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # what may be said back and logged
_current: ContextVar[str] = ContextVar("request_id", default="none")


def request_id() -> str:
    """Of the request that is worked on; "none" outside of one."""
    return _current.get()


class RequestIds:
    """ASGI middleware: the application is called within the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        own = given if _PLAIN.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        _current.set(own)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = own
            await send(message)

        await self._app(scope, receive, named)
