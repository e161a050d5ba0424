"""A base and a reasoning model as two engines: connecting, and what is checked of them before the first token."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from rrti_sgl.engines.endpoint import EndpointSide, connect_endpoint, is_endpoint
from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.fused_server import FusedSide, OneModelError, connect_fused
from rrti_sgl.engines.renumbered import RenumberedEngine
from rrti_sgl.engines.sglang import SGLangEngine, connect_engine
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.engines.wire import GenerateRequest, Sampling
from rrti_sgl.errors import EndpointError, PairMismatchError, UsageError, argument
from rrti_sgl.records import ScoreKind
from rrti_sgl.tokens.special_tokens import SpecialTokens
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary, matching

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """Two engines whose models share a vocabulary.

    `vocabulary` is the base model's and the pair's. `reasoning_vocabulary` has the same ids, with the reasoning model's own
    tokenizer and chat template; where `special_tokens` is "mapped", its special tokens were renumbered to meet the base's.
    In exchanged roles `base` is the reasoning model, which writes, and `reasoning` the base model, its guest.
    """

    base: Engine
    reasoning: Engine
    vocabulary: Vocabulary
    reasoning_vocabulary: Vocabulary
    special_tokens: SpecialTokens = "mapped"
    is_exchanged: bool = False

    @property
    def tokenizer_hash(self) -> str:
        """Hash of what the pair's ids mean; the same in exchanged roles."""
        return (self.reasoning_vocabulary if self.is_exchanged else self.vocabulary).digest

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """End tokens of either model."""
        return self.vocabulary.stop_token_ids | self.reasoning_vocabulary.stop_token_ids

    @property
    def vocab_size(self) -> int:
        """Entries of both models' output distributions."""
        return self.vocabulary.size

    @property
    def fused(self) -> bool:
        """Whether one server holds both models, which then scores over the whole vocabulary, whatever k is kept."""
        return bool(self.base.info.details.get("fused"))

    def exchanged(self) -> Pair:
        """The same models in exchanged roles: the reasoning model is the one that writes, the base model the guest.

        Ids stay those of this pair.

        Raises:
            UsageError: one server holds both models, or an endpoint stands before them.
        """
        if self.fused or isinstance(self.base, EndpointSide):
            where = "One server for both models" if self.fused else "An endpoint"
            raise UsageError(
                f"{where} does not exchange their roles.",
                f"Use two servers, {argument('base_url')} and {argument('reasoning_url')}, or leave "
                f"{argument('exchanged')} out.",
            )
        swapped = replace(self, base=self.reasoning, reasoning=self.base, is_exchanged=not self.is_exchanged)
        return replace(swapped, vocabulary=self.reasoning_vocabulary, reasoning_vocabulary=self.vocabulary)

    def score_kind(self, k: int, asked: ScoreKind = "topk") -> ScoreKind:
        """The kind of the scores that k top log-probabilities give: the whole vocabulary needs nothing beside them."""
        return "full" if k >= self.vocab_size or self.fused else asked

    def check_lengths(self, base_prompt: Sequence[int], reasoning_prompt: Sequence[int], max_new_tokens: int) -> None:
        """Refuse a prompt that does not fit a model's context together with the limit.

        Raises:
            UsageError: it does not fit, or is empty.
        """
        sides = (("base", base_prompt, self.base.info), ("reasoning", reasoning_prompt, self.reasoning.info))
        if empty := [side for side, prompt, _ in sides if not prompt]:
            raise UsageError(
                f"The {' and the '.join(empty)} prompt is empty.", "Check the problem's question and the prompt template."
            )
        limit = {0: "", 1: "with an answer "}.get(max_new_tokens, f"with {argument('max_new_tokens', max_new_tokens)} ")
        wrong = [
            f"The {side} prompt has {len(prompt)} tokens; {limit}that is more than the {info.max_input_tokens} that the "
            f"{side} server takes in all."
            for side, prompt, info in sides
            if len(prompt) + max_new_tokens > info.max_input_tokens
        ]
        if wrong:
            room = min(info.max_input_tokens - len(prompt) for _, prompt, info in sides)
            shorter = f"Use {argument('max_new_tokens', room)} or less" if room > 0 else "Shorten the prompt"
            raise UsageError(" ".join(wrong), f"{shorter}, or serve the model with a longer context.")


def check_k(k: int, vocab_size: int) -> None:
    """Refuse a k that the pair cannot give: asking for more than the vocabulary ends an SGLang server."""
    if not 1 <= k <= vocab_size:
        raise UsageError(f"k = {k} is outside 1..{vocab_size} (the vocabulary).", f"Choose {argument('k')} in that range.")


