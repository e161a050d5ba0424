"""The token ids of a program's text so far, so that a growing text keeps the ids that it began with.

SGLang's own backend sends text, and the server tokenises all of it at each call. Here a program's state remembers the ids
of what was generated, and only the text appended since then is tokenised, on its own. Radix caches therefore see one
growing sequence, and a model goes on from the very tokens that were drawn. At a boundary this has one consequence: a piece
never merges with the generated text before it. Generated "foo" followed by "bar" is not a token "foobar", even where the
tokenizer would make one of the joined text. A fork is such a boundary too. Pieces of text that follow each other without a
generation or a fork between them are tokenised together, as the server would.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from rrti_sgl.errors import UsageError
from rrti_sgl.tokens.vocabulary import Vocabulary

_CONTEXT_CHARACTERS = 32  # tokenizers may treat the beginning of a text specially; a piece is no beginning


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text and its token ids, without the tokens that open every sequence (`<bos>`)."""

    text: str
    ids: tuple[int, ...]


class Prefixes:
    """What is known of the token ids of each program state's text. Safe for use from many threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: WeakKeyDictionary[Any, Prompt] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def known(self, executor: Any) -> Prompt:
        """The beginning of a state's text whose ids are fixed: up to its last generation, or what it was forked from."""
        with self._lock:
            own = self._known.get(executor)
        if own is not None and executor.text_.startswith(own.text):
            return own
        return self.forked(executor) or Prompt("", ())

    def forked(self, executor: Any) -> Prompt | None:
        """The text that a state has in common with the others of its fork; None where it was not forked."""
        text = executor.text_[: executor.fork_start_text_pos or 0]
        if not text:
            return None
        with self._lock:
            inherited = [prompt for prompt in self._known.values() if text.startswith(prompt.text)]
        return self._grown(max(inherited, key=lambda prompt: len(prompt.text), default=Prompt("", ())), text)

    def prompt(self, executor: Any) -> Prompt:
        """A state's text with its ids.

        Raises:
            UsageError: images or videos are shown with it, which `/generate` would need beside the ids.
        """
        if executor.images_:
            raise UsageError("image() and video() are not supported under intervention.", "Use text alone.")
        return self._grown(self.known(executor), executor.text_)

    def _grown(self, known: Prompt, text: str) -> Prompt:
        """A text that begins with a known one, with its ids."""
        return Prompt(text, (*known.ids, *self.encode_after(known, text[len(known.text) :])))

    def remember(self, executor: Any, prompt: Prompt) -> None:
        """Note the ids of a state's text, or of what it is about to become."""
        with self._lock:
            self._known[executor] = prompt

    def encode_after(self, known: Prompt, text: str) -> list[int]:
        """Ids of a text that follows a known one, without merging the two."""
        if not text:
            return []
        context = known.text[-_CONTEXT_CHARACTERS:]
        before = self._vocabulary.encode(context)
        both = self._vocabulary.encode(context + text)
        return both[len(before) :] if both[: len(before)] == before else self._vocabulary.encode(text)
