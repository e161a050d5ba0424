"""Special tokens of a pair: which meet, what that does to ids on the wire, and the real tokenizer of Qwen3."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.pair import connect
from rrti_sgl.engines.renumbered import RenumberedEngine
from rrti_sgl.engines.sglang import SGLangEngine
from rrti_sgl.engines.transport import Transport
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import PairMismatchError
from rrti_sgl.problems import load_problems
from rrti_sgl.prompts import TEMPLATES, PromptTemplate
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.exact_numbers import Exact
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tokens.special_tokens import Renumbering, renumbering
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, matching
from tests.prompts import tokenizers


def test_qwen_the_ends_meet_and_nothing_else_moves() -> None:
    base, reasoning = tokenizers.qwen_base(), tokenizers.qwen_reasoning()
    matched = matching(base, reasoning)
    endoftext, im_end = base.token_ids["<|endoftext|>"], base.token_ids["<|im_end|>"]
    assert matched.renumbered == Renumbering({im_end: endoftext, endoftext: im_end})
    assert matched.end_token_id == base.end_token_id == endoftext
    assert matched.stop_token_ids == {endoftext, im_end}
    assert check_same_vocabulary(base, matched) == []


def test_llama_with_r1_shares_its_ids_and_nothing_moves() -> None:
    base, reasoning = tokenizers.llama_base(), tokenizers.r1_llama()
    matched = matching(base, reasoning)
    assert matched is reasoning
    lines = check_same_vocabulary(base, matched)
    assert len(lines) == 4  # turns and think tags, reserved in the base; begin and end mean the same under other names
    assert not any("sentence" in line for line in lines)


def test_think_tags_with_other_ids_meet() -> None:
    special = ["<|endoftext|>", "<pad>", "<think>", "</think>"]
    base = tokenizers.synthetic(special, end="<|endoftext|>")
    reasoning = tokenizers.synthetic([special[0], "</think>", "<think>", special[1]], end="<|endoftext|>")
    matched = matching(base, reasoning)
    assert dict(matched.token_ids) == dict(base.token_ids)
    assert matched.encode("a<think>b</think>") == base.encode("a<think>b</think>")
    assert reasoning.encode("a<think>") != base.encode("a<think>") or reasoning.encode("</think>") != base.encode("</think>")


def test_text_survives_renumbering() -> None:
    base, reasoning = tokenizers.qwen_base(), tokenizers.qwen_reasoning()
    matched = matching(base, reasoning)
    text = "<|im_start|>user\nné<|im_end|>\n<think>"
    ids = matched.encode(text)
    assert ids != reasoning.encode(text)
    assert "".join(matched.pieces(ids)) == text
    assert matched.token_text(ids[0]) == "<|im_start|>"
    assert matched.decode([*matched.encode("ab"), matched.end_token_id or 0]) == "ab"


def test_ordinary_tokens_are_never_renumbered() -> None:
    base, reasoning = tokenizers.qwen_base(), tokenizers.qwen_reasoning()
    ordinary = replace(reasoning, special_ids=reasoning.special_ids - {reasoning.token_ids["<|im_end|>"]})
    assert matching(base, ordinary) is ordinary


def test_different_ordinary_tokens_are_refused_all_the_same() -> None:
    base, reasoning = tokenizers.qwen_base(), tokenizers.qwen_reasoning()
    tokens = dict(reasoning.token_ids)
    tokens["a"], tokens["b"] = tokens["b"], tokens["a"]
    with pytest.raises(PairMismatchError, match="2 of 261 ids differ"):
        check_same_vocabulary(base, matching(base, replace(reasoning, token_ids=tokens)))


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 9), max_size=6).filter(lambda d: len(set(d.values())) == len(d)))
def test_renumbering_is_a_permutation_that_makes_the_events_meet(events: dict[int, int]) -> None:
    permutation = renumbering(events)
    everything = list(range(10))
    assert sorted(permutation.ids(everything)) == everything
    for own, pair in events.items():
        assert permutation.ids([own]) == [pair]
    assert permutation.inverse.ids(permutation.ids(everything)) == everything
    assert permutation.array(np.arange(10, dtype=np.int32)).tolist() == permutation.ids(everything)


def test_no_permutation() -> None:
    with pytest.raises(ValueError, match="no permutation"):
        Renumbering({1: 2})


LOGPROBS = np.log(np.asarray([[0.5, 0.25]], dtype=np.float32))


class Answering:
    """A model that draws token 5 whatever it is asked."""

    info = EngineInfo("none", "m", "m", "0", 9, 99, 1)

    def __init__(self) -> None:
        self.requests: list[GenerateRequest] = []

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        self.requests.extend(requests)
        [named] = [request.named_ids for request in requests]
        assert named is not None
        exact = Exact(np.asarray([0.1]), np.asarray([0.2]), named, np.asarray([[-1.0, -2.0]]))
        rows = Distributions(np.asarray([[5, 3]], dtype=np.int32), LOGPROBS, 9, exact)
        none = np.empty(0)
        drawn = np.asarray([5], dtype=np.int32), np.asarray([-0.7]), rows
        return [Generation(*drawn, none, Distributions.empty(2, 9), none, True, 3, 0)]

    async def flush(self) -> None:
        """There is no cache."""

    async def close(self) -> None:
        """There is nothing to close."""


def test_requests_and_answers_are_renumbered_whole() -> None:
    swap = Renumbering({1: 5, 5: 1})
    named = np.asarray([[1, 2]], dtype=np.int32)
    request = GenerateRequest((0, 1, 5), 4, 2, stop_token_ids=(1,), logprob_ids=(5,), exact=True, named_ids=named)
    own = Answering()
    engine = RenumberedEngine(own, swap)
    [read] = asyncio.run(engine.generate([request]))
    [sent] = own.requests
    assert list(sent.input_ids) == [0, 5, 1]
    assert (sent.stop_token_ids, sent.logprob_ids) == ((5,), (1,))
    assert sent.named_ids is not None
    assert sent.named_ids.tolist() == [[5, 2]]
    assert read.output_ids.tolist() == [1]
    assert read.output.ids.tolist() == [[1, 3]]
    assert read.output.exact is not None
    assert read.output.exact.named_ids.tolist() == [[1, 2]]
    assert read.output.logprobs is LOGPROBS


def test_an_endpoint_speaks_the_servers_ids_and_answers_in_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []

    async def post(self: Transport, path: str, body: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
        sent.append(body)
        logprobs = {"output_token_logprobs": [[-0.1, 5, None]], "output_top_logprobs": [[[-0.1, 5, None], [-3.0, 1, None]]]}
        return [{"output_ids": [5], "meta_info": {"prompt_tokens": 3, "finish_reason": {"type": "stop"}, **logprobs}}]

    async def generate() -> list[Generation]:
        own = SGLangEngine(Transport("http://nowhere"), EngineInfo("none", "m", "m", "0", 9, 99, 1))
        engine = RenumberedEngine(own, Renumbering({5: 1, 1: 5}))
        try:
            return await engine.generate([GenerateRequest((0, 1, 2), 1, 2, stop_token_ids=(1,))])
        finally:
            await engine.close()

    monkeypatch.setattr(Transport, "post", post)
    [answer] = asyncio.run(generate())
    assert sent[0]["input_ids"] == [[0, 5, 2]]
    assert sent[0]["sampling_params"][0]["stop_token_ids"] == [5]
    assert answer.output_ids.tolist() == [1]
    assert answer.output.ids.tolist() == [[1, 5]]


@pytest.mark.server
def test_a_renumbered_server_generates_the_same_text(served_pair: ServedPair) -> None:
    """The reasoning model under other ids for two of its tokens: every distribution and draw is the same under them."""

    async def generate(renumbered: Renumbering) -> Generation:
        async with connect(served_pair.base.url, served_pair.reasoning.url) as pair:
            engine = RenumberedEngine(pair.reasoning, renumbered)
            vocabulary = pair.reasoning_vocabulary.with_renumbering(renumbered)
            prompt = vocabulary.encode(load_problems("world:heldout", limit=1).problems[0].question)
            request = GenerateRequest(
                prompt, 60, pair.vocab_size, stop_token_ids=tuple(vocabulary.stop_token_ids), score_from=1
            )
            return (await engine.generate([request]))[0]

    plain = asyncio.run(generate(Renumbering()))
    drawn = sorted({int(i) for i in plain.output_ids})
    swap = Renumbering({drawn[0]: drawn[-1], drawn[-1]: drawn[0]})
    swapped = asyncio.run(generate(swap))
    assert plain.stopped
    assert swapped.output_ids.tolist() == swap.ids(plain.output_ids.tolist())
    assert swapped.output_ids.tolist() != plain.output_ids.tolist()
    for side in ("input", "output"):
        before, after = getattr(plain, side), getattr(swapped, side)
        assert np.array_equal(after.ids[:, 0], swap.array(before.ids)[:, 0])
        assert np.allclose(after.logprobs, before.logprobs, atol=1e-4)


# -- Qwen3's own files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, Vocabulary]:
    return tokenizers.real_qwen3(tmp_path_factory.getbasetemp() / "qwen3")


def test_qwen3_base_and_reasoning_models_match(qwen3: tuple[Vocabulary, Vocabulary]) -> None:
    base, reasoning = qwen3
    assert (base.end_token_id, reasoning.end_token_id, base.size) == (151643, 151645, 151936)
    matched = matching(base, reasoning)
    assert matched.renumbered == Renumbering({151645: 151643, 151643: 151645})
    assert check_same_vocabulary(base, matched) == []
    assert base.digest == reasoning.digest


def test_qwen3_prompts(qwen3: tuple[Vocabulary, Vocabulary]) -> None:
    base, reasoning = qwen3
    matched = matching(base, reasoning)
    assert base.opening_ids == ()
    text, ids = TEMPLATES["math@1"].few_shot(0).render("What is $2+2$?", base)
    assert text.startswith("Problem: What is $2+2$?\n")
    assert base.decode(ids) == text
    chat = TEMPLATES["chat-math@1"]
    chat.check(matched)
    text, ids = chat.render("What is $2+2$?", matched)
    assert text.startswith("<|im_start|>user\nWhat is $2+2$?\n\nPlease reason step by step")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    own = reasoning.tokenizer.apply_chat_template(
        [{"role": "user", "content": chat.text.replace("{question}", "What is $2+2$?")}],
        add_generation_prompt=True,
        enable_thinking=True,
        return_dict=False,
    )
    assert matched.renumbered.inverse.ids(ids) == own  # the server is sent the model's own ids
    off = PromptTemplate("chat", thinking=False)
    off.check(matched)
    assert off.render("hi", matched)[0].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_qwen3_pieces_of_split_characters(qwen3: tuple[Vocabulary, Vocabulary]) -> None:
    base, reasoning = qwen3
    matched = matching(base, reasoning)
    text = "<think>\nπ ≈ 3,14 🙂 ∑ 数学\n</think>\n\n\\boxed{\\frac{1}{2}}"
    ids = matched.encode(text)
    assert "".join(matched.pieces(ids)) == "".join(base.pieces(ids)) == text
    assert ids[0] == 151667
