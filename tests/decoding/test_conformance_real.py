"""Chunked decoding equals lockstep on real servers, greedy in float32: every gate, caches flushed between the two."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.science.deferral import DeferralGate
from rrti_sgl.science.doubt import DoubtGate
from rrti_sgl.science.gates import DivergenceGate, EarlyGate, EntropyGate, Gate, RandomGate, ThresholdRule
from rrti_sgl.serving.server import ServedPair
from tests.decoded import decode

pytestmark = pytest.mark.server

GATES: dict[str, Gate] = {
    "ce": DivergenceGate("ce", ThresholdRule(tau=0.55)),
    "reverse kl, lambda": DivergenceGate("reverse_kl", ThresholdRule(tau=0.2, lambda_=1.5, window=8, warmup="partial")),
    "entropy": EntropyGate(ThresholdRule(tau=0.5)),
    "entropy, rolling": EntropyGate(ThresholdRule(tau=0.2, rolling=3)),
    "js where the base doubts": DoubtGate("js", 0.4, ThresholdRule(tau=0.05)),
    "random": RandomGate(0.2),
    "early": EarlyGate(9),
    "ce, cooldown": DivergenceGate("ce", ThresholdRule(tau=0.3, cooldown=5)),
    "chow": DeferralGate("chow", 0.4),
    "difference": DeferralGate("difference", 0.1),
    "opt": DeferralGate("opt", 0.3),
    "token": DeferralGate("token", 0.5),
}
# Scores of the two ways differ in the last float32 digits, because prefill and decoding sum in another order.
SCORE_TOLERANCE = 2e-3


def jobs(pair: Pair, n: int, *, different_prompts: bool) -> list[SampleJob]:
    found = []
    for problem in load_problems("world:heldout", limit=n).problems:
        ids = pair.vocabulary.encode(problem.question)
        reasoning = pair.vocabulary.encode("textbook " + problem.question) if different_prompts else ids
        found.append(SampleJob("run", problem, 0, 1, "", ids, "", reasoning))
    return found


def differing(chunked: TraceBuilder, lockstep: TraceBuilder, gate: Gate) -> str | None:
    """What differs between two traces of one sample, or None."""
    if (chunked.token_ids, chunked.sources) != (lockstep.token_ids, lockstep.sources):
        return "tokens"
    if [d.fired for d in chunked.decisions] != [d.fired for d in lockstep.decisions]:
        return "decisions"
    scores = [np.asarray([d.score for d in trace.decisions]) for trace in (chunked, lockstep)]
    if not np.allclose(*scores, atol=SCORE_TOLERANCE, equal_nan=True):
        return "scores"
    logprobs = [np.asarray(trace.reasoning_logprobs) for trace in (chunked, lockstep)]
    likely = ~(np.minimum(*np.nan_to_num(logprobs, nan=0.0)) < -12)
    return None if np.allclose(logprobs[0][likely], logprobs[1][likely], atol=0.02, equal_nan=True) else "log-probabilities"


async def compare(served: ServedPair, names: Collection[str], n: int, **changes: int) -> dict[str, list[str]]:
    """What differs, by gate. Samples of all gates are decoded at once: servers make a step of them together."""
    async with connect(served.base.url, served.reasoning.url) as pair:
        options = replace(DecodeOptions(8, 110, Sampling(), pair.stop_token_ids), **changes)  # type: ignore[arg-type]
        both = []
        for loop in ("chunked", "lockstep"):
            await pair.base.flush()
            await pair.reasoning.flush()
            decoding = [
                decode(pair, jobs(pair, n, different_prompts=name in ("ce", "entropy")), GATES[name], options, loop=loop,
                       concurrency=Concurrency(32))
                for name in names
            ]  # fmt: skip
            both.append(await asyncio.gather(*decoding))
    found = {}
    for name, *ways in zip(names, *both, strict=True):
        differences = [differing(*one, GATES[name]) for one in zip(*ways, strict=True)]
        found[name] = [each for each in differences if each is not None]
    return found


@pytest.fixture(scope="module")
def compared(served_pair: ServedPair) -> dict[str, list[str]]:
    return asyncio.run(compare(served_pair, GATES, 8, max_new_tokens=30))


@pytest.mark.parametrize("name", GATES)
def test_chunked_equals_lockstep(compared: dict[str, list[str]], name: str) -> None:
    assert compared[name] == []


def test_chunked_equals_lockstep_in_exchanged_roles(served_pair: ServedPair) -> None:
    assert asyncio.run(compare(served_pair, ["ce"], 8, max_new_tokens=30, exchanged=True)) == {"ce": []}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("draft_tokens", "limit"), [(1, 40), (5, 110), (12, 110), (12, 23)])
def test_chunked_equals_lockstep_over_many_sequences(served_pair: ServedPair, draft_tokens: int, limit: int) -> None:
    """Every gate x 60 sequences, a limit that cuts some of them, and drafts of one length."""
    found = asyncio.run(compare(served_pair, GATES, 60, draft_tokens=draft_tokens, max_new_tokens=limit))
    assert {name: some for name, some in found.items() if some} == {}
    assert found.keys() == GATES.keys()
