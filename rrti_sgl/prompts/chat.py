"""The tokenizer's own chat template: rendering, and what is checked before the first prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rrti_sgl.errors import UsageError, argument

_QUESTION, _ANSWER = "What is 2 + 2?", "It is four."


def render_chat(tokenizer: Any, question: str, *, thinking: bool, system: str | None = None) -> str:
    """One user turn with the generation prompt, as text.

    Raises:
        UsageError: the tokenizer has no chat template.
    """
    return render_turns(tokenizer, [(turn["role"], turn["content"]) for turn in _turns(question, system)], thinking=thinking)


def render_turns(tokenizer: Any, turns: Sequence[tuple[str, str]], *, thinking: bool) -> str:
    """A conversation, (role, content), with the generation prompt, as text.

    Raises:
        UsageError: the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "The prompt is a chat, but the tokenizer has no chat template.",
            f'Give a template as text: {argument("reasoning_prompt")}, for example "Question: {{question}}\\nAnswer:".',
        )
    named = [{"role": role, "content": content} for role, content in turns]
    return _apply(tokenizer, named, thinking=thinking, generation_prompt=True)


def check_chat_template(tokenizer: Any, *, thinking: bool, system: str | None = None) -> None:
    """Refuse a chat template that does not open the assistant's turn, has no switch for thinking, or fails.

    A template may ignore `add_generation_prompt` where its user turn ends with what opens the answer (`[/INST]`). So the
    test is whether an assistant's answer would follow the prompt at once.

    Raises:
        UsageError: says which.
    """
    try:
        prompt = render_chat(tokenizer, _QUESTION, thinking=thinking, system=system)
        turns = _turns(_QUESTION, system)
        bare = _apply(tokenizer, turns, thinking=thinking, generation_prompt=False)
        answered = [*turns, {"role": "assistant", "content": _ANSWER}]
        whole = _apply(tokenizer, answered, thinking=thinking, generation_prompt=False)
        other = _apply(tokenizer, turns, thinking=not thinking, generation_prompt=True)
    except UsageError:
        raise
    except Exception as error:  # a template is a program of its own; whatever it raises, it cannot be used
        raise UsageError(
            f"The tokenizer's chat template fails ({type(error).__name__}: {error}).",
            f"Leave out the system turn, or give the prompt as text: {argument('reasoning_prompt')}.",
        ) from error
    if prompt == bare and not whole[len(prompt) :].lstrip().startswith(_ANSWER):
        raise UsageError(
            "The tokenizer's chat template has no generation prompt: it does not open the assistant's turn.",
            f"Give the prompt as text: {argument('reasoning_prompt')}. Or correct the chat template.",
        )
    if not thinking and prompt == other:
        raise UsageError(
            f"The tokenizer's chat template has no switch for thinking: {argument('thinking', False)} would change nothing.",
            f"Leave it out, or give the prompt as text with an empty thought: {argument('reasoning_prompt')}.",
        )


def _turns(question: str, system: str | None) -> list[dict[str, str]]:
    user = {"role": "user", "content": question}
    return [user] if system is None else [{"role": "system", "content": system}, user]


def _apply(tokenizer: Any, turns: list[dict[str, str]], *, thinking: bool, generation_prompt: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=generation_prompt, enable_thinking=thinking
        )
    )
