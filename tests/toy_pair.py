"""Two tiny language models in numpy as engines: the sampler and every distribution are known exactly.

They answer like SGLang does (scored positions, drafts up to an end token, top-k lists), so decoding loops can be checked
in milliseconds and in distribution; the real servers are used in the tests marked `server`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from rrti_sgl.decoding.drawing import draw
from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.science.exact_numbers import Exact
from rrti_sgl.science.gates import counter_uniform
from rrti_sgl.tokens.vocabulary import Vocabulary

VOCAB_SIZE = 7
STOP = 0


@dataclass
class ToyEngine:
    """A model whose next-token logits are a seeded random table over the last two tokens.

    With `by_seed` it draws by a request's seed and the position, as SGLang does with deterministic inference.
    """

    seed: int
    sharpness: float = 2.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    requests: list[GenerateRequest] = field(default_factory=list)
    by_seed: bool = False

    def __post_init__(self) -> None:
        table = np.random.default_rng(self.seed).normal(size=(VOCAB_SIZE, VOCAB_SIZE, VOCAB_SIZE)) * self.sharpness
        table[:, :, STOP] -= 1.0
        self.info = EngineInfo("toy", "toy", "toy", "0", VOCAB_SIZE, max_input_tokens=10_000, max_running_requests=64)
        self.logits = table.astype(np.float32)
        self._known: dict[tuple[int, int, int], Distributions] = {}

    def distribution(self, prefix: Sequence[int], k: int) -> Distributions:
        before, last = [0, 0, *prefix[-2:]][-2:]
        if (before, last, k) not in self._known:
            self._known[before, last, k] = Distributions.from_logits(self.logits[before, last][None], k)
        return self._known[before, last, k]

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        self.requests.extend(requests)
        return [self._one(request) for request in requests]

    async def flush(self) -> None:
        """There is no cache."""

    async def close(self) -> None:
        """There is nothing to close."""

    def _one(self, request: GenerateRequest) -> Generation:
        ids, output, rows, logprobs, by_id = list(request.input_ids), [], [], [], []
        stopped = False
        for _ in range(request.max_new_tokens):
            full = self.distribution([*ids, *output], VOCAB_SIZE)
            uniform = float(self.rng.random())
            if self.by_seed and request.seed is not None:
                uniform = float(counter_uniform(request.seed, np.asarray([len(ids) + len(output)]))[0])
            token = draw(full, request.sampling, uniform)
            assert token is not None
            rows.append(self.distribution([*ids, *output], request.k))
            logprobs.append(float(full.logprob_of(np.asarray([token]))[0]))
            by_id.append([float(full.logprob_of(np.asarray([i]))[0]) for i in request.logprob_ids])
            output.append(token)
            if token in request.stop_token_ids:
                stopped = True
                break
        scored, scored_logprobs = [], []
        first_drawn = len(ids)
        if request.score_from is not None:
            for at in range(request.score_from, len(ids)):
                full = self.distribution(ids[:at], VOCAB_SIZE)
                scored.append(self.distribution(ids[:at], request.k))
                scored_logprobs.append(float(full.logprob_of(np.asarray([ids[at]]))[0]))
        empty = Distributions.empty(request.k, VOCAB_SIZE)
        drawn = Distributions.concatenate(rows) if rows else empty
        inputs = Distributions.concatenate(scored) if scored else empty
        if request.exact and rows:
            drawn = replace(drawn, exact=self._exact(request, [*ids, *output], range(first_drawn, first_drawn + len(rows))))
        elif request.exact:
            assert request.score_from is not None
            inputs = replace(inputs, exact=self._exact(request, ids, range(request.score_from, len(ids))))
        return Generation(
            output_ids=np.asarray(output, dtype=np.int32),
            output_logprobs=np.asarray(logprobs),
            output=drawn,
            input_logprobs=np.asarray(scored_logprobs),
            input=inputs,
            id_logprobs=np.asarray(by_id).reshape(len(by_id), len(request.logprob_ids)),
            stopped=stopped,
            prompt_tokens=len(ids),
            cached_tokens=0,
        )

    def _exact(self, request: GenerateRequest, ids: Sequence[int], tokens: range) -> Exact:
        full = Distributions.concatenate([self.distribution(ids[:at], VOCAB_SIZE) for at in tokens])
        asked = np.empty((0, 0), np.int32) if request.named_ids is None else request.named_ids
        named = np.full((len(tokens), asked.shape[1]), -1, dtype=np.int32)
        named[: len(asked)] = asked
        return Exact(entropy(full).value, np.zeros(len(tokens)), named, full.aligned_logprobs(named)[0])


@cache
def toy_vocabulary() -> Vocabulary:
    """Seven words; word 0 ends a solution."""
    words = {"<end>": STOP} | {f"w{number}": number for number in range(1, VOCAB_SIZE)}
    model = Tokenizer(WordLevel(words, unk_token="w1"))
    model.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<end>")
    return Vocabulary(tokenizer, words, frozenset({STOP}), VOCAB_SIZE, frozenset({STOP}), STOP)


def toy_pair(seed: int = 1) -> Pair:
    """A pair of toy engines."""
    vocabulary = toy_vocabulary()
    return Pair(ToyEngine(seed), ToyEngine(seed + 1000), vocabulary, vocabulary)
