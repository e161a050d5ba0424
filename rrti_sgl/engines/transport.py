"""HTTP to one server: time limits, bounded retries, the key, and transport errors turned into ours. Nothing of any API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from rrti_sgl import bounds
from rrti_sgl.errors import EndpointError, UsageError, argument
from rrti_sgl.serving.keys import found_key, is_key

logger = logging.getLogger(__name__)

_RETRIED_STATUS = frozenset({429, 502, 503, 504})
_REFUSED_STATUS = frozenset({401, 403})
_LONGEST_WAIT_S = 5.0
_CONNECT_S = 10.0
_UNTIL_IDLE_S = 30
_LONGEST_ANSWER = 2**24  # bytes, of what tells of a server


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How long to wait and how often to try again.

    Args:
        timeout_s: for one call beside the tokens that it asks for, queueing on the server included; of a stream, without a
            further piece.
        token_s: for each token that a call asks for.
        retries: further tries after a transport error.
        backoff_s: wait before the first retry; it doubles each time, up to 5 s.
        patience_s: so long tries go on where no server answers at all: one that is started again needs a while.

    Raises:
        UsageError: `patience_s` is no such time.
    """

    timeout_s: float = 600.0
    token_s: float = 1.0
    retries: int = 4
    backoff_s: float = 0.5
    patience_s: float = bounds.PATIENCE_S

    def __post_init__(self) -> None:
        if not 0 <= self.patience_s <= bounds.SECONDS:
            wrong = argument("patience_s", text=f"{self.patience_s!r} is no time to wait.")
            raise UsageError(wrong, f"Give seconds, 0 to {bounds.SECONDS:.0f}.")


