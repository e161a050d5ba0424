"""A prompt template and how it becomes a prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.prompts.chat import check_chat_template, render_chat
from rrti_sgl.tokens.vocabulary import Vocabulary

CHAT = "chat"
FIELD = "{question}"
SOLUTION = "{solution}"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """How a question becomes a prompt.

    Args:
        text: text with the field `{question}` in it; the user's turn, where `chat` is on. The word "chat" alone stands for
            the question as it is in the tokenizer's chat template.
        thinking: value of `enable_thinking` for chat templates that know it.
        chat: whether the tokenizer's chat template wraps the text.
        system: the system turn of a chat; None takes the chat template's own.
        example: how a worked example is written before the question, with `{question}` and `{solution}`.
        examples: worked examples, (question, solution); as many as few-shot prompts are to have.
        stops: what begins the next problem where a base model runs on; a solution is graded up to there.
        name: `name@version` of a shipped template or of a template file; "" for the user's text.
    """

    text: str
    thinking: bool = True
    chat: bool = False
    system: str | None = None
    example: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    stops: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if self.text == CHAT:
            object.__setattr__(self, "text", FIELD)
            object.__setattr__(self, "chat", True)
        if FIELD not in self.text:
            raise UsageError(
                f"The prompt template {self.text!r} has no field {FIELD}.", f'Put {FIELD} into it, or write "{CHAT}".'
            )
        if self.examples and not (FIELD in self.example and SOLUTION in self.example):
            raise UsageError(
                f"The prompt template {self.name or self.text!r} does not say how a worked example is written.",
                f"Give it an `example` with {FIELD} and {SOLUTION}.",
            )

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PromptTemplate:
        """A template as `dataclasses.asdict` and JSON leave it."""
        values = dict(stored)
        values["examples"] = tuple((question, solution) for question, solution in values.get("examples", ()))
        values["stops"] = tuple(values.get("stops", ()))
        return cls(**values)

    def few_shot(self, n: int) -> PromptTemplate:
        """The template with its first n worked examples.

        Raises:
            UsageError: it has fewer.
        """
        if not 0 <= n <= len(self.examples):
            raise UsageError(
                f"{argument('few_shot', n)}: the template {self.name or self.text!r} has {len(self.examples)} worked "
                "examples.",
                "Use at most so many, or a template file with more.",
            )
        return replace(self, examples=self.examples[:n])

    def check(self, vocabulary: Vocabulary) -> None:
        """Refuse a chat template that this cannot be rendered with.

        Raises:
            UsageError: there is none, it has no generation prompt, no switch for thinking, or it fails.
        """
        if self.chat:
            check_chat_template(vocabulary.tokenizer, thinking=self.thinking, system=self.system)

    def render(self, question: str, vocabulary: Vocabulary) -> tuple[str, list[int]]:
        """Return the prompt as text and as token ids, with the token that opens every text of this tokenizer, if any.

        Raises:
            UsageError: a chat template is asked for and the tokenizer has none.
        """
        text = self.text.replace(FIELD, question)
        if self.chat:
            text = render_chat(vocabulary.tokenizer, text, thinking=self.thinking, system=self.system)
            return text, vocabulary.encode(text)  # a chat template writes the opening token itself
        before = "".join(_fill(self.example, {FIELD: asked, SOLUTION: solution}) for asked, solution in self.examples)
        text = before + text
        opening = vocabulary.opening_ids
        return "".join(map(vocabulary.token_text, opening)) + text, [*opening, *vocabulary.encode(text)]


def _fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its fields filled in; what is filled in is not read again."""
    return re.sub("|".join(map(re.escape, values)), lambda match: values[match.group()], text)
