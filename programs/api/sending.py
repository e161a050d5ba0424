"""Bodies that come in and answers that go out, for as long as the client is there and keeps up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from rrti_sgl.programs.api.admission import Limits
from rrti_sgl.programs.api.refusals import RefusedError, refused
from rrti_sgl.programs.web.receiving import BodyError, json_body, until_gone

if TYPE_CHECKING:
    from rrti_sgl.programs.api.metrics import Metrics

_STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would hold pieces back
_LAST_WORD_S = 1.0  # in which a reader takes the error that its stream ends with, where the endpoint stops


async def body_of(request: Request, limits: Limits) -> bytes:
    """The body of a request.

    Raises:
        RefusedError: it is no JSON by its header, too long, or comes too slowly.
    """
    try:
        return await json_body(request, limits.body_bytes, limits.body_s)
    except BodyError as error:
        raise RefusedError(error.message, status=error.status, code=error.code) from error


class EventStream(Response):
    """Chunks as server-sent events; the client may leave, and has to read on.

    Args:
        receive: tells that the client leaves.
        chunks: what is sent; closed at the end, which ends their work.
        idle_s: seconds that a client may take for one chunk.
        metrics: count it.
        route: for the count.
        check_running: raises RefusedError where the endpoint stops; a stream that is cut then ends with that error.
    """

    def __init__(
        self,
        receive: Receive,
        chunks: AsyncGenerator[dict[str, Any], None],
        idle_s: float,
        metrics: Metrics,
        route: str,
        check_running: Callable[[], None],
    ) -> None:
        super().__init__(media_type="text/event-stream", headers=_STREAMED)
        del self.headers["content-length"]
        self._receive, self._chunks, self._idle_s, self._metrics, self._route = receive, chunks, idle_s, metrics, route
        self._check_running, self._started = check_running, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all, or until the client leaves or stands still."""
        try:
            if await until_gone(self._receive, self._all(send)) is None:
                self._metrics.left.inc()
        except (TimeoutError, OSError):
            self._metrics.left.inc()
        except asyncio.CancelledError:
            try:
                self._check_running()
            except RefusedError as refusal:  # its time to finish is over
                with contextlib.suppress(TimeoutError, OSError):
                    async with asyncio.timeout(_LAST_WORD_S):
                        await self._tell(send, refusal)
            else:
                raise

    async def _all(self, send: Send) -> bool:
        try:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    await self._send(send, chunk)
            await self._send(send, None)
        except (TimeoutError, OSError):
            raise
        except Exception as error:
            await self._tell(send, refused(error))
        return True

    async def _tell(self, send: Send, refusal: RefusedError) -> None:
        """An error: by its status where nothing was sent, else as a last event, without the mark of a whole answer."""
        if self._started:
            await self._put(send, b"data: " + orjson.dumps(refusal.body) + b"\n\n", more=False)
            return
        self._metrics.answered(self._route, refusal.status)
        headers = {"content-type": "application/json", **{name.lower(): text for name, text in refusal.headers.items()}}
        raw = [(name.encode(), text.encode()) for name, text in headers.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
        await self._put(send, orjson.dumps(refusal.body), more=False)

    async def _send(self, send: Send, chunk: dict[str, Any] | None) -> None:
        if not self._started:
            self._started = True
            self._metrics.answered(self._route, 200)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        content = b"[DONE]" if chunk is None else orjson.dumps(chunk)
        await self._put(send, b"data: " + content + b"\n\n", more=chunk is not None)

    async def _put(self, send: Send, content: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._idle_s):
            await send({"type": "http.response.body", "body": content, "more_body": more})
