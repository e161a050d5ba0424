"""An SGLang server that holds both models, seen from outside: found out by asking, and asked for whole samples."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.identity import identify, servers_behind
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import UNREADABLE, GenerateRequest, Generation, Sampling, longest_answer
from rrti_sgl.errors import EndpointError, UsageError, command
from rrti_sgl.fused import ALGORITHM
from rrti_sgl.fused.protocol import KEY, Steering
from rrti_sgl.serving.versions import SERVER_INFO_ROUTES


@dataclass(frozen=True, slots=True)
class GuidedRequest:
    """One sample for a fused server.

    Args:
        input_ids: the reasoning model's prompt.
        max_new_tokens: most tokens.
        sampling: how both models draw.
        stop_token_ids: end tokens of either model.
        steering: of the gate, with the base model's prompt.
        ignore_eos: whether end tokens end nothing, as where the solution is given.
    """

    input_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    steering: Steering
    ignore_eos: bool = False

    def payload(self, rid: str) -> dict[str, Any]:
        """The JSON body of a `/generate` call."""
        params = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "stop_token_ids": list(self.stop_token_ids),
            "skip_special_tokens": False,
            "ignore_eos": self.ignore_eos,
            "custom_params": {KEY: self.steering.to_json()},
        }
        return {"rid": rid, "input_ids": list(self.input_ids), "sampling_params": params}


@dataclass(frozen=True, slots=True)
class GuidedAnswer:
    """What came of a sample, or its next piece: tokens, a record of each, and how it ended (None: it goes on).

    `prompt_tokens` and `cached_tokens` are the reasoning model's; `elapsed_ms` counts from the request.
    """

    output_ids: Sequence[int]
    records: Sequence[str]
    finish: str | None
    prompt_tokens: int
    cached_tokens: int
    elapsed_ms: float


class OneModelError(EndpointError):
    """A server holds one model where one with both was asked for."""


class FusedServer:
    """One SGLang server with both models.

    Args:
        transport: to it.
        info: what it is; `info.model` is the reasoning model.
        base_model: folder or hub id of the base model.
        draft_tokens: most tokens that it drafts in a round.
        incremental: whether each piece of a stream holds what is new, and not all so far.
    """

    def __init__(
        self, transport: Transport, info: EngineInfo, base_model: str, draft_tokens: int, incremental: bool = False
    ) -> None:
        self.info, self.base_model, self.draft_tokens = info, base_model, draft_tokens
        self._transport, self._incremental = transport, incremental

    async def answers(self, request: GuidedRequest, *, streamed: bool) -> AsyncGenerator[GuidedAnswer, None]:
        """One sample, whole or in pieces as it is written. Closing the generator ends its work.

        Raises:
            EndpointError: the server refused it, failed, or gave an answer that cannot be read.
        """
        rid, start, finish, n = uuid.uuid4().hex, time.perf_counter(), None, 0
        most = longest_answer(len(request.input_ids) + request.max_new_tokens, request.steering.trace)
        try:
            async with aclosing(self._told(request, rid, streamed, most)) as told:
                async for answer in told:
                    piece = _answer(answer, 0 if self._incremental else n, (time.perf_counter() - start) * 1e3)
                    n += len(piece.output_ids)
                    if n > request.max_new_tokens:
                        message = (
                            f"{self.info.name} wrote more than the {request.max_new_tokens} tokens that were asked for."
                        )
                        raise EndpointError(message, "Is it an SGLang server?")
                    finish = piece.finish
                    yield piece
            if finish is None:
                raise EndpointError(f"{self.info.name} ended a stream in the middle of a sample.", "See the server's log.")
        finally:
            if finish is None:
                await self._transport.abort([rid])

    async def _told(self, request: GuidedRequest, rid: str, streamed: bool, most: int) -> AsyncGenerator[Any, None]:
        payload = request.payload(rid)
        if not streamed:
            yield await self._transport.post("/generate", payload, most=most, new_tokens=request.max_new_tokens)
            return
        async with aclosing(self._transport.events("/generate", payload | {"stream": True}, most)) as events:
            async for event in events:
                yield event

    async def flush(self) -> None:
        """Forget the cached prefixes of both models."""
        await self._transport.empty_cache()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _answer(answer: Any, seen: int, elapsed_ms: float) -> GuidedAnswer:
    """What an answer tells, without its first tokens, which were seen."""
    try:
        if "error" in answer:
            raise EndpointError(f"The server refused a request: {answer['error'].get('message', 'no reason given')}.")
        meta = answer["meta_info"]
        finish = (meta.get("finish_reason") or {}).get("type")
        if finish == "abort":
            raise EndpointError(f"The server ended a request: {meta['finish_reason'].get('message', 'no reason given')}.")
        return GuidedAnswer(
            output_ids=list(answer["output_ids"][seen:]),
            records=list((meta.get(KEY) or [])[seen:]),
            finish=finish,
            prompt_tokens=int(meta["prompt_tokens"]),
            cached_tokens=int(meta.get("cached_tokens") or 0),
            elapsed_ms=elapsed_ms,
        )
    except UNREADABLE as error:
        raise EndpointError(
            f"The server's answer to /generate cannot be read: {type(error).__name__}: {error}.",
            f"Is it a server that `{command('serve', fused=True)}` started?",
        ) from error


class FusedSide:
    """One of the two models of fused servers, as far as a pair names it: an `Engine` that cannot be asked alone.

    Args:
        servers: one, or several alike.
        info: of the model.
    """

    def __init__(self, servers: Sequence[FusedServer], info: EngineInfo) -> None:
        self.servers, self.info = servers, info

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Raises UsageError: the server answers for the guided model."""
        raise UsageError(
            f"{self.info.name} holds both models and answers for the guided model alone.",
            "For this, serve the models as two servers (`rrti serve`).",
        )

    async def flush(self) -> None:
        """Forget cached prefixes, those of the other model with them."""
        await asyncio.gather(*(server.flush() for server in self.servers))

    async def close(self) -> None:
        """Close the connections of both."""
        await asyncio.gather(*(server.close() for server in self.servers))


