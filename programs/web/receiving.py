"""Bodies that come in, and clients that leave before they have their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

Result = TypeVar("Result")


class BodyError(Exception):
    """A body that is not taken.

    Args:
        message: what is wrong with it.
        status: of the HTTP answer.
        code: a word for it.
    """

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.message, self.status, self.code = message, status, code


async def json_body(request: Request, most_bytes: int, within_s: float) -> bytes:
    """The body of a request.

    Raises:
        BodyError: it is no JSON by its header, too long, or comes too slowly.
        ClientDisconnect: the client left.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise BodyError("Send Content-Type: application/json.", 415, "unsupported_media_type")
    too_long = BodyError(f"The body is longer than {most_bytes} bytes.", 413, "body_too_large")
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            length = request.headers.get("content-length", "0")
            if not length.isdecimal() or int(length) > most_bytes:
                raise too_long
            async for part in request.stream():
                body += part
                if len(body) > most_bytes:
                    raise too_long
    except TimeoutError as error:
        raise BodyError(f"The body did not come within {within_s:g} s.", 408, "timeout") from error
    return bytes(body)


async def _gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """What work gives; None, and the work cancelled, where the client leaves before."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
