"""What each model is shown: a template for the base model, another for the reasoning model.

The continuation is shared token for token; the prompts are not. A base model usually sees plain text, a reasoning model its
own chat template with thinking on. The paper does not publish its prompts, so these are ours; the rendered prompt of both
models is stored with every sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.vocabulary import Vocabulary

CHAT = "chat"
FIELD = "{question}"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """How a question becomes a prompt.

    Args:
        text: text with the field `{question}` in it, or "chat" for the tokenizer's chat template.
        thinking: value of `enable_thinking` for chat templates that know it.
    """

    text: str
    thinking: bool = True

    def __post_init__(self) -> None:
        if self.text != CHAT and FIELD not in self.text:
            raise UsageError(
                f"The prompt template {self.text!r} has no field {FIELD}.", f'Put {FIELD} into it, or write "{CHAT}".'
            )

    def render(self, question: str, vocabulary: Vocabulary) -> tuple[str, list[int]]:
        """Return the prompt as text and as token ids.

        Raises:
            UsageError: a chat template is asked for and the tokenizer has none.
        """
        if self.text != CHAT:
            text = self.text.replace(FIELD, question)
            return text, vocabulary.encode(text)
        if not getattr(vocabulary.tokenizer, "chat_template", None):
            raise UsageError(
                "The reasoning prompt is 'chat', but the tokenizer has no chat template.",
                'Give a template as text, e.g. --reasoning-prompt "Question: {question}\\nAnswer:".',
            )
        text = str(
            vocabulary.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=self.thinking,
            )
        )
        return text, vocabulary.encode(text)

    def to_dict(self) -> dict[str, Any]:
        """The template as it is stored with a run."""
        return asdict(self)