@asynccontextmanager
async def connect_fused(
    urls: str, *, api_key: str | None = None, limits: TransportLimits | None = None
) -> AsyncIterator[tuple[FusedSide, FusedSide]]:
    """Both models of the server at an address, base and reasoning; or of several servers, whose addresses commas join.

    A router stands for the servers behind it, which are then asked themselves: it passes on nothing of what steers a gate.

    Raises:
        OneModelError: one holds one model.
        EndpointError: one cannot be reached, or they are not alike.
    """
    async with AsyncExitStack() as stack:
        behind = [await _servers_at(url, api_key, limits) for url in urls.split(",")]
        servers = [await stack.enter_async_context(_connected(url, api_key, limits)) for found in behind for url in found]
        first = servers[0]
        if len({(each.info.model, each.info.version, each.base_model) for each in servers}) > 1:
            served = ", ".join(f"{each.info.name}: {each.base_model} and {each.info.model}" for each in servers)
            raise EndpointError(f"The servers are not alike ({served}).", "Name servers of the same two models.")
        info = replace(
            first.info,
            max_input_tokens=min(each.info.max_input_tokens for each in servers),
            max_running_requests=sum(each.info.max_running_requests for each in servers),
            details={**first.info.details, **({"replicas": len(servers)} if len(servers) > 1 else {})},
        )
        base = replace(info, model=_base_name(first.base_model, info.model), tokenizer=first.base_model)
        yield FusedSide(servers, base), FusedSide(servers, info)


async def _servers_at(url: str, api_key: str | None, limits: TransportLimits | None) -> list[str]:
    """The address of a server itself, or those behind a router."""
    transport = Transport(url, api_key=api_key, limits=limits)
    try:
        told = await transport.first_of(*SERVER_INFO_ROUTES)
        return await servers_behind(transport) if "router_manager" in told else [transport.url]
    finally:
        await transport.close()


@asynccontextmanager
async def _connected(url: str, api_key: str | None, limits: TransportLimits | None) -> AsyncIterator[FusedServer]:
    transport = Transport(url, api_key=api_key, limits=limits)
    try:
        told = await transport.first_of(*SERVER_INFO_ROUTES)
        info, _ = await identify(transport)
        if str(told.get("speculative_algorithm")).upper() != ALGORITHM:
            raise OneModelError(
                f"{url} is the address of both models, but the server there holds one.",
                f"Give two addresses, or start one server for both with `{command('serve', fused=True)}`.",
            )
        try:
            base_model, draft_tokens = str(told["speculative_draft_model_path"]), int(told["speculative_num_draft_tokens"])
        except UNREADABLE as error:
            message = f"{url} tells what cannot be read of its two models ({type(error).__name__}: {error})."
            raise EndpointError(message, f"Is it a server that `{command('serve', fused=True)}` started?") from error
        info = replace(info, details={**info.details, "fused": True, "draft_tokens": draft_tokens})
        incremental = bool(told.get("incremental_streaming_output") or told.get("stream_output"))
        yield FusedServer(transport, info, base_model, draft_tokens, incremental)
    finally:
        await transport.close()


def _base_name(path: str, reasoning: str) -> str:
    """What the base model is called: its path, or for the bundled pair the name that does not depend on where it lies."""
    return "bundled/base" if reasoning == "bundled/reasoning" else path
