"""One server for both models against two servers and each model alone, on whatever device is here, in ten minutes at most.

    python benchmarks/gpu.py                                              # the bundled pair
    python benchmarks/gpu.py --base DIR --reasoning DIR --server-flags "--load-format dummy --dtype bfloat16"

It starts what it needs, one arrangement after the other, so that each has the device to itself. Greedy outputs of both are
compared, then guided decoding is timed at each number of sequences in flight, and both models alone over as many tokens.
What is finished is kept in build/gpu.json: the same command goes on from there, and tries again what failed. A part that
fails says why, with the end of the server's log. The package has to be installed where it runs
(`pip install --no-deps .`), because SGLang finds the algorithm by its entry point.

Equality: in float32 all sequences are the same. In bfloat16 two arrangements sum in another order, so a sequence may part
where a decision hung by less than `TOLERANCE` nats: the two most probable tokens of a model that close, or the score that
close to tau.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from decoding import alone, guided, jobs_for

from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.gates import DivergenceGate, Gate, NeverGate, ThresholdRule
from rrti_sgl.serving.arrangement import ServingOptions
from rrti_sgl.serving.opening import PairAddress, Watcher, open_pair

TOLERANCE = 0.1
COMPARED = 64  # sequences
METHODS = {"fused": ("fused",), "two": ("two servers", "base alone", "reasoning alone")}


class Parts:
    """What was measured so far, by part; kept in a file.

    Args:
        path: of the file.
        pair: what is measured; another one begins anew.
        seconds: until no further part is begun.
    """

    def __init__(self, path: Path, pair: str, seconds: float) -> None:
        self._path, self._ends = path, time.monotonic() + seconds
        stored = json.loads(path.read_text()) if path.exists() else {}
        self.done: dict[str, Any] = stored if stored.get("pair") == pair else {"pair": pair}

    def missing(self, *names: str) -> list[str]:
        """Those of some parts that are not finished."""
        return [name for name in names if "result" not in self.done.get(name, {})]

    def result(self, name: str) -> Any:
        """Of a finished part; None of another."""
        return self.done.get(name, {}).get("result")

    def do(self, name: str, work: Callable[[], Any], log: Path | None = None) -> None:
        """Do a part that is not finished, if there is time; whatever goes wrong is written down."""
        if not self.missing(name):
            return
        start = time.monotonic()
        if start > self._ends:
            self.done[name] = {"failed": "not begun: the time was over"}
        else:
            try:
                self.done[name] = {"result": work(), "seconds": round(time.monotonic() - start, 1)}
            except Exception as error:
                lines = log.read_text(errors="replace").splitlines()[-15:] if log is not None and log.exists() else []
                self.done[name] = {"failed": f"{type(error).__name__}: {error}", "log": lines}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.done, indent=1) + "\n")
        print(f"{name}: {self.done[name].get('failed', 'done')}", file=sys.stderr)


def margins(trace: TraceBuilder, tau: float) -> list[float]:
    """At each position the least distance, in nats, at which something would have been decided otherwise."""
    found = np.abs(np.asarray([decision.score for decision in trace.decisions]) - tau)
    for side in (trace.base, trace.reasoning):
        if (rows := side.gathered()) is not None:
            gaps = rows.logprobs[:, 0] - rows.logprobs[:, 1]
            found[side.positions] = np.fmin(found[side.positions], gaps)
    return [float(margin) for margin in found]


def compared(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many sequences are the same, part where a decision hung by little, or differ."""
    counts = {"same": 0, "part within tolerance": 0, "differ": 0}
    for ours, theirs in zip(one, two, strict=True):
        n = min(len(ours["ids"]), len(theirs["ids"]))
        at = next((place for place in range(n) if ours["ids"][place] != theirs["ids"][place]), n)
        if ours["ids"] == theirs["ids"]:
            counts["same"] += 1
        else:
            close = min(ours["margins"][at : at + 1] + theirs["margins"][at : at + 1], default=np.inf) < TOLERANCE
            counts["part within tolerance" if close else "differ"] += 1
    return counts


