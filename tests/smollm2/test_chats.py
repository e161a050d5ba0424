"""Chats through the endpoint on real text: turns by each model's template, and an answer that goes back as a turn."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from rrti_sgl.serving.server import ServedPair
from tests.api.running import served

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1200)]
SETTINGS: dict[str, Any] = {"tau": 2.5, "k": 20, "draft_tokens": 3}
PROMPTS = {"base_prompt": "Question: {question}\nAnswer:", "reasoning_prompt": "chat"}
ASKED: dict[str, Any] = {"model": "guided", "temperature": 0, "max_tokens": 60}


def test_the_openai_package_talks_with_it(smollm2: ServedPair) -> None:
    turns: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
    with served((smollm2.base.url, smollm2.reasoning.url), **SETTINGS, **PROMPTS) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        first = client.chat.completions.create(messages=turns, **ASKED)
        answer = first.choices[0].message
        assert "Paris" in str(answer.content)
        assert "<|" not in str(answer.content)
        assert first.choices[0].finish_reason == "stop"

        turns += [
            answer,
            {"role": "user", "content": "Describe that city in one line that begins with an emoji such as 🗼."},
        ]
        second = client.chat.completions.create(messages=turns, logprobs=True, top_logprobs=3, **ASKED)
        stream = client.chat.completions.create(messages=turns, stream=True, stream_options={"include_usage": True}, **ASKED)
        *chunks, last = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert len(pieces) > 5
    assert "".join(pieces) == second.choices[0].message.content
    assert not any("\ufffd" in piece for piece in pieces[:-2]), "a character that is several tokens is shown whole"
    assert first.usage is not None
    assert second.usage is not None
    assert last.usage == second.usage
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + first.usage.completion_tokens - 5
    assert second.choices[0].logprobs is not None
    assert len(second.choices[0].logprobs.content or []) == second.usage.completion_tokens
    assert first._request_id
