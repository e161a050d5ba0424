"""Decoding speed: both models in one server, two servers, base alone and reasoning alone, side by side in one run.

For each number of threads and of sequences in flight, and each rate of takeovers, the methods decode the same prompts in
turn, after a round that is not counted and with caches flushed before each. The server that holds both models is asked for
drafts of several lengths, and once for a trace. Both models alone decode, for each prompt, as many tokens as guided decoding
wrote there, without log-probabilities. Rows are medians of the repetitions; build/bench.json keeps them, and what is
measured again replaces what was there, so that the table can be made in parts.

Every method has the same cores: the servers of a pair are kept on as many as a server has threads, unless `--cores` says
otherwise.

    python benchmarks/decoding.py                                      # both pairs, takeovers of 8 %, a thread and a core
    python benchmarks/decoding.py --rates 0.04 0.08 0.13 --threads 1 2 # all of it: hours
    python benchmarks/decoding.py --quick                              # bundled pair, 32 sequences, one repetition
    python benchmarks/decoding.py --pairs bundled --sequences 32       # a part
    python benchmarks/decoding.py --show                               # the tables of what was measured so far
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from decoding_rows import METHODS, TRACED, Row, decoding_rows, markdown, median_row, side_by_side, stored_rows, write_rows
from sized_pair import RANDOM, make_sized_pair

from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.fused_server import FusedServer, GuidedRequest
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.errors import EndpointError
from rrti_sgl.fused.protocol import Steering, decode
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
NEVER = 1e3  # nats that no entropy exceeds


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
    reasoning = served.fused if method in ("fused", TRACED) else served.pair.reasoning
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


async def guided(
    pair: Pair, stops: frozenset[int], jobs: Sequence[SampleJob], gate: Gate, sequences: int, decoding: Decoding,
    drafts: str, max_new_tokens: int,
) -> list[TraceBuilder]:  # fmt: skip
    """Decode all jobs on two servers and return their traces in the order of the jobs; drafts of "12", or "12/pace"."""
    tokens, _, pace = drafts.partition("/")
    options = DecodeOptions(K, max_new_tokens, Sampling(), stops, int(tokens), paced=bool(pace), loop=decoding)
    async with PairSession(pair, Concurrency(sequences)) as session:
        traces = {sample.job.sample_id: sample.trace async for sample in session.run(jobs, gate, options)}
    return [traces[job.sample_id] for job in jobs]


@dataclass(frozen=True)
class Told:
    """What came of the samples of one server: tokens of each and, where they were traced, records and cached shares."""

    lengths: list[int]
    records: np.ndarray
    base_cached: float
    reasoning_cached: float


async def fused(
    server: FusedServer, stops: frozenset[int], jobs: Sequence[SampleJob], gate: Gate, sequences: int, asked: Steering,
    max_new_tokens: int,
) -> Told:  # fmt: skip
    """Decode all jobs on the server that holds both models, one request each; without stop tokens nothing ends them."""
    limit = asyncio.Semaphore(sequences)
    steering = replace(asked, gate=gate.name, gate_params=dict(gate.params()))

    async def one(job: SampleJob) -> Any:
        async with limit:
            request = GuidedRequest(
                job.reasoning_prompt_ids, max_new_tokens, Sampling(), tuple(sorted(stops)), steering, ignore_eos=not stops
            )
            [answer] = [found async for found in server.answers(request, streamed=False)]
            return answer

    answers = await asyncio.gather(*map(one, jobs))
    records = decode([entry for answer in answers for entry in answer.records], asked.trace)
    firsts = [decode(answer.records[:1], asked.trace) for answer in answers if answer.records]
    read = sum(int(first["base_prompt_tokens"][0]) for first in firsts)
    return Told(
        [len(answer.output_ids) for answer in answers],
        records,
        sum(int(first["base_cached_tokens"][0]) for first in firsts) / read if read else 0.0,
        sum(answer.cached_tokens for answer in answers) / sum(answer.prompt_tokens for answer in answers),
    )


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


async def measure_pair(name: str, served: Served, arguments: argparse.Namespace, path: Path) -> None:
    """All rows of one pair, kept cell by cell."""
    two, url = served.pair, served.fused.url
    async with connect(two.base.url, two.reasoning.url) as pair, connect(url, url) as one:
        [server] = one.base.servers
        stops, asked, never = stops_of(name, pair), jobs_for(pair, 64, "calibration"), NeverGate("ce")
        told = await fused(server, stops, asked, never, 32, Steering(trace=1), arguments.max_new_tokens)
        traces = await guided(pair, stops, asked, never, 32, "chunked", "12", arguments.max_new_tokens)
        scored = {"one": told.records["score"], "two": np.array([d.score for trace in traces for d in trace.decisions])}
        for sequences in arguments.sequences:
            jobs = jobs_for(pair, max(sequences * arguments.rounds, 8), "heldout")
            for rate in arguments.rates:
                # Scores of top-k lists are others than those over the whole vocabulary: each way has its own threshold.
                gates = {way: DivergenceGate("ce", ThresholdRule(calibrate(s, rate).tau)) for way, s in scored.items()}
                cell = Cell(name, served, pair, server, stops, jobs, gates, sequences, rate, arguments)
                write_rows(await cell.measure(), path)


@dataclass
class Cell:
    """One block of the table: every method on the same prompts."""

    name: str
    served: Served
    pair: Pair
    server: FusedServer
    stops: frozenset[int]
    jobs: Sequence[SampleJob]
    gates: Mapping[str, Gate]
    sequences: int
    ratio: float
    arguments: argparse.Namespace
    told: dict[str, Told] = field(default_factory=dict)

    async def measure(self) -> list[Row]:
        """In turn and repeated; the first repetition is not counted, but for lockstep, which is measured once."""
        rows: dict[tuple[str, str], list[Row]] = {}
        lengths: list[int] = []
        for repetition in range(self.arguments.repetitions + 1):
            for method, drafts in self._methods():
                if method == "lockstep" and repetition != 1:
                    continue
                row, lengths = await self._row(method, drafts, lengths, warm_up=repetition == 0)
                if repetition > 0:
                    rows.setdefault((method, drafts), []).append(row)
                    where = f"{self.name} {row.threads}/{row.cores} {self.sequences:>3} r={self.ratio:.2f}"
                    print(f"  {where} {method:<9} {drafts:<8} {row.tokens_per_s:7.0f} tok/s", file=sys.stderr)
        return [median_row(found) for found in rows.values()]

    def _methods(self) -> list[tuple[str, str]]:
        """Methods with what they draft, the ones that give lengths first."""
        found = [("fused", drafts) for drafts in self.arguments.drafts]
        found += [(TRACED, self.arguments.drafts[0]), *(("chunked", drafts) for drafts in self.arguments.draft_tokens)]
        found += [("lockstep", "1"), ("base", ""), ("reasoning", "")]
        return [each for each in found if each[0] in self.arguments.methods]

    async def _row(self, method: str, drafts: str, lengths: list[int], *, warm_up: bool) -> tuple[Row, list[int]]:
        arguments, pair = self.arguments, self.pair
        some = self.jobs[: max(self.sequences, 8)] if method == "lockstep" else self.jobs
        for engine in (pair.base, pair.reasoning, self.server):
            await flushed(engine)
        traces: list[TraceBuilder] = []
        with measured(self.served, method) as cost:
            if method in ("fused", TRACED):
                asked = steering_of(drafts, K if method == TRACED else int(warm_up))
                told = await fused(
                    self.server, self.stops, some, self.gates["one"], self.sequences, asked, arguments.max_new_tokens
                )
                lengths = told.lengths
                n_tokens = sum(lengths)
            elif method in ("chunked", "lockstep"):
                loop: Decoding = "lockstep" if method == "lockstep" else "chunked"
                limit = arguments.max_new_tokens
                traces = await guided(pair, self.stops, some, self.gates["two"], self.sequences, loop, drafts, limit)
                n_tokens = sum(len(trace) for trace in traces)
            else:
                url = self.served.pair.base.url if method == "base" else self.served.pair.reasoning.url
                n_tokens = await alone(url, some, lengths or [arguments.max_new_tokens] * len(some), self.sequences)
        if method in ("fused", TRACED) and len(told.records):
            self.told[drafts] = told  # without a trace it is that of the round for warming up
        found = self.told.get(drafts) if method in ("fused", TRACED) else None
        rows = found.records if found is not None else None
        drafted = int(rows["drafted"].sum()) if rows is not None else sum(trace.drafted for trace in traces)
        emitted = len(rows) if rows is not None else n_tokens
        takeovers = int(rows["fired"].sum()) if rows is not None else sum(t.sources.count("reasoning") for t in traces)
        row = Row(
            suite="decoding",
            pair=self.name,
            method=method,
            sequences=self.sequences,
            spike_ratio=self.ratio,
            threads=arguments.threads,
            cores=arguments.cores,
            drafts=drafts,
            takeover_rate=takeovers / emitted,
            tokens_per_s=n_tokens / cost["wall"],
            tokens=n_tokens,
            discarded_share=1 - emitted / drafted if drafted else 0.0,
            base_cached_share=found.base_cached if found is not None else cached_share(traces, "base"),
            reasoning_cached_share=found.reasoning_cached if found is not None else cached_share(traces, "reasoning"),
            cpu_ms_base=1e3 * cost["base"] / n_tokens,
            cpu_ms_reasoning=1e3 * cost["reasoning"] / n_tokens,
            cpu_ms_client=1e3 * cost["client"] / n_tokens,
            repetitions=1,
        )
        return row, lengths


async def flushed(engine: Engine | FusedServer) -> None:
    """Forget cached prefixes; a server that has just given its last answer says for a moment that it cannot."""
    for _ in range(20):
        with contextlib.suppress(EndpointError):
            return await engine.flush()
        await asyncio.sleep(0.3)
    await engine.flush()


def stops_of(name: str, pair: Pair) -> frozenset[int]:
    """End tokens; random weights draw one every 15 tokens, which would measure prompts."""
    return frozenset() if name in RANDOM else pair.stop_token_ids


def steering_of(drafts: str, trace: int) -> Steering:
    """What is asked of drafts: "8" tokens; "16/0.5", until the base model's entropy exceeds 0.5 nats; or "16/pace"."""
    tokens, _, until = drafts.partition("/")
    return Steering(draft_tokens=int(tokens), doubt=None if until == "pace" else float(until or NEVER), trace=trace)