async def check_raw_logprobs(engine: Engine) -> None:
    """Refuse an engine whose log-probabilities are scaled by the temperature; found by trying, because servers do not say.

    Raises:
        EndpointError: names it.
    """
    probe = GenerateRequest(input_ids=(0,), max_new_tokens=1, k=min(2, engine.info.vocab_size))
    greedy, hot = await engine.generate([probe, replace(probe, sampling=Sampling(temperature=2.0))])
    if abs(float(greedy.output.logprobs[0, 0]) - float(hot.output.logprobs[0, 0])) >= 1e-2:
        raise EndpointError(
            f"{engine.info.name} returns log-probabilities after temperature scaling; scores would be wrong.",
            "Restart it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment (`rrti serve` sets it), or use "
            "temperature 0.",
        )


@contextlib.asynccontextmanager
async def connect(
    base_url: str,
    reasoning_url: str,
    *,
    tokenizer: str | None = None,
    reasoning_tokenizer: str | None = None,
    api_key: str | None = None,
    limits: TransportLimits | None = None,
    special_tokens: SpecialTokens = "mapped",
) -> AsyncIterator[Pair]:
    """Connect to both servers and check that they make a pair.

    Args:
        base_url: address of the base model's server.
        reasoning_url: address of the reasoning model's server; the same one is a server that holds both, or several such
            servers, whose addresses commas join; with /v1 at its end it is an endpoint's (`rrti api`).
        tokenizer: folder or hub id to take both tokenizers from, for servers whose model path is not readable here.
        reasoning_tokenizer: the reasoning model's, where that is another one.
        api_key: bearer token for both servers.
        limits: time limits and retries.
        special_tokens: "mapped" lets special tokens of the same meaning meet (`rrti_sgl.tokens.special_tokens`);
            "as-is" compares id by id.

    Raises:
        EndpointError: a server is unreachable or no SGLang server.
        PairMismatchError: the models do not share a vocabulary.
    """
    async with _engines(base_url, reasoning_url, api_key=api_key, limits=limits) as (base, reasoning):
        vocabulary = load_vocabulary(tokenizer or base.info.tokenizer)
        reasoning_vocabulary = load_vocabulary(reasoning_tokenizer or tokenizer or reasoning.info.tokenizer)
        if special_tokens == "mapped":
            reasoning_vocabulary = matching(vocabulary, reasoning_vocabulary)
        for line in check_same_vocabulary(vocabulary, reasoning_vocabulary):
            logger.warning("special token differs: %s", line)
        if isinstance(base, EndpointSide):
            base.check(vocabulary, special_tokens)
        for engine in (base, reasoning):
            engine.info = replace(engine.info, vocab_size=vocabulary.size)
        to_pair = reasoning_vocabulary.renumbered
        if to_pair and isinstance(reasoning, FusedSide):
            raise PairMismatchError(
                f"Special tokens of the two models have other ids ({dict(to_pair.to_pair)}), which one server for both "
                "cannot renumber.",
                "Serve the models as two servers (`rrti serve`), or compare them id by id: "
                f"{argument('special_tokens', 'as-is')}.",
            )
        # An endpoint renumbers what it asks of its servers itself.
        asked = bool(to_pair) and not isinstance(reasoning, EndpointSide)
        speaking = RenumberedEngine(reasoning, to_pair) if asked else reasoning
        yield Pair(base, speaking, vocabulary, reasoning_vocabulary, special_tokens)


@contextlib.asynccontextmanager
async def _engines(
    base_url: str, reasoning_url: str, *, api_key: str | None, limits: TransportLimits | None
) -> AsyncIterator[tuple[SGLangEngine, SGLangEngine] | tuple[FusedSide, FusedSide] | tuple[EndpointSide, EndpointSide]]:
    async with contextlib.AsyncExitStack() as stack:
        if is_endpoint(base_url, reasoning_url):
            yield await stack.enter_async_context(connect_endpoint(base_url, api_key=api_key, limits=limits))
            return
        if base_url.rstrip("/") == reasoning_url.rstrip("/"):
            try:
                both = await stack.enter_async_context(connect_fused(base_url, api_key=api_key, limits=limits))
            except OneModelError:
                if "," in base_url:
                    raise  # else a model alone is run as a pair with itself
            else:
                yield both
                return
        base = await stack.enter_async_context(connect_engine(base_url, api_key=api_key, limits=limits))
        reasoning = await stack.enter_async_context(connect_engine(reasoning_url, api_key=api_key, limits=limits))
        yield base, reasoning
