"""The routes: a request is let in, read, ordered and answered, whole or as server-sent events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Depends, FastAPI, Response
from fastapi import Request as HTTPRequest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from rrti_sgl import __version__
from rrti_sgl.engines.endpoint import ROUTE, SUFFIX, told
from rrti_sgl.errors import spelled
from rrti_sgl.programs.api.answers import Answers, Chats, Completions
from rrti_sgl.programs.api.fields import ChatRequest, CompletionRequest, read
from rrti_sgl.programs.api.refusals import Fields, RefusedError, no_model, refused
from rrti_sgl.programs.api.request_ids import RequestIds
from rrti_sgl.programs.api.samples import Endpoint, Order, Piece, now
from rrti_sgl.programs.api.sending import EventStream, body_of
from rrti_sgl.programs.web.receiving import until_gone
from rrti_sgl.programs.web.serving import named_host
from rrti_sgl.serving.keys import LOOPBACK

_LEFT = 499  # nobody reads it


def create_app(endpoint: Endpoint, key: str | None = None, *, local: bool = True) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        endpoint: open for as long as the application is served.
        key: what clients show as a bearer token; None asks for none.
        local: served on the loopback interface: requests that name another host are refused, as they come from a page of the
            web that was made to point here.
    """
    app = FastAPI(title="rrti", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequestIds)

    def let_in(request: HTTPRequest) -> None:
        if local and named_host(request.headers.get("host", "")) not in LOOPBACK:
            raise RefusedError("The endpoint is for this machine alone.", status=403, code="wrong_host")
        given = request.headers.get("authorization", "")
        if key is not None and not secrets.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise RefusedError("The key is missing or wrong: Authorization: Bearer KEY.", status=401, code="invalid_api_key")

    def answered(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
        return Response(orjson.dumps(content), status, headers, media_type="application/json")

    @app.exception_handler(Exception)
    @app.exception_handler(RefusedError)
    async def tell(request: HTTPRequest, error: Exception) -> Response:
        refusal = refused(error)
        endpoint.metrics.answered(_route(request), refusal.status)
        return answered(refusal.status, refusal.body, refusal.headers)

    @app.exception_handler(HTTPException)
    async def tell_http(request: HTTPRequest, error: HTTPException) -> Response:
        code = "method_not_allowed" if error.status_code == 405 else "not_found"
        answer = await tell(request, RefusedError(f"{error.detail}.", status=error.status_code, code=code))
        answer.headers.update(error.headers or {})
        return answer

    @app.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> Response:
        recorder, admission = endpoint.recorder, endpoint.admission
        state = "stopping" if admission.stopping else "ok" if recorder.error is None else "store failed"
        told = {"status": state, "running": admission.running, "waiting": admission.waiting, "unstored": recorder.unstored}
        return answered(200 if state == "ok" else 503, told)

    @app.get("/metrics", dependencies=[Depends(let_in)])
    async def metrics() -> Response:
        return Response(endpoint.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models", dependencies=[Depends(let_in)])
    async def models() -> Response:
        return answered(200, {"object": "list", "data": [model_of(name) for name in endpoint.models.names()]})

    @app.get("/v1/models/{name}", dependencies=[Depends(let_in)])
    async def model(name: str) -> Response:
        if name not in endpoint.models.names():
            raise no_model(f"There is no model {name[:50]!r}.")
        return answered(200, model_of(name))

    @app.get(f"{SUFFIX}{ROUTE}", dependencies=[Depends(let_in)])
    async def of_pair() -> Response:
        pair = endpoint.pair
        return answered(200, told(*infos, pair.vocabulary, pair.special_tokens, __version__))

    def model_of(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": started, "owned_by": "rrti-sgl", "max_model_len": room}

    @app.post("/v1/completions", dependencies=[Depends(let_in)])
    async def completions(request: HTTPRequest) -> Response:
        return await answer(request, CompletionRequest, Completions)

    @app.post("/v1/chat/completions", dependencies=[Depends(let_in)])
    async def chats(request: HTTPRequest) -> Response:
        return await answer(request, ChatRequest, Chats)

    async def answer(
        request: HTTPRequest, kind: type[CompletionRequest] | type[ChatRequest], form: Callable[..., Answers]
    ) -> Response:
        route = _route(request)
        try:
            with endpoint.admission.reading():
                asked = read(await body_of(request, endpoint.limits), kind)
                with spelled(Fields(asked.limit_field)):
                    order = await endpoint.order(asked)
            answers = form(order, endpoint.pair.vocabulary)
            if asked.stream:
                events = _events(endpoint, order, answers)
                check = endpoint.admission.check_running
                return EventStream(request.receive, events, endpoint.limits.idle_s, endpoint.metrics, route, check)
            found = await until_gone(request.receive, _whole(endpoint, order, answers))
        except ClientDisconnect:
            found = None
        except asyncio.CancelledError:
            endpoint.admission.check_running()  # where its time to finish is over the client is told so
            raise
        except Exception as error:
            raise refused(error) from error
        if found is None:
            endpoint.metrics.left.inc()
            return Response(status_code=_LEFT)
        endpoint.metrics.answered(route, 200)
        return answered(200, found)

    infos = endpoint.pair.base.info, endpoint.pair.reasoning.info
    started, room = now(), min(info.max_input_tokens for info in infos)
    return app


def _route(request: HTTPRequest) -> str:
    """The route of a request, for the count; models by name are one."""
    return getattr(request.scope.get("route"), "path", "other")


async def _whole(endpoint: Endpoint, order: Order, answers: Answers) -> dict[str, Any]:
    pieces: list[list[Piece]] = [[] for _ in range(order.choices)]
    async with aclosing(endpoint.pieces(order)) as settled:
        async for piece in settled:
            pieces[piece.index].append(piece)
    return answers.whole(pieces)


async def _events(endpoint: Endpoint, order: Order, answers: Answers) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a stream; none comes before the first piece, so that what cannot begin is refused by its status."""
    opened = False
    async with aclosing(endpoint.pieces(order)) as settled:
        async for piece in settled:
            if not opened:
                for chunk in answers.opening():
                    yield chunk
                opened = True
            yield answers.chunk(piece)
    for chunk in answers.closing():
        yield chunk
