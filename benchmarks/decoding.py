"""Decoding speed: base alone, reasoning alone, lockstep, chunked and both models in one server, side by side in one run.

For each number of sequences in flight and each spike ratio, guided decoding runs over the same prompts in lockstep and in
chunks; then both models alone decode, for each prompt, as many tokens as guided decoding wrote there, without
log-probabilities. Caches are flushed before every measurement. Rows go to build/bench.json, medians of the repetitions.

    python benchmarks/decoding.py                 # everything
    python benchmarks/decoding.py --quick         # one repetition, one ratio, 32 sequences
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.wire import GenerateRequest, Generation, Sampling
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.gates import DivergenceGate, Gate, NeverGate, ThresholdRule
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.keys import own_key
from rrti_sgl.serving.server import TOKEN_IDS_ONLY, ServedPair, Server
from rrti_sgl.tinypair.bundle import bundled_pair

BUILD = Path("build")
K = 20
MAX_NEW_TOKENS = 110


@dataclass(frozen=True)
class Row:
    """One measured cell of the table; medians over the repetitions."""

    suite: str
    pair: str
    method: str
    sequences: int
    spike_ratio: float
    takeover_rate: float
    tokens_per_s: float
    tokens: int
    calls_per_token: float
    requests_per_token: float
    discarded_share: float
    base_cached_share: float
    reasoning_cached_share: float
    cpu_ms_base: float
    cpu_ms_reasoning: float
    cpu_ms_client: float
    draft_tokens: int
    repetitions: int


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children."""
    family = [process, *process.children(recursive=True)]
    return sum(sum(member.cpu_times()[:2]) for member in family)


@dataclass(frozen=True)
class Served:
    """The servers of one pair: one for each model, and one for both. Idle ones sleep."""

    pair: ServedPair
    fused: BothModels


@contextmanager
def measured(served: Served, method: str) -> Iterator[dict[str, float]]:
    """Wall time and CPU time of the servers and of this process while the context lasts; one for both is "reasoning"."""
    reasoning = served.fused if method == "fused" else served.pair.reasoning
    processes = {
        "base": psutil.Process(served.pair.base.process.pid),  # type: ignore[union-attr]
        "reasoning": psutil.Process(reasoning.process.pid),  # type: ignore[union-attr]
    }
    own = psutil.Process()
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    client, start, result = sum(own.cpu_times()[:2]), time.perf_counter(), {}
    yield result
    result["wall"] = time.perf_counter() - start
    result["client"] = sum(own.cpu_times()[:2]) - client
    result |= {name: cpu_seconds(process) - before[name] for name, process in processes.items()}


def jobs_for(pair: Pair, n: int, split: str) -> list[SampleJob]:
    """n samples of the bundled world's problems; both models see the same prompt."""
    jobs = []
    for problem in load_problems(f"world:{split}", limit=n).problems:
        ids = [i % pair.vocab_size for i in pair.vocabulary.encode(problem.question)]
        jobs.append(SampleJob("bench", problem, 0, 0, "", ids, "", ids))
    return jobs


