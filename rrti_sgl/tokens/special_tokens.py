"""Special tokens of a pair: which of the two models' mean the same, and the renumbering that follows.

A base and a reasoning model of one family share their ordinary tokens and may differ in special ones: Qwen3's base model
ends with `<|endoftext|>`, its reasoning model with `<|im_end|>`. Compared id by id, both models would disagree most where
both want to stop. The rule, ours, because the paper names none:

1. Each model's own end token is one event, "the end".
2. Special tokens of the same role (`ROLES`) are one event where exactly one of a model's special tokens has that role.
3. Every other special token keeps its id. What only one model knows is a token that the other has never seen in training.

The ids of the base model are the pair's. The reasoning model's ids are permuted, special ones among special ones, so that
events meet; a permutation leaves every probability and every divergence what it is. Its server sees its own ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rrti_sgl.records import IntArray

SpecialTokens = Literal["mapped", "as-is"]

ROLES: dict[str, tuple[str, ...]] = {
    "begin of text": ("<|begin_of_text|>", "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<s>", "<bos>"),
    "end of text": ("<|endoftext|>", "<|end_of_text|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>", "<eos>"),
    "end of turn": ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|EOT|>", "<|end|>"),
    "begin of thought": ("<think>", "<|begin_of_thought|>"),
    "end of thought": ("</think>", "<|end_of_thought|>"),
}


@dataclass(frozen=True)
class Renumbering:
    """A permutation of token ids: a model's own id to the pair's. Ids that it does not name stay.

    Args:
        to_pair: own id to the pair's id; its values are its keys in another order.
    """

    to_pair: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.to_pair) != set(self.to_pair.values()):
            raise ValueError(f"no permutation: {dict(self.to_pair)}")

    def __bool__(self) -> bool:
        return any(own != pair for own, pair in self.to_pair.items())

    @property
    def inverse(self) -> Renumbering:
        """From the pair's ids to the model's own."""
        return Renumbering({pair: own for own, pair in self.to_pair.items()})

    def ids(self, ids: Iterable[int]) -> list[int]:
        """Token ids, renumbered."""
        return [self.to_pair.get(i, i) for i in ids]

    def array(self, ids: IntArray) -> IntArray:
        """Token ids of any shape, renumbered; the same array where nothing changes."""
        if not self:
            return ids
        renumbered = np.array(ids, copy=True)
        for own, pair in self.to_pair.items():
            renumbered[ids == own] = pair
        return renumbered


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The special tokens of one model: token to id, and its own end token."""

    ids: Mapping[str, int]
    end: int | None


def same_events(base: SpecialIds, reasoning: SpecialIds) -> dict[int, int]:
    """Special ids of the reasoning model to those of the base model that mean the same, by the rule of this module."""
    events: dict[int, int] = {}

    def meet(own: int | None, pair: int | None) -> None:
        if own is not None and pair is not None and own not in events and pair not in events.values():
            events[own] = pair

    meet(reasoning.end, base.end)
    for tokens in ROLES.values():
        meet(_only(reasoning, tokens), _only(base, tokens))
    for token in sorted(reasoning.ids.keys() & base.ids.keys()):
        meet(reasoning.ids[token], base.ids[token])
    return events


def renumbering(events: Mapping[int, int]) -> Renumbering:
    """The permutation that makes events meet; ids that have to give way take the places that became free, in order."""
    moved = {own: pair for own, pair in events.items() if own != pair}
    displaced = sorted(set(moved.values()) - set(moved))
    free = sorted(set(moved) - set(moved.values()))
    return Renumbering(moved | dict(zip(displaced, free, strict=True)))


def _only(model: SpecialIds, tokens: tuple[str, ...]) -> int | None:
    found = [model.ids[token] for token in tokens if token in model.ids]
    return found[0] if len(found) == 1 else None
