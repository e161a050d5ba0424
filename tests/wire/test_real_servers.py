"""The endpoint against real SGLang servers, and its numbers against the same models in transformers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from rrti_sgl.engines.pair import Pair, connect
from rrti_sgl.engines.sglang import connect_engine
from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.engines.wire import GenerateRequest, Sampling
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tinypair.bundle import bundled_pair

pytestmark = pytest.mark.server
Result = TypeVar("Result")


def with_pair(served: ServedPair, use: Callable[[Pair], Awaitable[Result]]) -> Result:
    async def go() -> Result:
        async with connect(served.base.url, served.reasoning.url) as pair:
            return await use(pair)

    return asyncio.run(go())


def prompts(pair: Pair, n: int) -> list[list[int]]:
    from rrti_sgl.problems import load_problems

    return [pair.vocabulary.encode(problem.question) for problem in load_problems("world:heldout", limit=n).problems]


@torch.inference_mode()
def transformers_logprobs(folder: str, ids: Sequence[int]) -> np.ndarray:
    """(T, V) log-probabilities of the next token after each prefix, in float32."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return np.asarray(torch.log_softmax(model(torch.tensor([list(ids)])).logits[0], -1))


@pytest.mark.parametrize("side", ["base", "reasoning"])
def test_drafts_and_scores_equal_transformers(served_pair: ServedPair, side: str) -> None:
    async def ask(pair: Pair) -> None:
        endpoint, k = getattr(pair, side), pair.vocab_size
        [prompt] = prompts(pair, 1)
        [draft] = await endpoint.generate([GenerateRequest(prompt, 12, k, stop_token_ids=tuple(pair.stop_token_ids))])
        ids = [*prompt, *(int(i) for i in draft.output_ids)]
        [scored] = await endpoint.generate([GenerateRequest(ids, 0, k, score_from=len(prompt))])
        expected = transformers_logprobs(str(getattr(bundled_pair(), side)), ids)[len(prompt) - 1 : -1]
        for found in (draft.output, scored.input):
            dense = np.empty_like(expected)
            np.put_along_axis(dense, found.ids.astype(np.int64), found.logprobs, axis=1)
            likely = expected > -15  # far in the tail float32 logits differ by more in nats
            np.testing.assert_allclose(dense[likely], expected[likely], atol=2e-3)
        drawn = expected[np.arange(len(expected)), draft.output_ids]
        np.testing.assert_allclose(scored.input_logprobs, drawn, atol=2e-3)
        np.testing.assert_array_equal(draft.output_ids, expected.argmax(-1))

    with_pair(served_pair, ask)


