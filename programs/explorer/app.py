"""The explorer as an application: who is let in, its pages, its data."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import FastAPI, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rrti_sgl.errors import PairMismatchError, RRTIError, StoreError, UsageError, spelled
from rrti_sgl.programs.explorer.asked import MissingError, read_body
from rrti_sgl.programs.explorer.branching import BranchAsked, Branches, BranchFields, BusyError
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.samples import Payload
from rrti_sgl.programs.explorer.shell import ASSETS, POLICY, asset, document, dumped
from rrti_sgl.programs.web.receiving import BodyError, json_body, until_gone
from rrti_sgl.programs.web.serving import named_host
from rrti_sgl.serving.keys import LOOPBACK

logger = logging.getLogger(__name__)

COOKIE = "rrti-view"
_BODY_BYTES, _BODY_S = 2**16, 10.0  # of a request
_IDLE_S = 60.0  # in which a reader has to take an event
_LEFT = 499  # nobody reads it
_TYPES = {"js": "text/javascript", "css": "text/css", "txt": "text/plain"}
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app(
    explorer: Explorer, key: str | None = None, *, local: bool = True, branches: Branches | None = None
) -> ASGIApp:
    """The explorer of a store as an ASGI application.

    Args:
        explorer: open for as long as the application is served.
        key: what a browser shows once, as `?key=KEY`, and then as a cookie; None asks for none.
        local: served on the loopback interface: requests that name another host are refused, as they come from a page of the
            web that was made to point here.
        branches: goes on from tokens; None: nothing is written, and a request for a branch is refused.
    """
    app = FastAPI(title="rrti view", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(Exception)
    async def tell(request: Request, error: Exception) -> Response:
        return told(error)

    @app.exception_handler(HTTPException)
    async def tell_http(request: Request, error: HTTPException) -> Response:
        remedy = "Read with GET; only branches are asked for with POST."
        return failed(error.status_code, f"{error.detail}.", remedy if error.status_code == 405 else "")

    @app.post("/data/branches")
    async def branch(request: Request) -> Response:
        try:
            if branches is None:
                raise UsageError("Branching is not switched on.", explorer.info()["branchingRemedy"])
            body = await json_body(request, _BODY_BYTES, _BODY_S)
            with spelled(BranchFields()):
                begun = await branches.prepare(read_body(BranchAsked, body))
        except BodyError as error:
            return failed(error.status, error.message)
        except ClientDisconnect:
            return Response(status_code=_LEFT)
        except Exception as error:
            return told(error)
        return _Events(request.receive, branches.events(begun))

    @app.get("/{name}")
    def file(name: str, request: Request) -> Response:
        if name not in ASSETS:
            return page(request)
        return Response(asset(name), media_type=f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8")

    @app.get("/data/{path:path}")
    def data(request: Request) -> Response:
        path, query, _ = address(request)
        name = path.removeprefix("data/")
        try:
            answer = Response(dumped(explorer.answer(name, query)), media_type="application/json")
        except Exception as error:
            return told(error)
        if name.startswith("export/"):
            answer.headers["Content-Disposition"] = 'attachment; filename="tree.json"'
        return answer

    @app.get("/{path:path}")
    def page(request: Request) -> Response:
        path, query, search = address(request)
        status, first = 200, {"store": explorer.info()}
        try:
            first |= explorer.first(path, query, search)
        except UsageError as error:  # the page asks again, and says what is wrong
            status = told(error).status_code
        return Response(document(first["store"]["name"], first), status, media_type="text/html; charset=utf-8")

    return _Guard(app, key, local)


def address(request: Request) -> tuple[str, dict[str, list[str]], str]:
    """The path of a request without its first `/` and as it was written, its query, and that as it was written."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    written = request.scope["query_string"].decode("ascii", "replace")
    query = parse_qs(written, keep_blank_values=True)
    return raw.partition(b"?")[0].decode("ascii", "replace").removeprefix("/"), query, f"?{written}" if written else ""


def failed(status: int, message: str, remedy: str = "") -> Response:
    """An error as the page reads it."""
    return Response(dumped({"error": {"message": message, "remedy": remedy}}), status, media_type="application/json")


def told(error: Exception) -> Response:
    """What a browser is told of an error; what it is not told is logged."""
    if isinstance(error, RRTIError):
        statuses = ((MissingError, 404), (BusyError, 429), (UsageError, 400), (PairMismatchError, 400), (StoreError, 500))
        status = next((status for kind, status in statuses if isinstance(error, kind)), 502)
        return failed(status, error.message, error.remedy)
    logger.error("an answer failed", exc_info=error)
    return failed(500, "The explorer failed.", "What it was is in the terminal that it was started in.")


class _Events(Response):
    """Events as they come; the client may leave, which ends their work, and has to read on."""

    def __init__(self, receive: Receive, events: AsyncGenerator[Payload, None]) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._receive, self._events = receive, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            await until_gone(self._receive, self._all(send))

    async def _all(self, send: Send) -> bool:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in events:
                async with asyncio.timeout(_IDLE_S):
                    await send(
                        {"type": "http.response.body", "body": b"data: " + dumped(event) + b"\n\n", "more_body": True}
                    )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True


class _Guard:
    """Lets in who may come in, and says in every answer what a browser may do with it."""

    def __init__(self, app: ASGIApp, key: str | None, local: bool) -> None:
        self._app, self._key, self._local = app, key, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, sending)

    def _refusal(self, request: Request) -> Response | None:
        headers, host = request.headers, request.headers.get("host", "")
        if self._local and named_host(host) not in LOOPBACK:
            return failed(403, "The explorer is for this machine alone.", "Use the address that `rrti view` printed.")
        data = request.scope["path"].startswith("/data/") or request.method not in ("GET", "HEAD")
        elsewhere = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        origin = headers.get("origin")
        if data and (elsewhere or (origin is not None and urlsplit(origin).netloc != host)):
            return failed(403, "The explorer answers its own pages alone.", "Open its address in the browser.")
        return None if self._key is None else self._unknown(request, self._key)

    def _unknown(self, request: Request, key: str) -> Response | None:
        """The answer for who has no key, or shows it for the first time."""
        query = request.query_params
        if _same(query.get("key", ""), key):
            rest = urlencode([(name, value) for name, value in query.multi_items() if name != "key"])
            path = address(request)[0].lstrip("/")  # of this server, whatever it is
            answer = RedirectResponse(f"/{path}{'?' if rest else ''}{rest}", 303)
            answer.set_cookie(COOKIE, key, httponly=True, samesite="lax")
            return answer
        shown = (request.headers.get("authorization", "").removeprefix("Bearer "), request.cookies.get(COOKIE, ""))
        if any(_same(each, key) for each in shown):
            return None
        return failed(401, "The key is missing or wrong.", "Open the address with ?key=KEY, as `rrti view` printed it.")


def _same(given: str, key: str) -> bool:
    return secrets.compare_digest(given.encode(), key.encode())
