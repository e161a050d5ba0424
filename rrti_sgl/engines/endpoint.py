"""An endpoint of ours (`rrti api`), seen from outside: which pair it serves, and asked for samples and their traces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import UNREADABLE, GenerateRequest, Generation
from rrti_sgl.errors import EndpointError, UsageError, argument, command
from rrti_sgl.tokens.special_tokens import SpecialTokens
from rrti_sgl.tokens.vocabulary import Vocabulary

ROUTE, COMPLETIONS, SUFFIX = "/pair", "/completions", "/v1"
FORMAT = 1
"""Of what is told of the pair, and of packed traces; who reads another one refuses."""
_WAITING_S = 6 * 3600.0  # for a place: other clients' samples may be long


def is_endpoint(base_url: str | None, reasoning_url: str | None) -> bool:
    """Whether the addresses of a pair are an endpoint's: the same, and with /v1 at its end, as `rrti api` prints it."""
    addresses = {(url or "").rstrip("/") for url in (base_url, reasoning_url)}
    return len(addresses) == 1 and addresses.pop().endswith(SUFFIX)


def as_address(url: str) -> str:
    """The address of an endpoint, with the /v1 that marks it.

    Raises:
        UsageError: it is no URL.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"Endpoint address {url!r} is no URL.", "Write it as http://HOST:PORT.")
    return url.rstrip("/").removesuffix(SUFFIX) + SUFFIX


def told(
    base: EngineInfo, reasoning: EngineInfo, vocabulary: Vocabulary, special_tokens: SpecialTokens, version: str
) -> dict[str, Any]:
    """What an endpoint tells of its pair at `ROUTE`, so that a client's records are those of the servers behind it."""
    return {
        "format": FORMAT,
        "package_version": version,
        "vocab_size": vocabulary.size,
        "tokenizer_hash": vocabulary.digest,
        "special_tokens": special_tokens,
        "models": {
            side: {
                "model": info.model,
                "tokenizer": info.tokenizer,
                "version": info.version,
                "max_input_tokens": info.max_input_tokens,
                "max_running_requests": info.max_running_requests,
                "details": dict(info.details),
            }
            for side, info in (("base", base), ("reasoning", reasoning))
        },
    }


class EndpointSide:
    """One of the two models behind an endpoint, as far as a pair names it: an `Engine` that cannot be asked alone.

    Args:
        transport: to the endpoint.
        info: of the model, as its server tells it.
        of: what the endpoint tells of the pair.
    """

    def __init__(self, transport: Transport, info: EngineInfo, of: Mapping[str, Any]) -> None:
        self.info, self._transport, self._of = info, transport, of

    async def sample(self, request: Mapping[str, Any], most: int, new_tokens: int) -> Mapping[str, Any]:
        """One sample's whole trace, packed; cancelling the call ends its work.

        Args:
            request: the body of a completion that asks for it.
            most: bytes that the answer may have.
            new_tokens: that the sample may have.

        Raises:
            EndpointError: it was refused or failed, or the answer has no trace.
        """
        answer = await self._transport.post(COMPLETIONS, request, most=most, new_tokens=new_tokens)
        try:
            trace: Mapping[str, Any] = answer["choices"][0]["rrti"]["trace"]
        except UNREADABLE as error:
            raise unreadable(self.info.name, error) from error
        return trace

    def check(self, vocabulary: Vocabulary, special_tokens: SpecialTokens) -> None:
        """Refuse a tokenizer that is not the endpoint's: its token ids would mean something else there.

        Raises:
            UsageError: says what differs.
        """
        if vocabulary.digest != self._of["tokenizer_hash"] or vocabulary.size != self._of["vocab_size"]:
            raise UsageError(
                f"The tokenizer here is not that of {self.info.name}.", f"Name the one that it has: {argument('tokenizer')}."
            )
        if special_tokens != self._of["special_tokens"]:
            raise UsageError(
                f"{self.info.name} takes special tokens as {self._of['special_tokens']!r}.",
                f"Ask for the same: {argument('special_tokens', self._of['special_tokens'])}.",
            )

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Raises UsageError: an endpoint gives whole samples."""
        raise UsageError(
            f"{self.info.name} is an endpoint: it gives whole samples of its programs, and no answer of one model to this.",
            f"Name the servers behind it: {argument('base_url')} and {argument('reasoning_url')}.",
        )

    async def flush(self) -> None:
        """Raises UsageError: the caches are the endpoint's."""
        raise UsageError(f"{self.info.name} is an endpoint; its servers' caches are not ours to empty.", "Name the servers.")

    async def close(self) -> None:
        """Close the connections of both."""
        await self._transport.close()


@asynccontextmanager
async def connect_endpoint(
    url: str, *, api_key: str | None = None, limits: TransportLimits | None = None
) -> AsyncIterator[tuple[EndpointSide, EndpointSide]]:
    """Both models behind an endpoint, base and reasoning.

    Args:
        url: its address, with /v1.
        api_key: what it asks of clients.
        limits: time limits and retries; a sample may wait for hours until others are done.

    Raises:
        EndpointError: it cannot be reached, is no endpoint of ours, or one of a version that packs traces otherwise.
    """
    limits = limits or TransportLimits()
    transport = Transport(url, api_key=api_key, limits=replace(limits, timeout_s=max(limits.timeout_s, _WAITING_S)))
    try:
        of = await transport.get(ROUTE)
        if of.get("format") != FORMAT:
            raise EndpointError(
                f"{url} packs traces as format {of.get('format')!r}, and this installation reads {FORMAT}.",
                "Install the same version on both sides.",
            )
        try:
            infos = [
                EngineInfo(
                    name=transport.url,
                    model=str(told["model"]),
                    tokenizer=str(told["tokenizer"]),
                    version=str(told["version"]),
                    vocab_size=int(of["vocab_size"]),
                    max_input_tokens=int(told["max_input_tokens"]),
                    max_running_requests=int(told["max_running_requests"]),
                    details=dict(told["details"]),
                )
                for told in (of["models"]["base"], of["models"]["reasoning"])
            ]
            _ = of["tokenizer_hash"], of["special_tokens"]
        except UNREADABLE as error:
            raise unreadable(transport.url, error) from error
        base, reasoning = (EndpointSide(transport, info, of) for info in infos)
        yield base, reasoning
    finally:
        await transport.close()


def unreadable(name: str, error: Exception) -> EndpointError:
    """That an endpoint's answer cannot be read."""
    return EndpointError(
        f"The answer of {name} cannot be read: {type(error).__name__}: {error}.",
        f"Is it an endpoint that `{command('api')}` serves, of this version?",
    )