class Counted:
    """An engine that counts its calls."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.info, self.n_calls = engine, engine.info, 0

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        self.n_calls += 1
        return await self.engine.generate(requests)


async def guided(
    pair: Pair, jobs: Sequence[SampleJob], gate: Gate, sequences: int, decoding: Decoding, draft_tokens: int
) -> list[TraceBuilder]:
    """Decode all jobs and return their traces in the order of the jobs."""
    options = DecodeOptions(K, MAX_NEW_TOKENS, Sampling(), pair.stop_token_ids, draft_tokens, loop=decoding)
    async with PairSession(pair, Concurrency(sequences)) as session:
        traces = {sample.job.sample_id: sample.trace async for sample in session.run(jobs, gate, options)}
    return [traces[job.sample_id] for job in jobs]


async def alone(url: str, jobs: Sequence[SampleJob], lengths: Sequence[int], sequences: int) -> int:
    """Decode exactly so many tokens for each prompt with one model, without log-probabilities."""
    limit = asyncio.Semaphore(sequences)
    headers = {"Authorization": f"Bearer {own_key()}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def one(job: SampleJob, length: int) -> int:
            body = {
                "input_ids": list(job.base_prompt_ids),
                "sampling_params": {"max_new_tokens": length, "temperature": 0, "ignore_eos": True},
            }
            async with limit, session.post(f"{url}/generate", json=body) as answer:
                return len((await answer.json())["output_ids"])

        return sum(await asyncio.gather(*(one(job, n) for job, n in zip(jobs, lengths, strict=True))))


async def measure_pair(name: str, served: Served, arguments: argparse.Namespace) -> list[Row]:
    """All rows of one pair."""
    rows: list[Row] = []
    two, url = served.pair, served.fused.url
    async with connect(two.base.url, two.reasoning.url) as pair, connect(url, url) as one:
        calibration = await guided(pair, jobs_for(pair, 64, "calibration"), NeverGate("ce"), 32, "chunked", MAX_NEW_TOKENS)
        scores = np.concatenate([[decision.score for decision in trace.decisions] for trace in calibration])
        for sequences in arguments.sequences:
            jobs = jobs_for(pair, max(sequences * arguments.rounds, 8), "heldout")
            for ratio in arguments.ratios:
                gate = DivergenceGate("ce", ThresholdRule(calibrate(scores, ratio).tau))
                rows += await measure_cell(name, served, (pair, one), jobs, gate, sequences, ratio, arguments)
    return rows


async def measure_cell(
    name: str,
    served: Served,
    pairs: tuple[Pair, Pair],
    jobs: Sequence[SampleJob],
    gate: Gate,
    sequences: int,
    ratio: float,
    arguments: argparse.Namespace,
) -> list[Row]:
    """The five methods on the same prompts, repeated in turn."""
    measurements: dict[str, list[Row]] = {}
    lengths: list[int] = []
    for repetition in range(arguments.repetitions):
        for method in ("chunked", "fused", "lockstep", "base", "reasoning"):
            pair = pairs[method == "fused"]
            if method == "lockstep" and repetition > 0:
                continue  # the slow reference: measured once, over one round of samples
            some = jobs[: max(sequences, 8)] if method == "lockstep" else jobs
            await pair.base.flush()
            await pair.reasoning.flush()
            traces: list[TraceBuilder] = []
            counted = replace(pair, base=Counted(pair.base), reasoning=Counted(pair.reasoning))
            with measured(served, method) as cost:
                if method in ("chunked", "lockstep", "fused"):
                    loop: Decoding = "lockstep" if method == "lockstep" else "chunked"
                    asked = pair if method == "fused" else counted
                    traces = await guided(asked, some, gate, sequences, loop, arguments.draft_tokens)
                    n_tokens = sum(len(trace) for trace in traces)
                else:
                    url = served.pair.base.url if method == "base" else served.pair.reasoning.url
                    n_tokens = await alone(url, some, lengths, sequences)
            cost["calls"] = len(traces) if method == "fused" else counted.base.n_calls + counted.reasoning.n_calls
            lengths = [len(trace) for trace in traces] if method == "chunked" else lengths
            row = one_row(name, method, sequences, ratio, n_tokens, traces, cost, arguments)
            measurements.setdefault(method, []).append(row)
            print(f"  {name} {sequences:>3} r={ratio:.2f} {method:<9} {row.tokens_per_s:7.0f} tok/s", file=sys.stderr)
    return [median_row(found) for found in measurements.values()]


def one_row(
    name: str,
    method: str,
    sequences: int,
    ratio: float,
    n_tokens: int,
    traces: Sequence[TraceBuilder],
    cost: dict[str, float],
    arguments: argparse.Namespace,
) -> Row:
    """The figures of one measurement."""

    def cached(side: str) -> float:
        totals = [getattr(trace, f"{side}_calls") for trace in traces]
        sent = sum(total.prompt_tokens for total in totals)
        return sum(total.cached_tokens for total in totals) / sent if sent else 0.0

    requests = sum(trace.base_calls.calls + trace.reasoning_calls.calls for trace in traces)
    drafted = sum(trace.drafted for trace in traces)
    return Row(
        suite="decoding",
        pair=name,
        method=method,
        sequences=sequences,
        spike_ratio=ratio,
        takeover_rate=sum(trace.sources.count("reasoning") for trace in traces) / n_tokens,
        tokens_per_s=n_tokens / cost["wall"],
        tokens=n_tokens,
        calls_per_token=cost["calls"] / n_tokens,
        requests_per_token=requests / n_tokens,
        discarded_share=sum(trace.discarded for trace in traces) / drafted if drafted else 0.0,
        base_cached_share=cached("base"),
        reasoning_cached_share=cached("reasoning"),
        cpu_ms_base=1e3 * cost["base"] / n_tokens,
        cpu_ms_reasoning=1e3 * cost["reasoning"] / n_tokens,
        cpu_ms_client=1e3 * cost["client"] / n_tokens,
        draft_tokens={"chunked": arguments.draft_tokens, "fused": arguments.fused_draft_tokens}.get(method, 1),
        repetitions=1,
    )


def median_row(rows: Sequence[Row]) -> Row:
    """Field by field the median of repeated measurements."""
    values: dict[str, Any] = asdict(rows[0])
    for name, value in values.items():
        if isinstance(value, float):
            values[name] = statistics.median(getattr(row, name) for row in rows)
    return Row(**values | {"repetitions": len(rows)})


RANDOM = {
    "random-20M": ((512, 8, 1024), (512, 8, 1024)),  # the same weights, those of the reasoning model a little shaken
    "random-8M-90M": ((256, 8, 1024), (768, 12, 2560)),
}
"""Random pairs with the bundled tokenizer: (width, layers, inner width) of base and reasoning. Slower, without meaning."""


def random_pair(name: str) -> tuple[Path, Path]:
    """The folders of a random pair, made anew."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from rrti_sgl.tinypair.tokenizer import EOS_ID, PAD_ID, VOCABULARY, save_tokenizer

    sizes = RANDOM[name]
    for side, (width, layers, inner) in zip(("base", "reasoning"), sizes, strict=True):
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=len(VOCABULARY), hidden_size=width, num_hidden_layers=layers, num_attention_heads=8,
            num_key_value_heads=4, head_dim=64, intermediate_size=inner, tie_word_embeddings=True,
            max_position_embeddings=512, initializer_range=0.1, bos_token_id=None, eos_token_id=EOS_ID, pad_token_id=PAD_ID,
        )  # fmt: skip
        model = Qwen3ForCausalLM(config)
        if side == "reasoning" and sizes[0] == sizes[1]:
            with torch.no_grad():
                for weights in model.parameters():
                    weights += 0.02 * torch.randn_like(weights)
        model.save_pretrained(BUILD / name / side)
        save_tokenizer(BUILD / name / side)
    return BUILD / name / "base", BUILD / name / "reasoning"


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/performance.md."""
    lines = [
        "| pair | in flight | r | method | takeovers | tok/s | of base | of reasoning | HTTP calls/token | requests/token "
        "| drafts thrown away | cached base / reasoning | CPU ms/token base / reasoning / client |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cell = [r for r in rows if (r.pair, r.sequences, r.spike_ratio) == (row.pair, row.sequences, row.spike_ratio)]
        base, reasoning = (next(r.tokens_per_s for r in cell if r.method == model) for model in ("base", "reasoning"))
        ours = row.method in ("chunked", "lockstep", "fused")
        lines.append(
            f"| {row.pair} | {row.sequences} | {row.spike_ratio:.2f} | {row.method} "
            f"| {f'{row.takeover_rate:.3f}' if ours else ''} | {row.tokens_per_s:.0f} "
            f"| {row.tokens_per_s / base:.2f} | {row.tokens_per_s / reasoning:.2f} "
            f"| {f'{row.calls_per_token:.3f}' if ours else ''} | {f'{row.requests_per_token:.2f}' if ours else ''} "
            f"| {f'{row.discarded_share:.2f}' if ours else ''} "
            f"| {f'{row.base_cached_share:.2f} / {row.reasoning_cached_share:.2f}' if ours else ''} "
            f"| {row.cpu_ms_base:.2f} / {row.cpu_ms_reasoning:.2f} / {row.cpu_ms_client:.2f} |"
        )
    return "\n".join(lines)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Replace the rows that were measured again, keep the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured_again = {(row.suite, row.pair, row.sequences, row.spike_ratio) for row in rows}
    stored = json.loads(path.read_text()) if path.exists() else []
    kept = [
        row for row in stored if tuple(map(row.get, ("suite", "pair", "sequences", "spike_ratio"))) not in measured_again
    ]
    path.write_text(json.dumps([*kept, *(asdict(row) for row in rows)], indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition, one ratio, 32 sequences, bundled pair")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.04, 0.08, 0.13, 0.25])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="samples per sequence in flight")
    parser.add_argument("--draft-tokens", type=int, default=12)
    parser.add_argument("--fused-draft-tokens", type=int, default=8, help="of the server that holds both models")
    parser.add_argument("--pairs", nargs="+", choices=["bundled", *RANDOM], default=["bundled", "random-20M"])
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sequences, arguments.ratios, arguments.repetitions, arguments.pairs = [32], [0.08], 1, ["bundled"]
    rows: list[Row] = []
    for name in arguments.pairs:
        bundled = bundled_pair()
        base, reasoning = (bundled.base, bundled.reasoning) if name == "bundled" else random_pair(name)
        logs = BUILD / "bench-logs"
        flags = [*TOKEN_IDS_ONLY, "--max-running-requests", "128"]  # as the servers of `rrti run`
        both = BothModels(
            str(reasoning), f"{name}-fused", logs, flags, base_model=str(base), draft_tokens=arguments.fused_draft_tokens
        )
        with (
            ServedPair(
                Server(str(base), f"{name}-base", logs, flags), Server(str(reasoning), f"{name}-reasoning", logs, flags)
            ) as served,
            ServedPair(both, both),
        ):
            rows += asyncio.run(measure_pair(name, Served(served, both), arguments))
        write_rows(rows, BUILD / "bench.json")
    print(markdown(rows))


if __name__ == "__main__":
    main()
