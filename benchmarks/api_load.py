"""The endpoint under load, beside the bare servers in one run: latencies, and whether anything is left or lost.

    python benchmarks/api_load.py --clients 64 --seconds 120

Starts the bundled pair and `rrti api` over it (as a process of its own), or takes servers that run. First the same clients
stream from the base server, the reasoning server, and the endpoint's `base` and `guided`, an eighth of the time each; then a
storm of all kinds of clients: some leave, some read slowly, some send bodies that are too long. Afterwards nothing may be in
flight, and after SIGTERM every answer that was told a trace id has to be in the store. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import psutil

from rrti_sgl.db.store import Store
from rrti_sgl.problems import load_problems
from rrti_sgl.serving.keys import found_key
from rrti_sgl.serving.opening import open_pair
from rrti_sgl.tinypair.bundle import bundled_pair
from rrti_sgl.tokens.vocabulary import load_vocabulary

LIMIT, TAU = 110, 0.5
PAUSE_S = 35  # longer than an unused connection is kept
KINDS = {"streams": 45, "waits for all of it": 20, "leaves": 20, "reads slowly": 10, "sends too much": 5}  # percent


@dataclass
class Seen:
    """What clients saw: times in seconds, one entry a stream, and how often what came."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    traces: set[str] = field(default_factory=set)

    def stream(self, begun: float, first: float, tokens: int, at_first: int) -> None:
        self.first.append(first - begun)
        self.tokens += tokens
        if tokens > at_first:
            self.between.append((time.perf_counter() - first) / (tokens - at_first))

    def row(self, name: str, seconds: float) -> str:
        middle, high = (np.percentile(self.first or [np.nan], [50, 95]) * 1e3).tolist()
        later, latest = (np.percentile(self.between or [np.nan], [50, 95]) * 1e3).tolist()
        rates = f"{len(self.first) / seconds:.1f} | {self.tokens / seconds:.0f}"
        return f"| {name} | {rates} | {middle:.0f} | {high:.0f} | {later:.1f} | {latest:.1f} |"


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The events of a stream; `[DONE]` is None."""
    async for line in answer.content:
        if line.startswith(b"data:"):
            text = line.removeprefix(b"data:").strip()
            yield None if text == b"[DONE]" else orjson.loads(text)


async def from_server(http: aiohttp.ClientSession, url: str, ids: list[int], seen: Seen) -> None:
    """One sample of a bare server, streamed."""
    params = {"max_new_tokens": LIMIT, "temperature": 0, "skip_special_tokens": False}
    begun, first, tokens, at_first = time.perf_counter(), 0.0, 0, 0
    headers = {"Authorization": f"Bearer {found_key(url)}"}
    body = {"input_ids": ids, "sampling_params": params, "stream": True}
    async with http.post(f"{url}/generate", json=body, headers=headers) as answer:
        async for event in events(answer):
            if event is not None:
                tokens = event["meta_info"]["completion_tokens"]
                if not first:
                    first, at_first = time.perf_counter(), tokens
    seen.stream(begun, first, tokens, at_first)


async def from_endpoint(
    http: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt: str,
    seen: Seen,
    *,
    pause_s: float = 0.0,
    leave: int = 0,
    trace: bool = True,
) -> None:
    """One completion, streamed: read slowly, or left after some chunks, where that is said."""
    begun, first, at_first, chunks, usage = time.perf_counter(), 0.0, 0, 0, None
    body = {"model": model, "prompt": prompt, "max_tokens": LIMIT, "temperature": 0, "stream": True, "logprobs": 0}
    body["rrti"] = {"trace": trace}
    async with http.post(f"{url}/completions", json=body | {"stream_options": {"include_usage": True}}) as answer:
        if answer.status != 200:
            seen.counts[f"HTTP {answer.status}"] += 1
            return
        done = False
        async for event in events(answer):
            if event is None:
                done = True
            elif not event["choices"]:
                usage = event["usage"]
            else:
                chunks += 1
                if not first:
                    first = time.perf_counter()
                    at_first = len(event["choices"][0]["logprobs"]["tokens"])
                if "trace_id" in event.get("rrti", {}):
                    seen.traces.add(event["rrti"]["trace_id"])
                if leave and chunks == leave:
                    return
                if pause_s:
                    await asyncio.sleep(pause_s)
    assert done, "a stream without its end"
    assert usage is not None
    if not pause_s:
        seen.stream(begun, first, usage["completion_tokens"], at_first)


async def clients(n: int, seconds: float, act: Callable[[int], Awaitable[None]]) -> float:
    """So many clients that act for so long, each again when it is done; returns the seconds that it took."""
    begun, numbers = time.perf_counter(), itertools.count()

    async def client() -> None:
        while time.perf_counter() - begun < seconds:
            await act(next(numbers))

    async with asyncio.TaskGroup() as group:
        for _ in range(n):
            group.create_task(client())
    return time.perf_counter() - begun


async def storm(http: aiohttp.ClientSession, url: str, prompts: list[str], options: argparse.Namespace, seen: Seen) -> float:
    draw = random.Random(0)

    async def act(number: int) -> None:
        [kind] = draw.choices(list(KINDS), list(KINDS.values()))
        model, prompt = draw.choice(("guided", "guided", "base", "reasoning", "entropy")), prompts[number % len(prompts)]
        seen.counts[kind] += 1
        if kind == "streams":
            await from_endpoint(http, url, model, prompt, seen)
        elif kind == "leaves":
            await from_endpoint(http, url, model, prompt, seen, leave=draw.randint(1, 4))
        elif kind == "reads slowly":
            await from_endpoint(http, url, model, prompt, seen, pause_s=0.2)
        elif kind == "sends too much":
            with contextlib.suppress(aiohttp.ClientError):  # the endpoint closes while the body is still sent
                async with http.post(f"{url}/completions", json={"prompt": "x" * 2**21}) as answer:
                    assert answer.status == 413, answer.status
        else:
            body = {"model": model, "prompt": prompt, "max_tokens": LIMIT, "temperature": 0, "n": draw.choice((1, 1, 2))}
            async with http.post(f"{url}/completions", json=body) as answer:
                if answer.status == 200:
                    seen.traces |= {choice["rrti"]["trace_id"] for choice in (await answer.json())["choices"]}
                else:
                    seen.counts[f"HTTP {answer.status}"] += 1

    return await clients(options.clients, options.seconds, act)


@dataclass(frozen=True)
class Kept:
    """What the endpoint's process holds: open files, connections that clients or servers may use again among them."""

    fds: int
    clients: int
    servers: int
    threads: int
    mib: int

    @classmethod
    def of(cls, process: psutil.Process, url: str) -> Kept:
        own = int(url.removesuffix("/v1").rpartition(":")[2])
        ports = [each.laddr.port for each in process.net_connections("tcp") if each.raddr]
        clients = ports.count(own)
        memory = process.memory_info().rss // 2**20
        return cls(process.num_fds(), clients, len(ports) - clients, process.num_threads(), memory)


