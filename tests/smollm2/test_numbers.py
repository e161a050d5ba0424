"""Real servers of a real model against transformers: distributions, scores and their bounds, decoding, and long contexts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from rrti_sgl.decoding.job import DecodeOptions, Decoding, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.plugin_numbers import check_exact
from rrti_sgl.engines.wire import GenerateRequest, Sampling
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.prompts import PromptTemplate
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.gates import DivergenceGate, EntropyGate, Gate, ThresholdRule
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.serving.server import ServedPair
from tests.decoded import decode
from tests.smollm2.models import SmolLM2Pair
from tests.smollm2.test_commands import QUESTIONS

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1200)]
Result = TypeVar("Result")
BASE_PROMPT, REASONING_PROMPT = PromptTemplate("Question: {question}\nAnswer:"), PromptTemplate("chat")
K, N = 20, 6
LOGPROB_ERROR = 5e-3  # float32 through 30 layers, summed in another order
GATES: dict[str, Gate] = {
    "ce": DivergenceGate("ce", ThresholdRule(tau=2.5)),
    "entropy": EntropyGate(ThresholdRule(tau=2.0)),
}


def with_pair(served: ServedPair, use: Callable[[Pair], Awaitable[Result]]) -> Result:
    async def go() -> Result:
        async with connect(served.base.url, served.reasoning.url) as pair:
            return await use(pair)

    return asyncio.run(go())


def prompts(pair: Pair, question: str) -> tuple[list[int], list[int]]:
    """Ids of what the base and the reasoning model are shown."""
    return BASE_PROMPT.render(question, pair.vocabulary)[1], REASONING_PROMPT.render(question, pair.reasoning_vocabulary)[1]


@cache
def model(folder: Path) -> torch.nn.Module:
    from transformers import LlamaForCausalLM

    loaded: torch.nn.Module = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return loaded


@torch.inference_mode()
def expected(folder: Path, prompt: Sequence[int], drawn: Sequence[int]) -> np.ndarray:
    """(len(drawn), V) log-probabilities at the drawn tokens, by transformers."""
    logits = model(folder)(torch.tensor([[*prompt, *drawn]])).logits[0, len(prompt) - 1 : -1]
    return np.asarray(torch.log_softmax(logits, -1))


def test_drafts_and_scores_equal_transformers(smollm2: ServedPair, folders: SmolLM2Pair) -> None:
    """The whole vocabulary of 49,152 entries at each position."""

    async def ask(pair: Pair) -> None:
        k = pair.vocab_size
        base_prompt, reasoning_prompt = prompts(pair, QUESTIONS[1])
        [draft] = await pair.base.generate([GenerateRequest(base_prompt, N, k)])
        drawn = [int(i) for i in draft.output_ids]
        ids = [*reasoning_prompt, *drawn]
        [scored] = await pair.reasoning.generate([GenerateRequest(ids, 0, k, score_from=len(reasoning_prompt))])
        of_base = expected(folders.base, base_prompt, drawn)
        of_reasoning = expected(folders.reasoning, reasoning_prompt, drawn)
        np.testing.assert_array_equal(drawn, of_base.argmax(-1))
        for found, wanted in ((draft.output, of_base), (scored.input, of_reasoning)):
            dense = np.empty_like(wanted)
            np.put_along_axis(dense, found.ids.astype(np.int64), found.logprobs, axis=1)
            likely = wanted > -15
            np.testing.assert_allclose(dense[likely], wanted[likely], atol=LOGPROB_ERROR)
        p = np.exp(of_base.astype(np.float64))
        np.testing.assert_allclose(METRICS["ce"](draft.output, scored.input).value, -(p * of_reasoning).sum(-1), atol=2e-3)

    with_pair(smollm2, ask)


def test_short_lists_bound_the_exact_scores_and_the_plugin_narrows_them(smollm2: ServedPair, folders: SmolLM2Pair) -> None:
    async def ask(pair: Pair) -> None:
        await check_exact(pair.base)
        await check_exact(pair.reasoning)
        for question in QUESTIONS[1:4]:
            base_prompt, reasoning_prompt = prompts(pair, question)
            [draft] = await pair.base.generate([GenerateRequest(base_prompt, 2 * N, K, exact=True)])
            drawn = [int(i) for i in draft.output_ids]
            request = GenerateRequest(
                [*reasoning_prompt, *drawn],
                0,
                K,
                score_from=len(reasoning_prompt),
                exact=True,
                named_ids=draft.output.ids,
            )
            [scored] = await pair.reasoning.generate([request])
            b = expected(folders.base, base_prompt, drawn).astype(np.float64)
            r = expected(folders.reasoning, reasoning_prompt, drawn).astype(np.float64)
            p = np.exp(b)
            exact, uncovered = -(p * r).sum(-1), 1 - np.take_along_axis(p, draft.output.ids.astype(np.int64), 1).sum(-1)
            plain = [Distributions(rows.ids, rows.logprobs, rows.vocab_size) for rows in (draft.output, scored.input)]
            bound, found = METRICS["ce"](*plain), METRICS["ce"](draft.output, scored.input)
            assert (bound.value <= found.value + 1e-6).all()
            assert (found.value <= exact + 2e-3).all()
            np.testing.assert_allclose(found.uncovered, uncovered, atol=1e-3)
            # What the plugin's score misses lies outside the base's list: at most that mass times the rarest token there.
            assert (exact <= found.value + uncovered * -r.min(-1) + 2e-3).all()
            assert (exact - found.value).mean() < 0.5 * (exact - bound.value).mean()
            np.testing.assert_allclose(entropy(draft.output).value, -(p * b).sum(-1), atol=2e-3)
            np.testing.assert_allclose(entropy(scored.input).value, -(np.exp(r) * r).sum(-1), atol=2e-3)

    with_pair(smollm2, ask)


@pytest.mark.parametrize("name", GATES)
def test_chunked_equals_lockstep(smollm2: ServedPair, name: str) -> None:
    async def ask(pair: Pair) -> None:
        jobs = []
        for index, question in enumerate(QUESTIONS):
            problem = ProblemRecord(str(index), "own", question, None)
            base, reasoning = prompts(pair, question)
            jobs.append(SampleJob("run", problem, 0, 0, "", base, "", reasoning))
        options = DecodeOptions(K, 32, Sampling(), pair.stop_token_ids)

        async def run(how: Decoding) -> list[TraceBuilder]:
            await asyncio.gather(pair.base.flush(), pair.reasoning.flush())
            return await decode(pair, jobs, GATES[name], options, loop=how, concurrency=Concurrency(8))

        chunked, lockstep = await run("chunked"), await run("lockstep")
        assert any("reasoning" in trace.sources for trace in chunked)
        for one, other in zip(chunked, lockstep, strict=True):
            assert (one.token_ids, one.sources) == (other.token_ids, other.sources)
            scores = [[decision.score for decision in trace.decisions] for trace in (one, other)]
            np.testing.assert_allclose(*scores, atol=LOGPROB_ERROR)

    with_pair(smollm2, ask)


def test_a_long_context_is_decoded_from_the_cache_and_a_longer_one_is_refused(smollm2: ServedPair) -> None:
    text = " ".join(f"Sentence {i} says that the keeper 🌊 counted {i * 7 % 13} ships." for i in range(180))

    async def ask(pair: Pair) -> None:
        base, reasoning = prompts(pair, text + " How many ships did the keeper count first?")
        assert len(base) > 3000
        pair.check_lengths(base, reasoning, 24)
        job = SampleJob("run", ProblemRecord("long", "own", text, None), 0, 0, "", base, "", reasoning)
        options = DecodeOptions(K, 24, Sampling(), pair.stop_token_ids, draft_tokens=8)
        [trace] = await decode(pair, [job], GATES["ce"], options, concurrency=Concurrency(1))
        assert np.isfinite([decision.score for decision in trace.decisions]).all()
        for calls, prompt in ((trace.base_calls, base), (trace.reasoning_calls, reasoning)):
            assert calls.calls > 1
            assert calls.prompt_tokens - calls.cached_tokens < len(prompt) + 100 * calls.calls
        limit = pair.base.info.max_input_tokens
        too_long = [base[0]] * (limit - 23)
        said = rf"base prompt has {limit - 23} tokens.* the {limit} that the base server takes in all"
        with pytest.raises(UsageError, match=said) as error:
            pair.check_lengths(too_long, reasoning, 24)
        assert "max_new_tokens=23 or less" in error.value.remedy

    with_pair(smollm2, ask)
