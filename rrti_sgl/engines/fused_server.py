"""An SGLang server that holds both models, seen from outside: found out by asking, and asked for whole samples."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.identity import identify
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import GenerateRequest, Generation, Sampling
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
    """

    input_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...]
    steering: Steering

    def payload(self, rid: str) -> dict[str, Any]:
        """The JSON body of a `/generate` call."""
        params = {
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "stop_token_ids": list(self.stop_token_ids),
            "skip_special_tokens": False,
            "custom_params": {KEY: self.steering.to_json()},
        }
        return {"rid": rid, "input_ids": list(self.input_ids), "sampling_params": params}


@dataclass(frozen=True, slots=True)
class GuidedAnswer:
    """What came of a sample: its tokens, a record of each, how it ended; prompt and cached tokens of the reasoning model."""

    output_ids: Sequence[int]
    records: Sequence[str]
    stopped: bool
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
    """

    def __init__(self, transport: Transport, info: EngineInfo, base_model: str, draft_tokens: int) -> None:
        self.info, self.base_model, self.draft_tokens = info, base_model, draft_tokens
        self._transport = transport

    async def generate(self, request: GuidedRequest) -> GuidedAnswer:
        """One whole sample. Cancelling the call ends its work.

        Raises:
            EndpointError: the server refused it, failed, or gave an answer that cannot be read.
        """
        rid, start = uuid.uuid4().hex, time.perf_counter()
        try:
            answer = await self._transport.post("/generate", request.payload(rid))
        except asyncio.CancelledError:
            await self._transport.abort([rid])
            raise
        return _answer(answer, (time.perf_counter() - start) * 1e3)

    async def flush(self) -> None:
        """Forget the cached prefixes of both models."""
        await self._transport.post("/flush_cache", {})

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def _answer(answer: Any, elapsed_ms: float) -> GuidedAnswer:
    try:
        meta: Mapping[str, Any] = answer["meta_info"]
        finish = meta.get("finish_reason") or {}
        if finish.get("type") == "abort":
            raise EndpointError(f"The server ended a request: {finish.get('message', 'no reason given')}.")
        return GuidedAnswer(
            output_ids=answer["output_ids"],
            records=meta.get(KEY) or [],
            stopped=finish.get("type") == "stop",
            prompt_tokens=int(meta["prompt_tokens"]),
            cached_tokens=int(meta.get("cached_tokens") or 0),
            elapsed_ms=elapsed_ms,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EndpointError(
            f"The server's answer to /generate cannot be read: {type(error).__name__}: {error}.",
            f"Is it a server that `{command('serve', fused=True)}` started?",
        ) from error


class FusedSide:
    """One of the two models of a fused server, as far as a pair names it: an `Engine` that cannot be asked alone."""

    def __init__(self, server: FusedServer, info: EngineInfo) -> None:
        self.server, self.info = server, info

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Raises UsageError: the server answers for the guided model."""
        raise UsageError(
            f"{self.info.name} holds both models and answers for the guided model alone.",
            "For this, serve the models as two servers (`rrti serve`).",
        )

    async def flush(self) -> None:
        """Forget cached prefixes, those of the other model with them."""
        await self.server.flush()

    async def close(self) -> None:
        """Close the connections of both."""
        await self.server.close()


@asynccontextmanager
async def connect_fused(
    url: str, *, api_key: str | None = None, limits: TransportLimits | None = None
) -> AsyncIterator[tuple[FusedSide, FusedSide]]:
    """Both models of the server at an address, base and reasoning.

    Raises:
        OneModelError: it holds one model.
        EndpointError: it cannot be reached.
    """
    transport = Transport(url, api_key=api_key, limits=limits)
    try:
        info, _ = await identify(transport)
        told = await transport.first_of(*SERVER_INFO_ROUTES)
        if str(told.get("speculative_algorithm")).upper() != ALGORITHM:
            raise OneModelError(
                f"{url} is the address of both models, but the server there holds one.",
                f"Give two addresses, or start one server for both with `{command('serve', fused=True)}`.",
            )
        base_model, draft_tokens = str(told["speculative_draft_model_path"]), int(told["speculative_num_draft_tokens"])
        info = replace(info, details={**info.details, "fused": True, "draft_tokens": draft_tokens})
        server = FusedServer(transport, info, base_model, draft_tokens)
        base = replace(info, model=_base_name(base_model, info.model), tokenizer=base_model)
        yield FusedSide(server, base), FusedSide(server, info)
    finally:
        await transport.close()


def _base_name(path: str, reasoning: str) -> str:
    """What the base model is called: its path, or for the bundled pair the name that does not depend on where it lies."""
    return "bundled/base" if reasoning == "bundled/reasoning" else path
