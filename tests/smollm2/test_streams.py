"""SGLang's frontend on real text: streams and stop strings where a character is several tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.science.gates import DivergenceGate, ThresholdRule
from rrti_sgl.serving.server import ServedPair

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1200)]
REPLACEMENT = "\ufffd"
WAVES = "Question: Write three lines about the sea, each beginning with an emoji such as 🌊.\nAnswer:"
LANGUAGES = "Question: How do you say 'thank you' in Japanese (ありがとう) and in Chinese (谢谢)?\nAnswer:"


@sgl.function
def answer(s: Any, prompt: str, length: int, stop: Any = None) -> None:
    s += prompt
    s += sgl.gen("answer", max_tokens=length, temperature=0, stop=stop)


@sgl.function
def chat(s: Any, question: str) -> None:
    s += sgl.user(question)
    s += sgl.assistant(sgl.gen("answer", max_tokens=40, temperature=0))


@pytest.fixture(scope="module")
def backend(smollm2: ServedPair) -> Iterator[InterventionBackend]:
    """Short drafts, so that a stream moves on in the midst of characters."""
    gate = DivergenceGate("ce", ThresholdRule(tau=2.5))
    urls = (smollm2.base.url, smollm2.reasoning.url)
    with InterventionBackend(*urls, gate, draft_tokens=3, chat_template="chatml") as opened:
        yield opened


@pytest.mark.parametrize("prompt", [WAVES, LANGUAGES], ids=["emoji", "Japanese and Chinese"])
def test_a_stream_joins_to_the_text_and_shows_no_broken_character(backend: InterventionBackend, prompt: str) -> None:
    whole = answer.run(prompt, 40, backend=backend)
    state = answer.run(prompt, 40, backend=backend, stream=True)
    pieces = list(state.text_iter("answer"))
    assert len(pieces) > 5
    assert "".join(pieces) == whole["answer"] == state["answer"]
    assert any(ord(character) > 0x2000 for character in whole["answer"])
    # The limit may cut the last character; it is shown as broken when nothing more can come.
    assert REPLACEMENT not in "".join(pieces).removesuffix(REPLACEMENT)


def test_a_stop_string_of_a_split_character_ends_the_text(backend: InterventionBackend) -> None:
    whole = answer.run(WAVES, 40, backend=backend)["answer"]
    state = answer.run(WAVES, 40, stop="🌊", backend=backend)
    assert state["answer"] == whole[: whole.index("🌊")]
    assert state.get_meta_info("answer")["finish_reason"] == {"type": "stop", "matched": "🌊"}


def test_a_chat_ends_with_its_turn(backend: InterventionBackend) -> None:
    state = chat.run("What is the capital of France?", backend=backend)
    assert "Paris" in state["answer"]
    assert "<|" not in state["answer"]
    assert state.get_meta_info("answer")["finish_reason"]["type"] == "stop"
