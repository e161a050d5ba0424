"""Pieces of text for tokens, and whether two vocabularies are one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rrti_sgl.errors import PairMismatchError, UsageError
from rrti_sgl.tinypair.tokenizer import build_tokenizer
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary


def vocabulary(tokenizer: Any, size: int, special: frozenset[int] = frozenset()) -> Vocabulary:
    return Vocabulary(tokenizer, tokenizer.get_vocab(), special, size, frozenset())


def byte_level() -> Vocabulary:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer), len(alphabet))


@pytest.mark.parametrize("text", ["plain words", "naïve café 🙂 ok", "数学 = π²", "🙂🙂"])
def test_pieces_of_split_characters_join_to_the_text(text: str) -> None:
    known = byte_level()
    ids = known.encode(text)
    pieces = known.pieces(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


BYTES = byte_level()
PARTS = st.integers(0, 255) | st.sampled_from(BYTES.encode("🙂数é\ufffd"))


@given(st.lists(PARTS, max_size=24))
def test_pieces_join_to_the_text_whatever_bytes_a_model_writes(ids: list[int]) -> None:
    assert "".join(BYTES.pieces(ids)) == BYTES.tokenizer.decode(ids)


def test_special_tokens_without_a_role_are_skipped_like_the_others() -> None:
    known = byte_level()
    known.tokenizer.add_special_tokens({"eos_token": "<end>", "additional_special_tokens": []})
    known.tokenizer.add_tokens([AddedToken("<file>", special=True), AddedToken("<plain>", special=False)])
    skipped = [token for token in ("<end>", "<file>", "<plain>") if known.tokenizer.get_vocab()[token] in known.skipped_ids]
    assert skipped == ["<end>", "<file>"]
    ids = [known.tokenizer.get_vocab()[token] for token in ("<end>", "<file>", "<plain>")]
    assert known.tokenizer.decode(ids, skip_special_tokens=True).strip() == "<plain>"


def test_pieces_of_a_word_level_tokenizer_keep_the_spaces() -> None:
    known = vocabulary(PreTrainedTokenizerFast(tokenizer_object=build_tokenizer()), 60)
    text = "first add 4 : 1 0 + 4 = 1 4 . so answer 1 4 ."
    pieces = known.pieces(known.encode(text))
    assert [piece.strip() for piece in pieces] == text.split()
    assert "".join(pieces).split() == text.split()


def test_the_same_vocabulary_passes_and_lists_differing_special_tokens() -> None:
    base = byte_level()
    swapped = dict(base.token_ids)
    first = next(token for token, number in swapped.items() if number == 0)
    swapped["<other>"] = swapped.pop(first)
    special = frozenset({0})
    assert check_same_vocabulary(base, base) == []
    lines = check_same_vocabulary(replace(base, special_ids=special), replace(base, token_ids=swapped, special_ids=special))
    assert len(lines) == 1
    assert "<other>" in lines[0]


def test_a_special_token_in_the_place_of_an_ordinary_one_is_refused() -> None:
    base = byte_level()
    tokens = dict(base.token_ids)
    first = next(token for token, number in tokens.items() if number == 0)
    tokens["<other>"] = tokens.pop(first)
    with pytest.raises(PairMismatchError, match="1 of 256 ids differ"):
        check_same_vocabulary(base, replace(base, token_ids=tokens, special_ids=frozenset({0})))


def test_equal_sizes_are_not_enough() -> None:
    base = byte_level()
    tokens = sorted(base.token_ids, key=base.token_ids.__getitem__)
    tokens[3], tokens[4] = tokens[4], tokens[3]
    other = replace(base, token_ids={token: number for number, token in enumerate(tokens)})
    with pytest.raises(PairMismatchError, match=r"2 of 256 ids differ"):
        check_same_vocabulary(base, other)


def test_distributions_of_different_size_are_refused() -> None:
    base = byte_level()
    with pytest.raises(PairMismatchError, match="256 entries, the reasoning model's 300"):
        check_same_vocabulary(base, replace(base, size=300))


def test_a_tokenizer_that_cannot_be_loaded_names_the_option(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="tokenizer="):
        load_vocabulary(str(tmp_path / "nothing"))
