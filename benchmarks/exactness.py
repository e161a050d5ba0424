"""How far truncated scores are from exact ones, and how many gate decisions that changes.

The base model samples continuations; both servers then score the same tokens, with the k most probable tokens of both models
alone (`topk`) and with the servers' plugin (`plugin`, which adds the reasoning model's log-probabilities at the base's k
tokens). Exact scores come from the whole vocabulary: for the bundled pair from the servers themselves (k = V), for the
random-weight pair, where that would be 1.6 MB a position, from the same weights in transformers.

    python benchmarks/exactness.py                # both pairs; rows of suite "exactness" in build/bench.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from random_pair import VOCAB_SIZE, make_pair
from transformers import Qwen3ForCausalLM

from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.sglang import connect_engine
from rrti_sgl.engines.wire import GenerateRequest, Sampling
from rrti_sgl.problems import load_problems
from rrti_sgl.records import FloatArray
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.serving.server import ServedPair, Server
from rrti_sgl.tinypair.bundle import bundled_pair
from rrti_sgl.tokens.vocabulary import load_vocabulary

BUILD = Path("build")
SPIKE_RATIO = 0.08
BATCH = 8  # sequences in one call
REPETITIONS = 3  # of the timed scoring


@dataclass(frozen=True)
class Row:
    """One line of the table. Errors are exact CE minus score, nats; decisions are shares of all positions."""

    suite: str
    pair: str
    vocab_size: int
    kind: str
    k: int
    positions: int
    mean_exact: float
    mean_error: float
    p99_error: float
    max_error: float
    base_tail_mass: float
    entropy_error: float  # mean absolute, of the base's entropy
    changed_own_tau: float  # tau calibrated on scores of this kind and k
    changed_exact_tau: float  # tau calibrated on exact scores
    scoring_ms: float  # of one position on the reasoning server


@dataclass(frozen=True)
class Case:
    """What is measured on a pair."""

    name: str
    prompts: Sequence[Sequence[int]]
    new_tokens: int
    ks: Sequence[int]


Exact = Callable[[Sequence[int], int], tuple[FloatArray, FloatArray]]
"""One sequence's exact CE and base entropy, from its ids and the index of the first scored token."""


async def draft(endpoint: Engine, case: Case, stop: tuple[int, ...]) -> list[tuple[list[int], int]]:
    """Sampled continuations: ids and where the continuation begins."""
    sequences = []
    for at in range(0, len(case.prompts), 32):
        requests = [
            GenerateRequest(prompt, case.new_tokens, 1, Sampling(1.0), stop_token_ids=stop)
            for prompt in case.prompts[at : at + 32]
        ]
        for request, found in zip(requests, await endpoint.generate(requests), strict=True):
            ids = [*request.input_ids, *(int(i) for i in found.output_ids)]
            sequences.append((ids, len(request.input_ids)))
    return sequences


def requests_for(sequences: Sequence[tuple[list[int], int]], k: int, *, exact: bool = False) -> list[GenerateRequest]:
    return [GenerateRequest(ids, 0, k, score_from=start, exact=exact) for ids, start in sequences]


async def score(endpoint: Engine, requests: Sequence[GenerateRequest]) -> tuple[list[Distributions], float]:
    """Distributions of every sequence, and seconds on a warm cache: the median of the repetitions."""
    times: list[float] = []
    for _ in range(1 + REPETITIONS):
        found, start = [], time.perf_counter()
        for at in range(0, len(requests), BATCH):
            answers = await endpoint.generate(requests[at : at + BATCH])
            if reasons := {answer.exact_missing for answer in answers} - {None}:
                raise RuntimeError(f"no exact numbers: {reasons}")
            found += [answer.input for answer in answers]
        times.append(time.perf_counter() - start)
    return found, float(np.median(times[1:]))