async def measure(urls: tuple[str, str], url: str, process: psutil.Process, options: argparse.Namespace) -> Seen:
    """Everything that is asked of servers and endpoint; prints the tables."""
    prompts = [problem.question for problem in load_problems("world:heldout", limit=200).problems]
    vocabulary = load_vocabulary(str(bundled_pair().base))
    ids = [vocabulary.encode(prompt) for prompt in prompts]
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    traces: set[str] = set()
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        print(f"\n{options.clients} clients that stream\n")
        print("| from | streams/s | tokens/s | first token, p50 ms | p95 | each later token, p50 ms | p95 |")
        print("|---|---|---|---|---|---|---|")
        for name, act in {
            "base server": lambda i, seen: from_server(http, urls[0], ids[i % len(ids)], seen),
            "reasoning server": lambda i, seen: from_server(http, urls[1], ids[i % len(ids)], seen),
            "endpoint, base": lambda i, seen: from_endpoint(http, url, "base", prompts[i % len(prompts)], seen),
            "endpoint, guided, not stored": lambda i, seen: from_endpoint(
                http, url, "guided", prompts[i % len(prompts)], seen, trace=False
            ),
            "endpoint, guided, stored": lambda i, seen: from_endpoint(http, url, "guided", prompts[i % len(prompts)], seen),
        }.items():
            seen = Seen()
            seconds = await clients(options.clients, options.seconds / 8, lambda i, act=act, seen=seen: act(i, seen))  # type: ignore[misc]
            print(seen.row(name, seconds), flush=True)
            traces |= seen.traces
        seen, held = Seen(), []
        for part in ("before", "after one storm", "after another", f"{PAUSE_S} s later"):
            if part == f"{PAUSE_S} s later":
                await asyncio.sleep(PAUSE_S)
            elif part != "before":
                seconds = await storm(http, url, prompts, options, seen)
                print(seen.row(f"endpoint, {part.removeprefix('after ')}", seconds), flush=True)
            state = await idle(http, url)
            kept = Kept.of(process, url)
            numbers = (kept.fds, kept.clients, kept.servers, kept.threads, kept.mib, state["status"])
            held.append(f"| {part} | {' | '.join(map(str, numbers))} |")
        print("\nThe endpoint's process, when nothing is in flight\n")
        print(
            "| storm | open files | to clients | to servers | threads | MiB | health |",
            "|---|" + "---|" * 6,
            *held,
            sep="\n",
        )
        print("\nclients:", dict(seen.counts))
    seen.traces |= traces
    return seen


async def idle(http: aiohttp.ClientSession, url: str) -> Any:
    """The endpoint's health, once nothing is in flight and everything is with the store."""
    for _ in range(600):
        async with http.get(f"{url.removesuffix('/v1')}/health") as answer:
            state = await answer.json()
        if not (state["running"] or state["waiting"] or state["unstored"]):
            return state
        await asyncio.sleep(0.1)
    raise SystemExit(f"something is left in flight: {state}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of each storm; the comparison takes five eighths of it"
    )
    parser.add_argument("--base-url")
    parser.add_argument("--reasoning-url")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pair = stack.enter_context(open_pair(options.base_url, options.reasoning_url, None, None))
        urls, db = (pair.base_url, pair.reasoning_url), folder / "traces.duckdb"
        arguments = ["--base-url", urls[0], "--reasoning-url", urls[1], "--port", "0", "--db", str(db), "--tau", str(TAU)]
        command = [sys.executable, "-m", "rrti_sgl.cli.main", "api", *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
            try:
                assert serving.stdout is not None
                said = ""
                while "Ctrl-C" not in said and (line := serving.stdout.readline()):
                    said += line
                [url] = re.findall(r"^endpoint +(\S+)$", said, re.MULTILINE)
                seen = asyncio.run(measure(urls, url, psutil.Process(serving.pid), options))
            finally:
                serving.send_signal(signal.SIGTERM)
            code = serving.wait(120)
        with Store.open_readonly(db) as store:
            stored = {row["sample_id"] for row in store.sql("SELECT sample_id FROM samples").to_pylist()}
        lost = seen.traces - stored
        print(f"\nexit code {code}; {len(seen.traces)} trace ids told, {len(stored)} traces stored, {len(lost)} lost")
        if lost or code:
            raise SystemExit("traces are lost, or the endpoint did not stop in order")


if __name__ == "__main__":
    main()