def cached_share(traces: Sequence[TraceBuilder], side: str) -> float:
    """Prompt tokens of one model that its server found cached."""
    totals = [getattr(trace, f"{side}_calls") for trace in traces]
    sent = sum(total.prompt_tokens for total in totals)
    return sum(total.cached_tokens for total in totals) / sent if sent else 0.0


def pin(servers: Sequence[Server], cores: int) -> None:
    """Keep every process of the servers on the first cores of the machine; 0 leaves them free."""
    if cores:
        for server in servers:
            process = psutil.Process(server.process.pid)  # type: ignore[union-attr]
            for member in [process, *process.children(recursive=True)]:
                for thread in member.threads():
                    os.sched_setaffinity(thread.id, range(cores))


@contextmanager
def serving(name: str, arguments: argparse.Namespace) -> Iterator[Served]:
    """The servers of a pair with so many threads each, kept on as many cores as they are to share."""
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    bundled = bundled_pair()
    base, reasoning = (bundled.base, bundled.reasoning) if name == "bundled" else make_sized_pair(name)
    logs = BUILD / "bench-logs"
    flags = [*TOKEN_IDS_ONLY, "--max-running-requests", "128"]  # as the servers of `rrti run`
    longest = max(int(drafts.partition("/")[0]) for drafts in arguments.drafts)
    both = BothModels(str(reasoning), f"{name}-fused", logs, flags, base_model=str(base), draft_tokens=longest)
    two = [Server(str(base), f"{name}-base", logs, flags), Server(str(reasoning), f"{name}-reasoning", logs, flags)]
    with ServedPair(*two) as pair, ServedPair(both, both):
        pin([*two, both], arguments.cores)
        yield Served(pair, both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition, one rate, 32 sequences, bundled pair")
    parser.add_argument("--show", action="store_true", help="measure nothing; print what build/bench.json has")
    parser.add_argument("--pairs", nargs="+", choices=["bundled", *RANDOM], default=["bundled", "random-8M-90M"])
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.08], help="takeovers per token of base rollouts")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[m for m in METHODS if m != "lockstep"])
    parser.add_argument(
        "--drafts",
        nargs="+",
        default=["8", "12", "16", "16/0.5", "16/pace"],
        help="of one server; 16/0.5: until doubt; 16/pace: as long as they pay, which is what a server does by itself",
    )
    parser.add_argument(
        "--draft-tokens",
        nargs="+",
        default=["12"],
        help="of two servers; 12/pace: shorter ones where takeovers change tokens often",
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of each server")
    parser.add_argument("--cores", type=int, help="that the servers of a pair share; 0: all; by default as many as threads")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="samples per sequence in flight")
    parser.add_argument("--max-new-tokens", type=int, help="most tokens of a sample; by default 110, of random pairs 48")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sequences, arguments.repetitions, arguments.pairs = [32], 1, ["bundled"]
    path = BUILD / "bench.json"
    for name in () if arguments.show else arguments.pairs:
        for threads in arguments.threads:
            cores = threads if arguments.cores is None else arguments.cores
            limit = arguments.max_new_tokens or (110 if name == "bundled" else 48)
            own = argparse.Namespace(**{**vars(arguments), "threads": threads, "cores": cores, "max_new_tokens": limit})
            with serving(name, own) as served:
                asyncio.run(measure_pair(name, served, own, path))
    rows = decoding_rows(stored_rows(path))
    print(markdown(rows), side_by_side(rows), sep="\n\n")


if __name__ == "__main__":
    main()
