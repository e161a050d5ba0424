"""The plugin inside real SGLang servers: exact against the whole vocabulary, and a fault of it harms nobody."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.plugin_numbers import check_exact
from rrti_sgl.engines.wire import GenerateRequest, Sampling
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.gates import DivergenceGate, ThresholdRule
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.serving.server import ServedPair, Server
from rrti_sgl.tinypair.bundle import bundled_pair
from tests.decoded import decode

pytestmark = pytest.mark.server
Result = TypeVar("Result")
K = 8


def with_pair(served: ServedPair, use: Callable[[Pair], Awaitable[Result]]) -> Result:
    async def go() -> Result:
        async with connect(served.base.url, served.reasoning.url) as pair:
            return await use(pair)

    return asyncio.run(go())


def prompts(pair: Pair, n: int) -> list[list[int]]:
    return [pair.vocabulary.encode(problem.question) for problem in load_problems("world:heldout", limit=n).problems]


def test_drafts_and_scores_are_exact(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        vocab_size, asked = pair.vocab_size, prompts(pair, 6)
        drawn = [GenerateRequest(prompt, 3 + 4 * i, K, Sampling(1.5), exact=True) for i, prompt in enumerate(asked)]
        drafts = await pair.base.generate(drawn)
        sequences = [[*prompt, *(int(i) for i in found.output_ids)] for prompt, found in zip(asked, drafts, strict=True)]
        scored, full_b, full_r = [], [], []
        for prompt, ids, drafted in zip(asked, sequences, drafts, strict=True):
            scored.append(GenerateRequest(ids, 0, K, score_from=len(prompt), exact=True, named_ids=drafted.output.ids))
            full_b += await pair.base.generate([GenerateRequest(ids, 0, vocab_size, score_from=len(prompt))])
            full_r += await pair.reasoning.generate([GenerateRequest(ids, 0, vocab_size, score_from=len(prompt))])
        await pair.reasoning.flush()
        for found, drafted, b, r in zip(await pair.reasoning.generate(scored), drafts, full_b, full_r, strict=True):
            assert found.exact_missing is None
            assert drafted.output.exact is not None
            assert found.input.exact is not None
            np.testing.assert_allclose(drafted.output.exact.entropy, entropy(b.input).value, atol=1e-4)
            np.testing.assert_allclose(found.input.exact.entropy, entropy(r.input).value, atol=1e-4)
            p, at_base = np.exp(drafted.output.logprobs.astype(float)), r.input.aligned_logprobs(drafted.output.ids)[0]
            np.testing.assert_allclose(found.input.exact.at(drafted.output.ids), at_base, atol=1e-3)
            head = -(p * at_base).sum(axis=1)
            np.testing.assert_allclose(-(p * found.input.exact.named_logprobs).sum(axis=1), head, atol=1e-4)
            exact, value = METRICS["ce"](b.input, r.input).value, METRICS["ce"](drafted.output, found.input).value
            assert (head - 1e-4 <= value).all()
            assert (value <= exact + 1e-4).all()

    with_pair(served_pair, ask)


def test_the_cache_serves_what_it_served_before(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        ids = [*prompt, *prompt[:10]]
        cached = []
        for exact in (False, True):
            await pair.reasoning.flush()
            named = np.zeros((10, K), np.int32)
            request = GenerateRequest(ids, 0, K, score_from=len(prompt), exact=exact, named_ids=named)
            first, second = [(await pair.reasoning.generate([request]))[0] for _ in range(2)]
            np.testing.assert_array_equal(first.input.ids, second.input.ids)
            cached.append((first.cached_tokens, second.cached_tokens))
        assert cached == [(0, len(prompt) - 1)] * 2

    with_pair(served_pair, ask)


def test_a_fault_inside_harms_nobody(served_pair: ServedPair, caplog: pytest.LogCaptureFixture) -> None:
    """Ids outside the vocabulary raise inside the hook, in the forward pass that answers the other requests too."""

    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        rows = len(prompt) - 4
        outside = np.full((rows, 2), pair.vocab_size, np.int32)
        bad = GenerateRequest(prompt, 0, K, score_from=4, exact=True, named_ids=outside)
        too_many = GenerateRequest(prompt, 0, K, score_from=4, exact=True, named_ids=np.zeros((rows + 9, 2), np.int32))
        good = GenerateRequest(prompt, 0, K, score_from=4, exact=True, named_ids=np.zeros((rows, 2), np.int32))
        plain = GenerateRequest(prompt, 5, K)
        with caplog.at_level(logging.WARNING):
            found = await pair.reasoning.generate([bad, good, too_many, plain])
        assert [answer.exact_missing is None for answer in found] == [False, True, False, True]
        assert "outside 0.." in str(found[0].exact_missing)
        assert "falling back to top-k" in caplog.text
        for answer in found[:3]:
            assert (len(answer.input), answer.input.k) == (rows, K)
            np.testing.assert_array_equal(answer.input.ids, found[1].input.ids)
        assert len(found[3].output_ids) == 5
        assert await pair.reasoning.generate([GenerateRequest((3, 4), 1, 1)])

    with_pair(served_pair, ask)


def test_both_loops_decode_alike_with_exact_scores(served_pair: ServedPair) -> None:
    gate = DivergenceGate("ce", ThresholdRule(tau=0.5))

    async def ask(pair: Pair) -> None:
        await check_exact(pair.base)
        await check_exact(pair.reasoning)
        jobs = []
        for index, problem in enumerate(load_problems("world:heldout", limit=8).problems):
            ids = pair.vocabulary.encode(problem.question)
            jobs.append(SampleJob("run", problem, index, 0, "", ids, "", ids))
        options = DecodeOptions(K, 60, Sampling(), pair.stop_token_ids, exact=True)

        async def run(decoding: Decoding) -> dict[str, TraceBuilder]:
            await asyncio.gather(pair.base.flush(), pair.reasoning.flush())
            traces = await decode(pair, jobs, gate, options, loop=decoding, concurrency=Concurrency(8, 8))
            return {job.sample_id: trace for job, trace in zip(jobs, traces, strict=True)}

        chunked, lockstep = await run("chunked"), await run("lockstep")
        for sample_id, trace in chunked.items():
            assert trace.token_ids == lockstep[sample_id].token_ids
            scores = [[decision.score for decision in found.decisions] for found in (trace, lockstep[sample_id])]
            np.testing.assert_allclose(*scores, atol=1e-3)
            metrics, reasoning = trace.metrics(), trace.reasoning.gathered()
            np.testing.assert_array_equal(metrics["ce"], scores[0])
            assert reasoning is not None
            assert reasoning.exact is not None
            assert not np.isnan(reasoning.exact.named_logprobs).any()

    with_pair(served_pair, ask)


@pytest.mark.slow
def test_chunked_prefill_and_chunked_logits_keep_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that prefills 24 tokens at a time, and computes the logits of 16 rows at a time."""
    monkeypatch.setenv("SGLANG_LOGPROB_CHUNK_SIZE", "16")
    flags, models = ("--chunked-prefill-size", "24"), bundled_pair()
    with ServedPair(
        Server(str(models.base), "base", tmp_path, flags, device="cpu"),
        Server(str(models.reasoning), "reasoning", tmp_path, flags, device="cpu"),
    ) as served:
        test_drafts_and_scores_are_exact(served)
        test_both_loops_decode_alike_with_exact_scores(served)


@pytest.mark.slow
def test_without_the_variable_there_is_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "RRTI_EXACT_SCORES", "0")
    models = bundled_pair()
    with ServedPair(
        Server(str(models.base), "base", tmp_path, device="cpu"),
        Server(str(models.reasoning), "reasoning", tmp_path, device="cpu"),
    ) as served:

        async def ask(pair: Pair) -> None:
            [prompt] = prompts(pair, 1)
            [found] = await pair.base.generate([GenerateRequest(prompt, 3, K, exact=True)])
            assert "does not have the plugin" in str(found.exact_missing)
            assert found.output.exact is None
            assert found.output.k == K

        with_pair(served, ask)
