"""The text of a growing sequence of generated tokens: what a program sees of it, and where a stop string ends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from rrti_sgl.tokens.detokenizer import Detokenizer
from rrti_sgl.tokens.vocabulary import Vocabulary

_CONTEXT_TOKENS = 5  # as many of the prompt as SGLang decodes before a piece


class GeneratedText:
    """Text of the tokens that continue a prompt, token by token.

    Two readings are kept. The visible text is what SGLang's server returns: special tokens and end tokens are left out.
    The scanned text holds special tokens too, because stop strings such as `<|im_end|>` may be their names.

    Args:
        vocabulary: gives the text.
        prompt_ids: what the tokens continue; its last tokens decide about a space before the first word.
        stop_strings: the text ends before the first of them; where one token completes several, the first listed counts.
        end_ids: end tokens, which add no text.
        skip_special: whether special tokens are left out of the visible text.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        prompt_ids: Sequence[int],
        stop_strings: Sequence[str] = (),
        end_ids: Collection[int] = (),
        *,
        skip_special: bool = True,
    ) -> None:
        self._vocabulary = vocabulary
        self._stop_strings = tuple(stop_strings)
        self._end_ids = end_ids
        self._special_ids = vocabulary.skipped_ids if skip_special else frozenset()
        self._detokenizer = Detokenizer(
            partial(vocabulary.text_of, skip_special=skip_special), prompt_ids[-_CONTEXT_TOKENS:]
        )
        self._ids: list[int] = []
        self._starts: list[int] = []  # where each token begins in the scanned text
        self._visible: list[str] = []
        self._scanned = ""
        self._cut: int | None = None  # where the stop string begins in the scanned text
        self.matched: str | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Sequence[int]) -> bool:
        """Take further tokens, up to the one that completes a stop string; True if there is one."""
        for token_id in ids:
            if self.matched is not None:
                break
            self._add(int(token_id))
        return self.matched is not None

    def finish(self) -> None:
        """No part of a character follows: show the bytes of an unfinished one as they are."""
        if rest := self._detokenizer.finish():
            self._visible[-1] += rest
            self._scanned += rest

    @property
    def text(self) -> str:
        """The visible text, up to the stop string if there is one."""
        return self._up_to(len(self._scanned) if self._cut is None else self._cut)[0]

    @property
    def settled(self) -> str:
        """The beginning of the visible text that no further token can take back: what a stream may show already."""
        if self._cut is not None or not self._stop_strings:
            return self.text
        return self._up_to(len(self._scanned) - self._doubtful())[0]

    @property
    def kept_ids(self) -> list[int]:
        """Token ids of the visible text: what a further prompt goes on from.

        Of a token that the stop string cuts in two, the text before the cut is tokenised anew.
        """
        visible, kept = self._up_to(len(self._scanned) if self._cut is None else self._cut)
        shown = [i for i in self._ids[:kept] if i not in self._end_ids and i not in self._special_ids]
        if self._cut is None:
            return shown
        partial = visible[len("".join(self._visible[:kept])) :]
        return [*shown, *self._vocabulary.encode(partial)] if partial else shown

    def _add(self, token_id: int) -> None:
        if token_id in self._special_ids:
            self.finish()  # it completes no character, and its name must not wait for one
        self._ids.append(token_id)
        self._starts.append(len(self._scanned))
        if token_id in self._end_ids:
            self._visible.append("")
            return
        piece = self._detokenizer.add(token_id)
        self._visible.append(piece)
        before = len(self._scanned)
        self._scanned += self._vocabulary.token_text(token_id) if token_id in self._special_ids else piece
        for stop in self._stop_strings:
            if self._scanned.find(stop, max(before - len(stop) + 1, 0)) >= 0:
                self.matched, self._cut = stop, self._scanned.find(stop)
                return

    def _up_to(self, end: int) -> tuple[str, int]:
        """The visible text of the scanned text's first `end` characters, and how many tokens lie in it as a whole."""
        kept = len(self._ids)
        ends = [*self._starts[1:], len(self._scanned)]
        while kept and (ends[kept - 1] > end or (ends[kept - 1] == self._starts[kept - 1] == end < len(self._scanned))):
            kept -= 1
        text = "".join(self._visible[:kept])
        if kept < len(self._ids) and self._ids[kept] not in self._special_ids:
            text += self._visible[kept][: end - self._starts[kept]]
        return text, kept

    def _doubtful(self) -> int:
        """Length of the longest end of the scanned text that may be the beginning of a stop string."""
        longest = max(len(stop) for stop in self._stop_strings) - 1
        for length in range(min(longest, len(self._scanned)), 0, -1):
            if any(stop.startswith(self._scanned[-length:]) for stop in self._stop_strings):
                return length
        return 0