def measure(parts: Parts, kind: str, address: PairAddress, arguments: argparse.Namespace, logs: Path) -> None:
    """All parts of one arrangement that are not finished."""
    log = logs / ("fused.log" if kind == "fused" else "reasoning.log")
    how: dict[str, Any] = {
        "decoding": "chunked",
        "drafts": str(arguments.draft_tokens),
        "max_new_tokens": arguments.max_new_tokens,
    }

    def part(name: str, work: Callable[[Pair], Awaitable[Any]]) -> None:
        async def go() -> Any:
            async with connect(address.base_url, address.reasoning_url) as pair:
                await pair.base.flush()
                await pair.reasoning.flush()
                return await work(pair)

        parts.do(name, lambda: asyncio.run(go()), log)

    async def threshold(pair: Pair) -> float:
        traces = await guided(pair, pair.stop_token_ids, jobs_for(pair, COMPARED, "calibration"), NeverGate("ce"), 32, **how)
        scores = np.concatenate([[decision.score for decision in trace.decisions] for trace in traces])
        return calibrate(scores, arguments.ratio).tau

    async def outputs(pair: Pair) -> list[dict[str, Any]]:
        traces = await guided(pair, pair.stop_token_ids, jobs_for(pair, COMPARED, "heldout"), gate(), 16, **how)
        return [{"ids": trace.token_ids, "margins": margins(trace, parts.result("tau"))} for trace in traces]

    def gate() -> Gate:
        return DivergenceGate("ce", ThresholdRule(parts.result("tau")))

    part("tau", threshold)
    if parts.missing("tau"):
        return
    part(f"outputs, {kind}", outputs)
    for sequences in arguments.sequences:

        async def speed(pair: Pair, method: str, sequences: int = sequences) -> dict[str, Any]:
            jobs = jobs_for(pair, max(2 * sequences, 8), "heldout")
            known = parts.result(f"fused at {sequences}") or parts.result(f"two servers at {sequences}")
            lengths = known["lengths"] if known is not None else [arguments.max_new_tokens] * len(jobs)
            start, rate = time.perf_counter(), None
            if method.endswith("alone"):
                url = address.base_url if method == "base alone" else address.reasoning_url
                n_tokens = await alone(url, jobs, lengths, sequences)
            else:
                traces = await guided(pair, pair.stop_token_ids, jobs, gate(), sequences, **how)
                lengths = [len(trace) for trace in traces]
                n_tokens = sum(lengths)
                rate = sum(trace.sources.count("reasoning") for trace in traces) / n_tokens
            return {"tokens_per_s": n_tokens / (time.perf_counter() - start), "takeover_rate": rate, "lengths": lengths}

        for method in METHODS[kind]:
            part(f"warm-up of {method} at {sequences}", lambda pair, method=method: speed(pair, method))
            part(f"{method} at {sequences}", lambda pair, method=method: speed(pair, method))


@contextlib.contextmanager
def started(kind: str, arguments: argparse.Namespace, logs: Path) -> Iterator[PairAddress]:
    """One arrangement, with what it says of the memory on standard error."""
    with open_pair(
        None,
        None,
        arguments.base,
        arguments.reasoning,
        arguments.server_flags,
        log_dir=logs,
        options=ServingOptions(device=arguments.device),
        fused=kind == "fused",
        watcher=Watcher(note=lambda text: print(text, file=sys.stderr)),
    ) as address:
        yield address


def markdown(parts: Parts, sequences: Sequence[int]) -> str:
    """What was found, as a table; what failed stands below it."""
    lines = ["| in flight | method | tokens/s | of reasoning alone | takeovers |", "|---|---|---|---|---|"]
    for n in sequences:
        reasoning = parts.result(f"reasoning alone at {n}")
        for method in ("fused", "two servers", "base alone", "reasoning alone"):
            if (found := parts.result(f"{method} at {n}")) is not None:
                share = f"{found['tokens_per_s'] / reasoning['tokens_per_s']:.2f}" if reasoning else ""
                rate = "" if found["takeover_rate"] is None else f"{found['takeover_rate']:.3f}"
                lines.append(f"| {n} | {method} | {found['tokens_per_s']:.0f} | {share} | {rate} |")
    if (equal := parts.result("equality")) is not None:
        lines += [
            "",
            "Greedy outputs, fused against two servers: " + ", ".join(f"{n} {how}" for how, n in equal.items()) + ".",
        ]
    lines += [f"\n{name} failed: {part['failed']}" for name, part in parts.done.items() if "failed" in part]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="folder or hub id; the bundled pair without")
    parser.add_argument("--reasoning")
    parser.add_argument("--server-flags", default="", help="SGLang flags of every server")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--ratio", type=float, default=0.08, help="share of base tokens above tau")
    parser.add_argument("--draft-tokens", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=110)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no further part is begun")
    parser.add_argument("--out", type=Path, default=Path("build/gpu.json"))
    arguments = parser.parse_args()
    pair = f"{arguments.base or 'bundled'} and {arguments.reasoning or 'bundled'}, {arguments.server_flags}"
    parts = Parts(arguments.out, pair, 60 * arguments.minutes)
    logs = arguments.out.parent / "gpu-logs"
    for kind, methods in METHODS.items():
        timed = [f"{method} at {n}" for method in methods for n in arguments.sequences]
        if parts.missing("tau", f"outputs, {kind}", *timed):

            def arrange(kind: str = kind) -> float:
                start = time.monotonic()
                with started(kind, arguments, logs) as address:
                    up = time.monotonic() - start
                    measure(parts, kind, address, arguments, logs)
                return round(up, 1)

            parts.done.pop(f"start, {kind}", None)
            parts.do(f"start, {kind}", arrange, logs / ("fused.log" if kind == "fused" else "reasoning.log"))
    outputs = [parts.result(f"outputs, {kind}") for kind in METHODS]
    if all(outputs):
        parts.done.pop("equality", None)
        parts.do("equality", lambda: compared(*outputs))
    print(markdown(parts, arguments.sequences))


if __name__ == "__main__":
    main()
