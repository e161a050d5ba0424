"""The one vocabulary of a pair: its tokenizer, end tokens and size, and whether two models really share it.

A takeover writes a token of the reasoning model into the base model's sequence, so the same id must mean the same token on
both sides; equal sizes are not enough.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rrti_sgl.errors import PairMismatchError, UsageError

logger = logging.getLogger(__name__)

_REPLACEMENT = "\ufffd"  # what a decoder shows for bytes that are no whole character yet
_CONTEXT_TOKENS = 6  # tokens decoded before a piece, so that decoders which join words see its neighbours


@dataclass(frozen=True)
class Vocabulary:
    """Tokenizer of one model, with what decoding needs to know.

    Args:
        tokenizer: a `transformers` tokenizer.
        token_ids: token string to id.
        special_ids: ids of special and added tokens, which may differ between two models of a pair.
        size: entries of the model's output distribution (may exceed the tokenizer's, where a model pads).
        stop_token_ids: tokens that end a generation.
    """

    tokenizer: Any
    token_ids: Mapping[str, int]
    special_ids: frozenset[int]
    size: int
    stop_token_ids: frozenset[int]
    _texts: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """Hash of the whole id-to-token table, the first 16 hex digits of SHA-256."""
        table = "\n".join(f"{number}\t{token}" for token, number in sorted(self.token_ids.items(), key=lambda i: i[1]))
        return hashlib.sha256(table.encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens of the tokenizer's own making."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, without end tokens."""
        return str(self.tokenizer.decode([i for i in ids if i not in self.stop_token_ids], skip_special_tokens=False))

    def token_text(self, token_id: int) -> str:
        """Text of one token on its own."""
        if token_id not in self._texts:
            self._texts[token_id] = str(self.tokenizer.decode([token_id], skip_special_tokens=False))
        return self._texts[token_id]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds; joined, they are the decoded sequence.

        A character split over several tokens belongs to the token that completes it, the ones before add "".
        """
        pieces: list[str] = []
        start, emitted = 0, 0  # tokens before `emitted` have their text; `start` opens the window that gives it context
        for end in range(1, len(ids) + 1):
            before = str(self.tokenizer.decode(list(ids[start:emitted]), skip_special_tokens=False))
            now = str(self.tokenizer.decode(list(ids[start:end]), skip_special_tokens=False))
            if now.endswith(_REPLACEMENT) and end < len(ids):
                pieces.append("")
                continue
            pieces.append(now[len(before) :])
            emitted = end
            start = max(start, end - _CONTEXT_TOKENS)
        return pieces


def load_vocabulary(name: str) -> Vocabulary:
    """Load the tokenizer and configuration of a hub id or folder.

    Raises:
        UsageError: nothing loadable is there.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers raises many kinds for one cause: it is not there
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"The tokenizer of {name!r} cannot be loaded ({type(error).__name__}: {reason}).",
            "Pass --tokenizer with a local folder or a hub id that this machine can reach.",
        ) from error
    stop = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    try:
        configured = GenerationConfig.from_pretrained(name).eos_token_id
        stop |= set(configured if isinstance(configured, list) else [configured]) - {None}
    except OSError:
        logger.info("%s has no generation_config.json; its end token is the tokenizer's", name)
    try:
        size = int(AutoConfig.from_pretrained(name).get_text_config().vocab_size)
    except (OSError, ValueError, AttributeError):
        logger.warning("%s has no readable config.json; taking the tokenizer's size for the vocabulary's", name)
        size = len(tokenizer)
    return Vocabulary(
        tokenizer=tokenizer,
        token_ids=tokenizer.get_vocab(),
        special_ids=frozenset(tokenizer.all_special_ids) | frozenset(tokenizer.added_tokens_decoder),
        size=size,
        stop_token_ids=frozenset(int(i) for i in stop),
    )


def check_same_vocabulary(base: Vocabulary, reasoning: Vocabulary) -> list[str]:
    """Compare two vocabularies token by token.

    Returns:
        One line for each special token that differs (allowed: such ids are never drawn by the other model).

    Raises:
        PairMismatchError: an ordinary id means different tokens, or the output distributions differ in size.
    """
    base_tokens = {number: token for token, number in base.token_ids.items()}
    reasoning_tokens = {number: token for token, number in reasoning.token_ids.items()}
    special = base.special_ids | reasoning.special_ids
    differing = sorted(
        number
        for number in base_tokens.keys() | reasoning_tokens.keys()
        if base_tokens.get(number) != reasoning_tokens.get(number)
    )
    lines = [f"id {i}: base {base_tokens.get(i)!r}, reasoning {reasoning_tokens.get(i)!r}" for i in differing]
    ordinary = [line for i, line in zip(differing, lines, strict=True) if i not in special]
    if ordinary:
        raise PairMismatchError(
            f"The two models have different vocabularies: {len(ordinary)} of {len(base_tokens)} ids differ "
            f"({'; '.join(ordinary[:4])}{' ...' if len(ordinary) > 4 else ''}).",
            "Choose a base and a reasoning model of one family, with the same tokenizer.",
        )
    if base.size != reasoning.size:
        raise PairMismatchError(
            f"The base model's distribution has {base.size} entries, the reasoning model's {reasoning.size}.",
            "Choose two models whose config.json has the same vocab_size.",
        )
    return lines