def test_scoring_a_suffix_uses_the_cached_prefix(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        await pair.reasoning.flush()
        [prompt] = prompts(pair, 1)
        ids = [*prompt, *prompt[:10]]
        first, second = [
            (await pair.reasoning.generate([GenerateRequest(ids, 0, 4, score_from=len(prompt))]))[0] for _ in range(2)
        ]
        assert first.cached_tokens == 0
        assert second.cached_tokens == len(prompt) - 1
        assert len(second.input) == 10

    with_pair(served_pair, ask)


def test_the_cache_is_emptied_once_nothing_runs(served_pair: ServedPair) -> None:
    """SGLang refuses to while something runs, and for a moment after its last answer."""

    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        body = {"input_ids": prompt, "stream": True, "sampling_params": {"max_new_tokens": 200, "ignore_eos": True}}
        server = Transport(served_pair.base.url)
        async with aclosing(server.events("/generate", body)) as pieces:
            await anext(pieces)
            flush = asyncio.create_task(pair.base.flush())
            last = [piece async for piece in pieces][-1]
            await flush
        await server.close()
        assert last["meta_info"]["completion_tokens"] == 200
        for _ in range(20):
            [again] = await pair.base.generate([GenerateRequest(prompt, 1, 0)])
            await pair.base.flush()
            assert again.cached_tokens == 0

    with_pair(served_pair, ask)


def test_a_batch_may_mix_drafts_scores_and_asked_ids(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        requests = [
            GenerateRequest(prompt, 5, 0),
            GenerateRequest(prompt, 1, 3, logprob_ids=(7,)),
            GenerateRequest(prompt, 0, 6, score_from=4),
        ]
        drafted, asked, scored = await pair.base.generate(requests)
        [full] = await pair.base.generate([GenerateRequest(prompt, 1, pair.vocab_size)])
        assert len(drafted.output_ids) == 5
        assert asked.output.k == 3
        np.testing.assert_allclose(asked.id_logprobs[0, 0], full.output.logprob_of(np.asarray([7]))[0], atol=1e-4)
        assert (len(scored.input), scored.input.k) == (len(prompt) - 4, 6)

    with_pair(served_pair, ask)


def test_too_large_a_k_is_refused_before_it_ends_the_server(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        with pytest.raises(UsageError, match="vocabulary has"):
            await pair.base.generate([GenerateRequest((3, 4), 1, pair.vocab_size + 1)])
        assert await pair.base.generate([GenerateRequest((3, 4), 1, 1)])

    with_pair(served_pair, ask)


def test_logprobs_stay_raw_under_temperature(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        cold, hot = await pair.base.generate(
            [GenerateRequest(prompt, 1, 5, Sampling()), GenerateRequest(prompt, 1, 5, Sampling(3.0, 0.5))]
        )
        np.testing.assert_allclose(hot.output.logprobs, cold.output.logprobs, atol=1e-4)

    with_pair(served_pair, ask)


def test_cancelling_a_call_ends_it_on_the_server(served_pair: ServedPair) -> None:
    async def ask(pair: Pair) -> None:
        [prompt] = prompts(pair, 1)
        long = GenerateRequest(prompt, 400, 0, Sampling(5.0))
        call = asyncio.create_task(pair.base.generate([long] * 32))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # 32 x 400 tokens would keep the server busy for many seconds; aborted, it answers at once.
        start = time.perf_counter()
        await pair.base.generate([GenerateRequest(prompt, 1, 1)])
        alone = time.perf_counter() - start
        start = time.perf_counter()
        await pair.base.generate([long] * 32)
        assert alone < (time.perf_counter() - start) / 2

    with_pair(served_pair, ask)


@pytest.mark.parametrize(
    ("url", "match"),
    [("http://127.0.0.1:9", "failed after"), ("ftp://x", "no URL")],
)
def test_an_address_without_a_server(url: str, match: str) -> None:
    async def ask() -> None:
        async with connect_engine(url, limits=TransportLimits(retries=0)):
            pass

    with pytest.raises((EndpointError, UsageError), match=match):
        asyncio.run(ask())


def test_a_server_that_is_not_sglang() -> None:
    async def ask() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            with pytest.raises(EndpointError, match="not like an SGLang server"):
                async with connect_engine(f"http://127.0.0.1:{port}"):
                    pass

    asyncio.run(ask())


@pytest.mark.parametrize("side", ["base", "reasoning"])
def test_the_longest_input_is_taken_and_a_longer_one_is_not(served_pair: ServedPair, side: str) -> None:
    async def ask(pair: Pair) -> None:
        endpoint = getattr(pair, side)
        info = endpoint.info
        [prompt] = prompts(pair, 1)
        longest = (prompt * info.max_input_tokens)[: info.max_input_tokens]
        [scored] = await endpoint.generate([GenerateRequest(longest, 0, 1, score_from=len(longest) - 1)])
        assert scored.prompt_tokens == info.max_input_tokens
        with pytest.raises(EndpointError, match="HTTP 400"):
            await endpoint.generate([GenerateRequest([*longest, prompt[0]], 0, 1, score_from=len(longest))])

    with_pair(served_pair, ask)