class Transport:
    """Calls to one address. Made inside a running event loop; `close` it.

    Args:
        url: address, with or without a trailing slash.
        api_key: sent as a bearer token; None takes the one that lies here for a server that we started
            (`rrti_sgl.serving.keys`), if there is one.
        limits: time limits and retries.

    Raises:
        UsageError: the address is no URL, or the key none that can be sent.
    """

    def __init__(self, url: str, *, api_key: str | None = None, limits: TransportLimits | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"Server address {url!r} is no URL.", "Write it as http://HOST:PORT.")
        if api_key is not None and not is_key(api_key):
            raise UsageError(
                f"{argument('api_key')} holds what no key does: a blank, a control character, or one beyond ASCII.",
                "Give the key alone, on one line.",
            )
        self.url = url.rstrip("/")
        self.api_key = api_key
        self.limits = limits or TransportLimits()
        self._key = api_key or found_key(self.url)
        self._session: aiohttp.ClientSession | None = aiohttp.ClientSession(
            timeout=self._timeout(),
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,  # what is packed may be a thousand times as long
            # The server closes connections that were idle for 5 s; let go of them before it does.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
        )

    def beside(self, url: str) -> Transport:
        """Another address with the same key and limits."""
        return Transport(url, api_key=self.api_key, limits=self.limits)

    async def close(self) -> None:
        """Close all connections; closing again changes nothing."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def first_of(self, *paths: str) -> dict[str, Any]:
        """What the first of several routes that exists returns.

        Raises:
            EndpointError: none does; the error of the last.
        """
        for path in paths[:-1]:
            with contextlib.suppress(EndpointError):
                return await self.get(path)
        return await self.get(paths[-1])

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path; tried once.

        Raises:
            EndpointError: it cannot be had, or is none.
        """
        answer = await self._request("GET", path, None, retries=0)
        if not isinstance(answer, dict):
            raise EndpointError(f"{self.url}{path} returned no JSON object.", "Is it an SGLang server?")
        return answer

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        most: int = _LONGEST_ANSWER,
        new_tokens: int = 0,
    ) -> Any:
        """What a path answers to a JSON body: JSON as values, anything else as text.

        Args:
            path: of the route.
            body: what is sent.
            headers: beside those of every call.
            most: bytes that the answer may have.
            new_tokens: that are asked for, in the longest of several sequences: it may take the longer.

        Raises:
            EndpointError: no answer after all tries, a refusal, or an answer that is longer.
        """
        return await self._request("POST", path, body, self.limits.retries, headers, most, new_tokens)

    async def events(self, path: str, body: Mapping[str, Any], most: int = _LONGEST_ANSWER) -> AsyncGenerator[Any, None]:
        """What a path answers to a JSON body piece by piece, as server-sent events; tried once, given up in silence alone.

        Args:
            path: of the route.
            body: what is sent.
            most: bytes that a piece may have.

        Raises:
            EndpointError: there is no answer, it is a refusal, it breaks off, or a piece is longer.
        """
        if self._session is None:
            raise EndpointError(f"The client of {self.url} is closed.", "Use it before it is closed.")
        try:
            async with self._session.post(
                self.url + path,
                data=orjson.dumps(body),
                headers=self._authorization(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(connect=_CONNECT_S, sock_read=self.limits.timeout_s),
            ) as answer:
                if answer.status != 200:
                    said = (await self._content(answer, path, most))[:300].decode(errors="replace")
                    raise EndpointError(f"POST {self.url}{path} failed: HTTP {answer.status}: {said}.")
                rest = b""
                async for part in answer.content.iter_any():  # lines may be longer than aiohttp's own reader takes
                    *whole, rest = (rest + part).split(b"\n\n")
                    self._bounded(len(rest), path, most)
                    for event in whole:
                        if (text := event.removeprefix(b"data:").strip()) != b"[DONE]":
                            yield orjson.loads(text)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, OSError) as error:
            raise EndpointError(
                f"POST {self.url}{path} broke off: {type(error).__name__}: {error}.", "See the server's log."
            ) from error

    async def _content(self, answer: aiohttp.ClientResponse, path: str, most: int) -> bytearray:
        content = bytearray()
        async for part in answer.content.iter_any():
            content += part
            self._bounded(len(content), path, most)
        return content

    def _bounded(self, n_bytes: int, path: str, most: int) -> None:
        if n_bytes > most:
            raise EndpointError(f"{self.url}{path} answers with more than {most} bytes.", "Is it an SGLang server?")

    def _timeout(self, new_tokens: int = 0) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(self.limits.timeout_s + new_tokens * self.limits.token_s, connect=_CONNECT_S)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def _found_another_key(self) -> bool:
        """Whether a server of ours is at the address that another key than the one that was sent belongs to."""
        sent, self._key = self._key, found_key(self.url) or self._key
        return self._key != sent

    async def empty_cache(self) -> None:
        """Empty the server's radix cache as soon as nothing runs there.

        SGLang refuses while something does, and for a moment after its last answer as well.

        Raises:
            EndpointError: something still ran after half a minute, or the server cannot be had.
        """
        await self.post(f"/flush_cache?timeout={_UNTIL_IDLE_S}", {})

    async def abort(self, rids: Sequence[str]) -> None:
        """Stop work that nobody waits for any more; best effort, the server may be gone."""
        if self._session is None:
            return
        for rid in rids:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self.url}/abort_request",
                    data=orjson.dumps({"rid": rid}),
                    headers=self._authorization(),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=2),
                ):
                    pass

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        retries: int,
        headers: Mapping[str, str] | None = None,
        most: int = _LONGEST_ANSWER,
        new_tokens: int = 0,
    ) -> Any:
        if self._session is None:
            raise EndpointError(f"The client of {self.url} is closed.", "Use it before it is closed.")
        data = None if body is None else orjson.dumps(body)
        attempt, failed_at = 0, None
        while True:
            nobody = False
            try:
                async with self._session.request(
                    method,
                    self.url + path,
                    data=data,
                    headers={**(headers or {}), **self._authorization()},
                    allow_redirects=False,  # what was asked, and the key, are for this server
                    timeout=self._timeout(new_tokens),
                ) as answer:
                    content = await self._content(answer, path, most)
                    if answer.status == 200:
                        return orjson.loads(content) if content[:1] in b"[{" and content else content.decode()
                    problem = f"HTTP {answer.status}: {content[:300].decode(errors='replace')}"
                    if answer.status in _REFUSED_STATUS:
                        if self._found_another_key():
                            return await self._request(method, path, body, retries, headers, most, new_tokens)
                        raise EndpointError(
                            f"{self.url} refuses access ({problem}).",
                            f"Give its key: {argument('api_key')}, or RRTI_API_KEY in the environment of a command.",
                        )
                    if answer.status not in _RETRIED_STATUS:
                        attempt += 1
                        break
            except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, orjson.JSONDecodeError, OSError) as error:
                nobody = isinstance(error, aiohttp.ClientConnectionError) and not isinstance(error, TimeoutError)
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            attempt, now = attempt + 1, time.monotonic()
            failed_at = failed_at or now
            if not retries or (attempt > retries and not (nobody and now - failed_at < self.limits.patience_s)):
                break
            wait_s = min(self.limits.backoff_s * 2 ** (attempt - 1), _LONGEST_WAIT_S)
            level = logging.WARNING if attempt <= retries else logging.DEBUG
            logger.log(level, "%s%s failed (%s); trying again in %.1f s", self.url, path, problem, wait_s)
            await asyncio.sleep(wait_s)
        raise EndpointError(
            f"{method} {self.url}{path} failed after {attempt} {'try' if attempt == 1 else 'tries'}: {problem}.",
            "Check that the server runs and the address is right; `rrti serve` starts a pair.",
        )
