"""A base and a reasoning model on two SGLang servers: connecting, and everything that is checked before the first token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np

from rrti_sgl.engines.endpoint import Endpoint, ServerInfo, TransportLimits
from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.records import ScoreKind
from rrti_sgl.server_plugin import VARIABLE
from rrti_sgl.tokens.special_tokens import SpecialTokens
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary, matching

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two connected servers that share a vocabulary.

    `vocabulary` is the base model's and the pair's. `reasoning_vocabulary` has the same ids, with the reasoning model's own
    tokenizer and chat template; where `special_tokens` is "mapped", its special tokens were renumbered to meet the base's.
    """

    base: Endpoint
    reasoning: Endpoint
    base_info: ServerInfo
    reasoning_info: ServerInfo
    vocabulary: Vocabulary
    reasoning_vocabulary: Vocabulary
    stop_token_ids: frozenset[int]
    special_tokens: SpecialTokens = "mapped"

    @property
    def vocab_size(self) -> int:
        """Entries of both models' output distributions."""
        return self.vocabulary.size

    def score_kind(self, k: int, asked: ScoreKind = "topk") -> ScoreKind:
        """The kind of the scores that k top log-probabilities give: the whole vocabulary needs nothing beside them."""
        return "full" if k >= self.vocab_size else asked

    async def check_exact(self) -> None:
        """Refuse servers that give no exact numbers; found by trying.

        Raises:
            EndpointError: names the server and says why.
        """
        for endpoint in (self.base, self.reasoning):
            ids = np.zeros((1, 1), dtype=np.int32)
            [probe] = await endpoint.generate([GenerateRequest((0,), max_new_tokens=1, k=1, exact=True, named_ids=ids)])
            if probe.exact_missing is not None:
                raise EndpointError(
                    f"{endpoint.url} gives no exact numbers: {probe.exact_missing}.",
                    f"Start it with `rrti serve`, or with rrti-sgl installed beside SGLang and {VARIABLE}=1 in its "
                    "environment; or use --score-kind topk.",
                )

    def check_lengths(self, base_prompt: Sequence[int], reasoning_prompt: Sequence[int], max_new_tokens: int) -> None:
        """Refuse a prompt that does not fit a model's context together with the limit.

        Raises:
            UsageError: it does not fit, or is empty.
        """
        sides = (("base", base_prompt, self.base_info), ("reasoning", reasoning_prompt, self.reasoning_info))
        for side, prompt, info in sides:
            if not prompt:
                raise UsageError(f"The {side} prompt is empty.", "Check the problem's question and the prompt template.")
            if len(prompt) + max_new_tokens > info.max_input_tokens:
                room = info.max_input_tokens - len(prompt)
                shorter = f"Use --max-new-tokens {room} or less" if room > 0 else "Shorten the prompt"
                raise UsageError(
                    f"The {side} prompt has {len(prompt)} tokens and max_new_tokens is {max_new_tokens}, but the "
                    f"{side} server takes {info.max_input_tokens} in all.",
                    f"{shorter}, or serve the model with a longer context.",
                )


def check_k(k: int, vocab_size: int) -> None:
    """Refuse a k that the pair cannot give: asking for more than the vocabulary ends an SGLang server."""
    if not 1 <= k <= vocab_size:
        raise UsageError(f"k = {k} is outside 1..{vocab_size} (the vocabulary).", "Choose --k in that range.")


@contextlib.asynccontextmanager
async def connect(
    base_url: str,
    reasoning_url: str,
    *,
    sampled: bool,
    tokenizer: str | None = None,
    reasoning_tokenizer: str | None = None,
    api_key: str | None = None,
    limits: TransportLimits | None = None,
    special_tokens: SpecialTokens = "mapped",
) -> AsyncIterator[Pair]:
    """Connect to both servers and check that they make a pair.

    Args:
        base_url: address of the base model's server.
        reasoning_url: address of the reasoning model's server.
        sampled: whether a temperature above 0 will be used; then raw log-probabilities must be switched on.
        tokenizer: folder or hub id to take both tokenizers from, for servers whose model path is not readable here.
        reasoning_tokenizer: the reasoning model's, where that is another one.
        api_key: bearer token for both servers.
        limits: time limits and retries.
        special_tokens: "mapped" lets special tokens of the same meaning meet (`rrti_sgl.tokens.special_tokens`);
            "as-is" compares id by id.

    Raises:
        EndpointError: a server is unreachable, no SGLang server, or returns scaled log-probabilities.
        PairMismatchError: the models do not share a vocabulary.
    """
    async with (
        Endpoint(base_url, api_key=api_key, limits=limits) as base,
        Endpoint(reasoning_url, api_key=api_key, limits=limits) as reasoning,
    ):
        base_info, reasoning_info = await asyncio.gather(base.server_info(), reasoning.server_info())
        base_vocabulary = load_vocabulary(tokenizer or base_info.tokenizer)
        reasoning_vocabulary = load_vocabulary(reasoning_tokenizer or tokenizer or reasoning_info.tokenizer)
        if special_tokens == "mapped":
            reasoning_vocabulary = matching(base_vocabulary, reasoning_vocabulary)
            reasoning.renumbering = reasoning_vocabulary.renumbered
        for line in check_same_vocabulary(base_vocabulary, reasoning_vocabulary):
            logger.warning("special token differs: %s", line)
        base.vocab_size = reasoning.vocab_size = base_vocabulary.size
        if sampled:
            await _check_original_logprobs(base, reasoning)
        yield Pair(
            base=base,
            reasoning=reasoning,
            base_info=base_info,
            reasoning_info=reasoning_info,
            vocabulary=base_vocabulary,
            reasoning_vocabulary=reasoning_vocabulary,
            stop_token_ids=base_vocabulary.stop_token_ids | reasoning_vocabulary.stop_token_ids,
            special_tokens=special_tokens,
        )


async def _check_original_logprobs(*endpoints: Endpoint) -> None:
    for endpoint in endpoints:
        if not await endpoint.returns_original_logprobs(token_id=0):
            raise EndpointError(
                f"{endpoint.url} returns log-probabilities after temperature scaling; scores would be wrong.",
                "Restart it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment (`rrti serve` sets it), or use "
                "--temperature 0.",
            )