async def measure(base: Engine, reasoning: Engine, case: Case, stop: tuple[int, ...], exact: Exact | None) -> list[Row]:
    """All rows of one pair."""
    vocab_size = base.vocab_size
    sequences = await draft(base, case, stop)
    if exact is None:
        full_b, _ = await score(base, requests_for(sequences, vocab_size))
        full_r, _ = await score(reasoning, requests_for(sequences, vocab_size))
        reference = [(METRICS["ce"](b, r).value, entropy(b).value) for b, r in zip(full_b, full_r, strict=True)]
    else:
        reference = [exact(ids, start) for ids, start in sequences]
    true_ce, true_entropy = (np.concatenate(part) for part in zip(*reference, strict=True))
    true_tau = calibrate(true_ce, SPIKE_RATIO).tau
    true_fired = true_ce > true_tau
    rows = []
    for k in case.ks:
        for kind in ("topk", "plugin"):
            with_plugin = kind == "plugin"
            lists_b, _ = await score(base, requests_for(sequences, k, exact=with_plugin))
            asked = requests_for(sequences, k, exact=with_plugin)
            if with_plugin:
                asked = [replace(request, named_ids=rows_b.ids) for request, rows_b in zip(asked, lists_b, strict=True)]
            lists_r, seconds = await score(reasoning, asked)
            b, r = Distributions.concatenate(lists_b), Distributions.concatenate(lists_r)
            scores = METRICS["ce"](b, r).value
            error = true_ce - scores
            rows.append(
                Row(
                    suite="exactness",
                    pair=case.name,
                    vocab_size=vocab_size,
                    kind=kind,
                    k=k,
                    positions=len(scores),
                    mean_exact=float(true_ce.mean()),
                    mean_error=float(error.mean()),
                    p99_error=float(np.quantile(error, 0.99)),
                    max_error=float(np.abs(error).max()),
                    base_tail_mass=float(b.tail_mass.mean()),
                    entropy_error=float(np.abs(true_entropy - entropy(b).value).mean()),
                    changed_own_tau=float(((scores > calibrate(scores, SPIKE_RATIO).tau) != true_fired).mean()),
                    changed_exact_tau=float(((scores > true_tau) != true_fired).mean()),
                    scoring_ms=seconds * 1e3 / len(scores),
                )
            )
            print(line(rows[-1]), flush=True)
    return rows


def from_transformers(base: Path, reasoning: Path) -> Exact:
    """Exact CE and base entropy from the whole vocabulary, float32 weights and float64 sums."""
    models = [Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (base, reasoning)]

    @torch.inference_mode()
    def exact(ids: Sequence[int], start: int) -> tuple[FloatArray, FloatArray]:
        log_b, log_r = (
            torch.log_softmax(model(torch.tensor([list(ids)])).logits[0, start - 1 : -1].double(), -1) for model in models
        )
        p = log_b.exp()
        return np.asarray(-(p * log_r).sum(-1)), np.asarray(-(p * log_b).sum(-1))

    return exact


async def with_servers(
    served: ServedPair, case: Case, vocab_size: int, stop: tuple[int, ...], exact: Exact | None
) -> list[Row]:
    async with connect_engine(served.base.url) as base, connect_engine(served.reasoning.url) as reasoning:
        for engine in (base, reasoning):
            engine.info = replace(engine.info, vocab_size=vocab_size)
        return await measure(base, reasoning, case, stop, exact)


def bundled() -> list[Row]:
    models = bundled_pair()
    vocabulary = load_vocabulary(str(models.base))
    prompts = [vocabulary.encode(problem.question) for problem in load_problems("world:heldout", limit=100).problems]
    case = Case("bundled", prompts, 110, (8, 20, 32))
    logs = BUILD / "exactness"
    with ServedPair(
        Server(str(models.base), "base", logs, device="cpu"), Server(str(models.reasoning), "reasoning", logs, device="cpu")
    ) as served:
        return asyncio.run(with_servers(served, case, vocabulary.size, tuple(vocabulary.stop_token_ids), None))


def random_weights() -> list[Row]:
    base, reasoning = make_pair(BUILD / "random_pair")
    prompts = np.random.default_rng(0).integers(1, VOCAB_SIZE, size=(64, 16)).tolist()
    case = Case("random weights", prompts, 32, (20, 64))
    flags, logs = ("--skip-tokenizer-init", "--max-total-tokens", "16384"), BUILD / "exactness"
    with ServedPair(
        Server(str(base), "random-base", logs, flags, device="cpu"),
        Server(str(reasoning), "random-reasoning", logs, flags, device="cpu"),
    ) as served:
        exact = from_transformers(base, reasoning)
        return asyncio.run(with_servers(served, case, VOCAB_SIZE, (), exact))


HEADER = """\
| pair | V | scores | k | exact CE | error mean | p99 | max | base tail | H_b error | changed, own tau | exact tau | ms |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def line(row: Row) -> str:
    """One line of the table."""
    return (
        f"| {row.pair} | {row.vocab_size} | {row.kind} | {row.k} | {row.mean_exact:.3f} | {row.mean_error:.4f} "
        f"| {row.p99_error:.3f} | {row.max_error:.3f} | {row.base_tail_mass:.4f} | {row.entropy_error:.1e} "
        f"| {row.changed_own_tau:.2%} | {row.changed_exact_tau:.2%} | {row.scoring_ms:.2f} |"
    )


def store(rows: Sequence[Row], path: Path) -> None:
    """Replace the rows of this suite in the file of all suites."""
    others = json.loads(path.read_text()) if path.exists() else []
    kept = [row for row in others if row.get("suite") != "exactness"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*kept, *(asdict(row) for row in rows)], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER)
    store([*bundled(), *random_weights()], BUILD / "bench.json")


if __name__ == "__main__":
    main()
