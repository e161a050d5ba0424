"""The one vocabulary of a pair: its tokenizer, end tokens and size, and whether two models really share it.

A takeover writes a token of the reasoning model into the base model's sequence, so the same id must mean the same token on
both sides; equal sizes are not enough. Special tokens may differ; `rrti_sgl.tokens.special_tokens` says how they meet.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rrti_sgl.errors import PairMismatchError, UsageError, argument
from rrti_sgl.tokens.detokenizer import Detokenizer
from rrti_sgl.tokens.special_tokens import Renumbering, SpecialIds, renumbering, same_events

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Vocabulary:
    """Tokenizer of one model, with what decoding needs to know.

    Args:
        tokenizer: a `transformers` tokenizer.
        token_ids: token string to id.
        special_ids: ids of special and added tokens, which may differ between two models of a pair.
        size: entries of the model's output distribution (may exceed the tokenizer's, where a model pads).
        stop_token_ids: tokens that end a generation.
        end_token_id: the model's own end token, which its tokenizer names; None where it names none.
        renumbered: from the tokenizer's own ids to those that everything here means, the pair's.
    """

    tokenizer: Any
    token_ids: Mapping[str, int]
    special_ids: frozenset[int]
    size: int
    stop_token_ids: frozenset[int]
    end_token_id: int | None = None
    renumbered: Renumbering = field(default_factory=Renumbering)
    _texts: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """Hash of the whole id-to-token table, the first 16 hex digits of SHA-256."""
        table = "\n".join(f"{number}\t{token}" for token, number in sorted(self.token_ids.items(), key=lambda i: i[1]))
        return hashlib.sha256(table.encode()).hexdigest()[:16]

    @property
    def opening_ids(self) -> tuple[int, ...]:
        """The tokens that the tokenizer puts before every text of its own accord: `<bos>`, or nothing."""
        begin = getattr(self.tokenizer, "bos_token_id", None)
        opening = self.renumbered.ids(int(i) for i in self.tokenizer.encode(""))
        return tuple(i for i in opening if i == begin or i not in self.stop_token_ids)

    @property
    def skipped_ids(self) -> frozenset[int]:
        """The special tokens that a server leaves out of its text: also those that have no role such as `eos_token`."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        special = {*self.tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        return frozenset(self.renumbered.ids(special))

    def encode(self, text: str, *, plain: bool = False) -> list[int]:
        """Token ids of a text, without special tokens of the tokenizer's own making.

        Args:
            text: the text.
            plain: take special tokens that are spelled in it as text, too; where a tokenizer has no other token for such
                a word, it is the unknown one.
        """
        ids = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)
        unknown = self.tokenizer.unk_token_id
        if plain and unknown is not None:
            special = set(self.tokenizer.all_special_ids)
            ids = [unknown if i in special else i for i in ids]
        return self.renumbered.ids(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, without end tokens."""
        return self.text_of([i for i in ids if i not in self.stop_token_ids])

    def with_renumbering(self, to_pair: Renumbering) -> Vocabulary:
        """The same vocabulary under the pair's ids."""
        return replace(
            self,
            token_ids=dict(zip(self.token_ids, to_pair.ids(self.token_ids.values()), strict=True)),
            special_ids=frozenset(to_pair.ids(self.special_ids)),
            stop_token_ids=frozenset(to_pair.ids(self.stop_token_ids)),
            end_token_id=None if self.end_token_id is None else to_pair.ids([self.end_token_id])[0],
            renumbered=to_pair,
            _texts={},
        )

    def text_of(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of tokens, with the names of special tokens or without them."""
        return str(self.tokenizer.decode(self.renumbered.inverse.ids(ids), skip_special_tokens=skip_special))

    def token_text(self, token_id: int) -> str:
        """Text of one token on its own."""
        if token_id not in self._texts:
            self._texts[token_id] = self.text_of([token_id])
        return self._texts[token_id]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds; joined, they are the decoded sequence.

        A character split over several tokens belongs to the token that completes it, the ones before add "".
        """
        detokenizer = Detokenizer(self.text_of)
        pieces = [detokenizer.add(token_id) for token_id in ids]
        if pieces:
            pieces[-1] += detokenizer.finish()
        return pieces


def load_vocabulary(name: str) -> Vocabulary:
    """Load the tokenizer and configuration of a hub id or folder.

    Raises:
        UsageError: nothing loadable is there.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm in notebooks, for a bar that nobody draws
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is missing matters to nobody here
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers raises many kinds for one cause: it is not there
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"The tokenizer of {name!r} cannot be loaded ({type(error).__name__}: {reason}).",
            f"Name a local folder or a hub id that this machine can reach: {argument('tokenizer')}.",
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
        end_token_id=tokenizer.eos_token_id,
    )


def matching(base: Vocabulary, reasoning: Vocabulary) -> Vocabulary:
    """The reasoning model's vocabulary with its special tokens renumbered so that they meet the base model's.

    The same object where nothing changes. Ordinary tokens are never renumbered: where they differ, `check_same_vocabulary`
    refuses the pair.
    """
    events = same_events(_special(base), _special(reasoning))
    to_pair = renumbering(events)
    both_special = base.special_ids & reasoning.special_ids
    if not to_pair or not set(to_pair.to_pair) <= both_special:
        return reasoning
    return reasoning.with_renumbering(to_pair)


def _special(vocabulary: Vocabulary) -> SpecialIds:
    special = {token: number for token, number in vocabulary.token_ids.items() if number in vocabulary.special_ids}
    return SpecialIds(special, vocabulary.end_token_id)


def check_same_vocabulary(base: Vocabulary, reasoning: Vocabulary) -> list[str]:
    """Compare two vocabularies token by token.

    Returns:
        One line for each special id that stands for different things (allowed: the other model reads such a token, where
        it is drawn at all, as one that it has not seen in training).

    Raises:
        PairMismatchError: an id that is an ordinary token of either model means different tokens, or the output
            distributions differ in size.
    """
    base_tokens = {number: token for token, number in base.token_ids.items()}
    reasoning_tokens = {number: token for token, number in reasoning.token_ids.items()}
    usual = (base_tokens.keys() - base.special_ids) | (reasoning_tokens.keys() - reasoning.special_ids)
    same = {own for own, pair in same_events(_special(base), _special(reasoning)).items() if own == pair}
    differing = sorted(
        number
        for number in (base_tokens.keys() | reasoning_tokens.keys()) - (reasoning.renumbered.to_pair.keys() | same)
        if base_tokens.get(number) != reasoning_tokens.get(number)
    )
    lines = [f"id {i}: base {base_tokens.get(i)!r}, reasoning {reasoning_tokens.get(i)!r}" for i in differing]
    ordinary = [line for i, line in zip(differing, lines, strict=True) if i in usual]
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
