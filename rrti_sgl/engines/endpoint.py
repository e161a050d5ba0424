"""An async client of one SGLang server's native API.

`Endpoint` makes single calls: one HTTP request for a batch of sequences, with a time limit, bounded retries on transport
errors, and an abort on the server when the caller is cancelled. `Batcher` collects what many samples ask for at the same
time into few and full calls; that, not HTTP, is what decides the speed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import aiohttp
import orjson

from rrti_sgl.engines.wire import GenerateRequest, Generation, Sampling, parse, payload, single_payload
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.serving.versions import MODEL_INFO_ROUTES, SERVER_INFO_ROUTES, check_version, served_name
from rrti_sgl.tokens.special_tokens import Renumbering

logger = logging.getLogger(__name__)

_RETRIED_STATUS = frozenset({429, 502, 503, 504})
_REFUSED_STATUS = frozenset({401, 403})

SEQUENCE_KEY: contextvars.ContextVar[str] = contextvars.ContextVar("sequence_key")
"""The sample that a task is decoding. A router sends all that carries one key to one server, whose cache then has it."""
_ROUTING_HEADER = "X-SMG-Routing-Key"


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How long to wait and how often to try again.

    Args:
        timeout_s: for one call, queueing on the server included.
        retries: further tries after a transport error.
        backoff_s: wait before the first retry; it doubles each time.
    """

    timeout_s: float = 600.0
    retries: int = 4
    backoff_s: float = 0.5


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself; `max_input_tokens` is the longest input it takes, `info` is kept with the run."""

    url: str
    model: str
    tokenizer: str
    version: str
    max_input_tokens: int
    max_running_requests: int
    info: dict[str, Any]


class Endpoint:
    """One SGLang server, or several of one model behind SGLang's router (see `rrti_sgl.serving.router`).

    Args:
        url: address, with or without a trailing slash.
        api_key: sent as a bearer token where the server asks for one.
        limits: time limits and retries.
    """

    def __init__(self, url: str, *, api_key: str | None = None, limits: TransportLimits | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"Server address {url!r} is no URL.", "Write it as http://HOST:PORT.")
        self.url = url.rstrip("/")
        self.limits = limits or TransportLimits()
        self.vocab_size = 0  # known once `rrti_sgl.engines.pair` has connected
        self.renumbering = Renumbering()  # the server's token ids to the pair's; likewise
        self.routed = False  # whether a router stands before the servers; known once `server_info` has asked
        self.n_calls = 0  # calls of `generate` so far
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._warned: set[str | None] = set()  # reasons for missing exact numbers that were logged

    async def __aenter__(self) -> Endpoint:
        timeout = aiohttp.ClientTimeout(total=self.limits.timeout_s, connect=10.0)
        # The server closes connections that were idle for 5 s; let go of them before it does.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0)
        self._session = aiohttp.ClientSession(timeout=timeout, headers=self._headers, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def server_info(self) -> ServerInfo:
        """Ask the server who it is.

        Raises:
            EndpointError: it cannot be reached, is no SGLang server, or one of a version that is not supported.
        """
        server = await self._first_of(*SERVER_INFO_ROUTES)
        self.routed = "router_manager" in server
        if self.routed:
            return await self._routed_server_info()
        model = await self._first_of(*MODEL_INFO_ROUTES)
        try:
            check_version(str(server["version"]), self.url)
            return ServerInfo(
                url=self.url,
                model=served_name(model, server),
                tokenizer=str(model.get("tokenizer_path") or model["model_path"]),
                version=str(server["version"]),
                # SGLang refuses an input of exactly the length that it names.
                max_input_tokens=int(server.get("max_req_input_len") or server["max_total_num_tokens"]) - 1,
                max_running_requests=int(server.get("max_running_requests") or 64),
                info={
                    name: server.get(name)
                    for name in (
                        "version",
                        "dtype",
                        "device",
                        "attention_backend",
                        "disable_radix_cache",
                        "random_seed",
                    )
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self.url} answers, but not like an SGLang server ({type(error).__name__}: {error}).",
                "Point the option at an SGLang server's native address (http://HOST:PORT without /v1).",
            ) from error

    async def _routed_server_info(self) -> ServerInfo:
        """What the servers behind a router have in common: the least input length, and all their running requests.

        Raises:
            EndpointError: a server cannot be asked, or they differ in model or version.
        """
        listed = (await self._get("/workers", retries=0)).get("workers") or []
        if not listed:
            raise EndpointError(f"The router {self.url} has no servers.", "Start them, and look at the router's log.")
        async with contextlib.AsyncExitStack() as stack:
            workers = [Endpoint(str(worker["url"]), limits=self.limits) for worker in listed]
            for worker in workers:
                worker._headers = self._headers
                await stack.enter_async_context(worker)
            infos = await asyncio.gather(*(worker.server_info() for worker in workers))
        if len({(info.model, info.version) for info in infos}) > 1:
            served = ", ".join(sorted(f"{info.url}: {info.model} on SGLang {info.version}" for info in infos))
            raise EndpointError(f"The servers behind {self.url} are not alike ({served}).", "Put one model behind a router.")
        return replace(
            infos[0],
            url=self.url,
            max_input_tokens=min(info.max_input_tokens for info in infos),
            max_running_requests=sum(info.max_running_requests for info in infos),
            info=infos[0].info | {"replicas": len(infos)},
        )

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """One call for a batch; the answers come in the order of the requests.

        Each answer's `elapsed_ms` is its equal share of the call's wall time. Requests with more `k` than the vocabulary
        has are refused here, because they would end the whole server.
        """
        for request in requests:
            self._check(request)
        requests = [_with_key(request) for request in requests]
        if self.renumbering:
            requests = [self.renumbering.inverse.request(request) for request in requests]
        self.n_calls += 1
        start = time.perf_counter()
        answers = await (self._generate_routed(requests) if self.routed else self._generate(requests))
        share_ms = (time.perf_counter() - start) * 1e3 / max(len(requests), 1)
        if not isinstance(answers, list) or len(answers) != len(requests):
            raise EndpointError(f"{self.url}/generate returned {type(answers).__name__} for {len(requests)} requests.")
        parsed = [parse(request, answer, self.vocab_size) for request, answer in zip(requests, answers, strict=True)]
        self._warn_of_missing(parsed)
        if self.renumbering:
            parsed = [self.renumbering.generation(generation) for generation in parsed]
        return [replace(generation, elapsed_ms=share_ms) for generation in parsed]

    async def _generate(self, requests: Sequence[GenerateRequest]) -> Any:
        rids = [uuid.uuid4().hex for _ in requests]
        try:
            return await self._post("/generate", payload(requests, rids))
        except asyncio.CancelledError:
            await self._abort(rids)
            raise

    async def _generate_routed(self, requests: Sequence[GenerateRequest]) -> Any:
        """One call a sequence, as a router takes them; cancelling one closes its connection, which ends its work."""
        if any(request.exact for request in requests):
            raise UsageError(
                f"{self.url} is a router, which passes on no request for exact numbers.",
                "Use --score-kind topk, or the address of a single server.",
            )
        rids = [uuid.uuid4().hex for _ in requests]
        calls = [
            asyncio.create_task(
                self._post("/generate", single_payload(request, rid), {_ROUTING_HEADER: request.sequence_key or rid})
            )
            for request, rid in zip(requests, rids, strict=True)
        ]
        try:
            return await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()

    def _warn_of_missing(self, generations: Sequence[Generation]) -> None:
        """Say, once for each reason, that exact numbers did not come; what is computed then falls back to the top k."""
        for reason in {generation.exact_missing for generation in generations} - self._warned - {None}:
            logger.warning("%s: no exact numbers, falling back to top-k: %s", self.url, reason)
            self._warned.add(reason)

    async def returns_original_logprobs(self, token_id: int) -> bool:
        """Whether output log-probabilities stay raw at temperature 2; found by trying, because servers do not say."""
        top = min(2, self.vocab_size)
        probe = GenerateRequest(input_ids=(token_id,), max_new_tokens=1, k=top)
        greedy, hot = await self.generate([probe, replace(probe, sampling=Sampling(temperature=2.0))])
        return bool(abs(float(greedy.output.logprobs[0, 0]) - float(hot.output.logprobs[0, 0])) < 1e-2)

    async def flush_cache(self) -> None:
        """Empty the server's radix cache."""
        await self._post("/flush_cache", {})

    def _check(self, request: GenerateRequest) -> None:
        if not request.input_ids:
            raise UsageError("A request has no input tokens.", "Give each model a prompt of at least one token.")
        if self.vocab_size and request.k > self.vocab_size:
            raise UsageError(
                f"k = {request.k} top log-probabilities were asked for, but the vocabulary has {self.vocab_size} entries.",
                f"Use k <= {self.vocab_size}.",
            )
        if request.score_from is not None and not 1 <= request.score_from <= len(request.input_ids):
            raise UsageError(f"score_from = {request.score_from} is outside 1..{len(request.input_ids)}.")

    async def _first_of(self, *paths: str) -> dict[str, Any]:
        for path in paths[:-1]:
            with contextlib.suppress(EndpointError):
                return await self._get(path, retries=0)
        return await self._get(paths[-1], retries=0)

    async def _get(self, path: str, retries: int) -> dict[str, Any]:
        answer = await self._request("GET", path, None, retries)
        if not isinstance(answer, dict):
            raise EndpointError(f"{self.url}{path} returned no JSON object.", "Is it an SGLang server?")
        return answer

    async def _post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        return await self._request("POST", path, body, self.limits.retries, headers)

    async def _request(
        self, method: str, path: str, body: dict[str, Any] | None, retries: int, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The one place where transport errors become ours."""
        if self._session is None:
            raise EndpointError(f"The client of {self.url} is closed.", "Use it inside `async with`.")
        data = None if body is None else orjson.dumps(body)
        for attempt in range(retries + 1):
            try:
                async with self._session.request(method, self.url + path, data=data, headers=headers) as answer:
                    content = await answer.read()
                    if answer.status == 200:
                        return orjson.loads(content) if content[:1] in b"[{" and content else content.decode()
                    problem = f"HTTP {answer.status}: {content[:300].decode(errors='replace')}"
                    if answer.status in _REFUSED_STATUS:
                        raise EndpointError(
                            f"{self.url} refuses access ({problem}).",
                            "Give its key: RRTI_API_KEY in the environment, or --api-key.",
                        )
                    if answer.status not in _RETRIED_STATUS:
                        break
            except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError, OSError) as error:
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if attempt < retries:
                wait_s = self.limits.backoff_s * 2**attempt
                logger.warning("%s%s failed (%s); trying again in %.1f s", self.url, path, problem, wait_s)
                await asyncio.sleep(wait_s)
        raise EndpointError(
            f"{method} {self.url}{path} failed after {attempt + 1} tries: {problem}.",
            "Check that the server runs and the address is right; `rrti serve` starts a pair.",
        )

    async def _abort(self, rids: Sequence[str]) -> None:
        """Stop work that nobody waits for any more; best effort, the server may be gone."""
        if self._session is None:
            return
        for rid in rids:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with self._session.post(
                    f"{self.url}/abort_request", data=orjson.dumps({"rid": rid}), timeout=aiohttp.ClientTimeout(total=2)
                ):
                    pass


def _with_key(request: GenerateRequest) -> GenerateRequest:
    """The request under the key of the sample that this task decodes, unless it has one."""
    key = request.sequence_key or SEQUENCE_KEY.get(None)
    return request if key == request.sequence_key else replace(request, sequence_key=key)


class Batcher:
    """Turns the single requests of many concurrent samples into batched calls to one endpoint.

    While calls are under way, new requests wait; when one returns, all that wait go out together, at most `max_batch` in
    a call and at most `max_calls` calls at a time. With `max_batch` at half the number of samples in flight, the samples
    fall into two groups, of which one is drafted while the other is scored.
    """

    def __init__(self, endpoint: Endpoint, *, max_batch: int, max_calls: int = 1) -> None:
        self.endpoint = endpoint
        self.max_batch = max_batch
        self._free_calls = asyncio.Semaphore(max_calls)
        self._waiting: list[tuple[GenerateRequest, asyncio.Future[Generation]]] = []
        self._ready = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._calls, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def generate(self, request: GenerateRequest) -> Generation:
        """Submit one request and wait for its answer."""
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        request = _with_key(request)
        self._waiting.append((request, future))
        self._ready.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._ready.wait()
            await self._free_calls.acquire()
            await asyncio.sleep(0)  # let every sample that became ready in this turn of the loop submit first
            batch = [item for item in self._waiting[: self.max_batch] if not item[1].done()]
            del self._waiting[: self.max_batch]
            if not self._waiting:
                self._ready.clear()
            if not batch:
                self._free_calls.release()
                continue
            call = asyncio.create_task(self._call(batch))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _call(self, batch: list[tuple[GenerateRequest, asyncio.Future[Generation]]]) -> None:
        try:
            answers = await self.endpoint.generate([request for request, _ in batch])
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # handed to every sample that waits for this call
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        finally:
            self._free_calls.release()
