"""The text of a growing sequence of tokens: what each further token adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"  # what a decoder shows for bytes that are no whole character yet

Decode = Callable[[Sequence[int]], str]


class Detokenizer:
    """Gives each token its piece of the text; joined, and with `finish` at the end, the pieces are the decoded sequence.

    A character that is split over several tokens belongs to the one that completes it; those before add "".

    `tokenizers.decoders.DecodeStream` would do for whole texts of that library's tokenizers. It cannot say what is left of
    an unfinished character at the end, shows the text of a context again that ends within a character, and takes no
    tokenizer of another library (mistral-common's, SentencePiece's). `tests/test_detokenizer.py` holds both to one another.

    Args:
        decode: the text of token ids.
        context: what the tokens continue; some tokens suffice, so that decoders which join words see a neighbour.
    """

    def __init__(self, decode: Decode, context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(context)  # the tokens that had text last, then those that have none yet
        self._settled = len(self._window)  # tokens of the window that have their text
        self._shown = decode(self._window) if self._window else ""

    def add(self, token_id: int) -> str:
        """The text that one more token adds."""
        self._window.append(token_id)
        text = self._decode(self._window)
        return "" if text.endswith(_REPLACEMENT) else self._settle(text)

    def finish(self) -> str:
        """No part of a character follows: the bytes of an unfinished one, as the tokenizer shows them."""
        return self._settle(self._decode(self._window)) if self._settled < len(self._window) else ""

    def _settle(self, text: str) -> str:
        """What a window's text has beyond what was shown of it; the next window begins with these tokens."""
        # A character that was shown as unfinished, at the end of a context, is complete now.
        shown = self._shown if text.startswith(self._shown) else self._shown.rstrip(_REPLACEMENT)
        piece = text[len(shown) :]
        if piece:
            del self._window[: self._settled]
            self._settled = len(self._window)
            self._shown = self._decode(self._window)
        return piece
