"""SGLang servers over their native HTTP API as engines: one server, or several of one model behind SGLang's router."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.identity import identify
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import GenerateRequest, Generation, longest_answer, parse, payload, single_payload
from rrti_sgl.errors import EndpointError, UsageError, argument

logger = logging.getLogger(__name__)

_ROUTING_HEADER = "X-SMG-Routing-Key"


class SGLangEngine:
    """One SGLang server. An `Engine`; `connect_engine` makes it.

    Args:
        transport: to the server.
        info: what it is; with the vocabulary's size, requests that would end the server are refused here.
    """

    def __init__(self, transport: Transport, info: EngineInfo) -> None:
        self.info = info
        self._transport = transport
        self._said: set[str | None] = {None}  # why exact numbers did not come, each reason once

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """One call for a batch. Each answer's `elapsed_ms` is its equal share of the call's wall time."""
        for request in requests:
            self._check(request)
        rids = [uuid.uuid4().hex for _ in requests]
        start = time.perf_counter()
        answers = await self._call(requests, rids)
        share_ms = (time.perf_counter() - start) * 1e3 / max(len(requests), 1)
        if not isinstance(answers, list) or len(answers) != len(requests):
            kind = type(answers).__name__
            raise EndpointError(f"{self.info.name}/generate returned {kind} for {len(requests)} requests.")
        size = self.info.vocab_size
        parsed = [parse(request, answer, size) for request, answer in zip(requests, answers, strict=True)]
        for reason in {generation.exact_missing for generation in parsed} - self._said:
            logger.warning("%s: no exact numbers, falling back to top-k: %s", self.info.name, reason)
            self._said.add(reason)
        return [replace(generation, elapsed_ms=share_ms) for generation in parsed]

    async def flush(self) -> None:
        """Empty the server's radix cache."""
        await self._transport.empty_cache()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _call(self, requests: Sequence[GenerateRequest], rids: Sequence[str]) -> Any:
        try:
            return await self._transport.post(
                "/generate",
                payload(requests, rids),
                most=sum(map(_longest, requests)),
                new_tokens=max(request.max_new_tokens for request in requests),
            )
        except asyncio.CancelledError:
            await self._transport.abort(rids)
            raise

    def _check(self, request: GenerateRequest) -> None:
        size = self.info.vocab_size
        if not request.input_ids:
            raise UsageError("A request has no input tokens.", "Give each model a prompt of at least one token.")
        if size and request.k > size:
            raise UsageError(
                f"k = {request.k} top log-probabilities were asked for, but the vocabulary has {size} entries.",
                f"Use k <= {size}.",
            )
        if request.score_from is not None and not 1 <= request.score_from <= len(request.input_ids):
            raise UsageError(f"score_from = {request.score_from} is outside 1..{len(request.input_ids)}.")


class RoutedEngine(SGLangEngine):
    """Several servers behind a router: one call a sequence, and all that carries one key goes to one server."""

    async def _call(self, requests: Sequence[GenerateRequest], rids: Sequence[str]) -> Any:
        """Cancelling a call closes its connection, which ends its work."""
        if any(request.exact for request in requests):
            raise UsageError(
                f"{self.info.name} is a router, which passes on no request for exact numbers.",
                f"Use {argument('score_kind', 'topk')}, or the address of a single server.",
            )
        post = self._transport.post
        calls = [
            asyncio.create_task(
                post(
                    "/generate",
                    single_payload(request, rid),
                    {_ROUTING_HEADER: request.sequence_key or rid},
                    most=_longest(request),
                    new_tokens=request.max_new_tokens,
                )
            )
            for request, rid in zip(requests, rids, strict=True)
        ]
        try:
            return await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()


def _longest(request: GenerateRequest) -> int:
    n_named = 0 if request.named_ids is None else request.named_ids.shape[1]
    n_tokens = len(request.input_ids) + request.max_new_tokens
    return longest_answer(n_tokens, request.k + len(request.logprob_ids) + n_named)


@asynccontextmanager
async def connect_engine(
    url: str, *, api_key: str | None = None, limits: TransportLimits | None = None
) -> AsyncIterator[SGLangEngine]:
    """The engine at an address, of one server or of a router.

    Raises:
        EndpointError, UsageError: see `identify` and `Transport`.
    """
    transport = Transport(url, api_key=api_key, limits=limits)
    try:
        info, routed = await identify(transport)
        yield (RoutedEngine if routed else SGLangEngine)(transport, info)
    finally:
        await transport.close()
