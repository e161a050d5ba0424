"""Chats by real chat templates: what each model is shown of them, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from rrti_sgl.engines.pair import Pair
from rrti_sgl.programs.api.fields import Turn
from rrti_sgl.programs.api.prompts import Prompts
from rrti_sgl.programs.running.settings import settings_from
from tests.api.toy import client, opened
from tests.prompts import tokenizers
from tests.toy_pair import toy_pair, toy_vocabulary

CHATS = "/v1/chat/completions"
QUESTION = {"role": "user", "content": "w1 w2"}
SYSTEM, ASKED = ("system", "Be brief."), ("user", "What is 2 + 2?")
ANSWERED, AGAIN = ("assistant", "<think>\nEasy.\n</think>\n\nFour."), ("user", "And 3 + 3?")


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Qwen3's own tokenizers and chat template; nothing is asked of the models."""
    base, reasoning = tokenizers.real_qwen3(tmp_path_factory.getbasetemp() / "qwen3")
    return replace(toy_pair(), vocabulary=base, reasoning_vocabulary=reasoning)


def shown(pair: Pair, *turns: tuple[str, str], thinking: bool | None = None, **settings: Any) -> tuple[str, str]:
    """What the base and the reasoning model read; the ids are those of just these texts."""
    found = Prompts(pair, settings_from("base", **settings)).chat(
        [Turn(role=role, content=text) for role, text in turns], thinking
    )
    for text, ids in (found.base, found.reasoning):
        assert pair.vocabulary.tokenizer.decode(ids) == text
    return found.base[0], found.reasoning[0]


@pytest.mark.parametrize(
    ("turns", "reasoning"),
    [
        ([ASKED], "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"),
        (
            [SYSTEM, ASKED],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            [ASKED, ANSWERED, AGAIN],  # the template leaves earlier thoughts out
            "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n"
            "<|im_start|>user\nAnd 3 + 3?<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
    ids=["one turn", "system", "several turns"],
)
def test_qwen3_is_shown_its_own_template_and_the_base_model_the_declared_one(
    qwen3: Pair, turns: list[tuple[str, str]], reasoning: str
) -> None:
    question = "\n\n".join(text for _, text in turns)
    assert shown(qwen3, *turns) == (f"Question: {question}\nAnswer:", reasoning)
    assert shown(qwen3, *turns, base_prompt="Q {question} A")[0] == f"Q {question} A"
    own = qwen3.reasoning_vocabulary.tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in turns], tokenize=False, add_generation_prompt=True
    )
    assert own == reasoning


def test_developer_is_what_templates_call_system(qwen3: Pair) -> None:
    assert shown(qwen3, ("developer", "Be brief."), ASKED) == shown(qwen3, SYSTEM, ASKED)


def test_thinking_is_switched_by_the_endpoint_and_by_the_request(qwen3: Pair) -> None:
    closed = "<think>\n\n</think>\n\n"
    thinking = shown(qwen3, ASKED)[1]
    assert thinking.endswith("<|im_start|>assistant\n")
    assert shown(qwen3, ASKED, thinking=False)[1] == thinking + closed
    settings = settings_from("base", thinking=False)
    [by_default, asked] = (
        Prompts(qwen3, settings).chat([Turn(role="user", content=ASKED[1])], each).reasoning[0] for each in (None, True)
    )
    assert (by_default, asked) == (thinking + closed, thinking)


def test_qwen3_ends_at_the_ends_of_both_models(qwen3: Pair) -> None:
    ids = qwen3.vocabulary.token_ids
    assert qwen3.stop_token_ids == {ids["<|im_end|>"], ids["<|endoftext|>"]}


def answers(template: str, *bodies: Any) -> list[httpx.Response]:
    """Of an endpoint whose reasoning model has this chat template."""

    async def go() -> list[httpx.Response]:
        vocabulary = toy_vocabulary()
        async with opened(settings={"reasoning_prompt": "chat"}) as endpoint, client(endpoint) as http:
            vocabulary.tokenizer.chat_template = template
            try:
                return [await http.post(CHATS, json={"model": "guided", "messages": [QUESTION]} | body) for body in bodies]
            finally:
                vocabulary.tokenizer.chat_template = None

    return asyncio.run(go())


RAISES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns here') }}{% endif %}"
    "{{ m.content }} {% endfor %}{% if add_generation_prompt %}w6{% endif %}"
)


def test_a_template_that_raises_gives_an_error_body() -> None:
    system = [{"role": "system", "content": "w3"}, QUESTION]
    taken, streamed, refused = answers(RAISES, {}, {"stream": True, "messages": system}, {"messages": system})
    assert taken.status_code == 200
    for answer in (streamed, refused):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["type"]) == ("messages", "invalid_request_error")
        assert "no system turns here" in error["message"]


@pytest.mark.parametrize(
    ("template", "body", "said"),
    [
        ("{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}", {}, "has no generation prompt"),
        ("{{ messages[7].content }}{% if add_generation_prompt %}w6{% endif %}", {}, "chat template fails"),
        (
            RAISES,
            {"chat_template_kwargs": {"enable_thinking": False}},
            "thinking: chat_template_kwargs.enable_thinking False",
        ),
        (RAISES, {"chat_template_kwargs": {"enable_thinking": False}}, "--reasoning-prompt of `rrti api`"),
    ],
)
def test_a_template_that_cannot_be_used_is_told(template: str, body: Any, said: str) -> None:
    for answer in answers(template, body, body):
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"chat_template": "{{ messages }}"}, "chat_template"),
        ({"chat_template_kwargs": {"custom": 1}}, "chat_template_kwargs.custom"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"messages": [{"role": "tool", "content": "3", "tool_call_id": "1"}]}, "messages.0.tool_call_id"),
        ({"messages": [QUESTION, {"role": "assistant", "content": "w3"}]}, "messages"),
    ],
)
def test_what_a_chat_cannot_ask_for_is_refused_by_name(body: Any, param: str) -> None:
    taken, refused = answers(RAISES, {"add_generation_prompt": True, "tools": []}, body)
    assert taken.status_code == 200, taken.text
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
