"""The pieces of tokens join to the decoded text with every kind of tokenizer; where `tokenizers`' own stream does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

from natural_pair.pretrained import MissingError
from rrti_sgl.tinypair.bundle import bundled_pair
from rrti_sgl.tokens.detokenizer import Detokenizer
from rrti_sgl.tokens.vocabulary import Vocabulary, load_vocabulary
from tests.prompts import tokenizers
from tests.smollm2.models import smollm2_pair

TEXT = "naïve café 🙂 ok 数学 = π² I don't know . it 's , x ! 👩\u200d👩\u200d👧 end\n\n  indent"
EURO = "€"  # three bytes


def bundled(_: Path) -> Vocabulary:
    """Whole words, which its decoder joins with spaces."""
    return load_vocabulary(str(bundled_pair().base))


def byte_level(_: Path) -> Vocabulary:
    return tokenizers.qwen_base()


def sentencepiece(_: Path) -> Vocabulary:
    """The shape of Llama 2: a mark for spaces, tokens for bytes, and no space before the first word."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *"abcdefghijkl ", "\u2581ab", "\u2581c"]
    tokenizer = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")
    return Vocabulary(fast, fast.get_vocab(), frozenset({1}), len(pieces), frozenset())


def qwen3(folder: Path) -> Vocabulary:
    return tokenizers.real_qwen3(folder)[0]


def smollm2(_: Path) -> Vocabulary:
    try:
        return load_vocabulary(str(smollm2_pair().reasoning))
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(
    scope="module", params=[bundled, byte_level, sentencepiece, qwen3, pytest.param(smollm2, marks=pytest.mark.slow)]
)
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    make: Callable[[Path], Vocabulary] = request.param
    return make(tmp_path_factory.mktemp("tokenizer"))


def sequences(vocabulary: Vocabulary, longest: int = 24) -> st.SearchStrategy[list[int]]:
    """Tokens of a text, special tokens and any others: with byte-level tokenizers often parts of characters.

    Whole characters alone where tokens for bytes stand in for missing ones: there one wrong byte makes all the bytes before
    it wrong, too, so that no piece could be given before the end.
    """
    special = st.sampled_from(sorted(vocabulary.skipped_ids))
    if "<0x00>" in vocabulary.token_ids:
        characters = st.lists(st.sampled_from([vocabulary.encode(character) for character in TEXT]) | st.tuples(special))
        return characters.map(lambda found: [token_id for ids in found for token_id in ids])
    known = st.sampled_from(vocabulary.encode(TEXT)) | special
    return st.lists(known | st.integers(0, len(vocabulary.tokenizer) - 1), max_size=longest)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data(), skip_special=st.booleans())
def test_pieces_join_to_the_decoded_text(vocabulary: Vocabulary, data: st.DataObject, skip_special: bool) -> None:
    ids = data.draw(sequences(vocabulary))
    decode = partial(vocabulary.text_of, skip_special=skip_special)
    detokenizer = Detokenizer(decode)
    pieces = [detokenizer.add(token_id) for token_id in ids]
    assert "".join([*pieces, detokenizer.finish()]) == decode(ids)
    assert detokenizer.finish() == ""


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.data(), skip_special=st.booleans())
def test_pieces_are_those_of_the_librarys_stream(vocabulary: Vocabulary, data: st.DataObject, skip_special: bool) -> None:
    context, ids = data.draw(sequences(vocabulary, 5)), data.draw(sequences(vocabulary))
    decode = partial(vocabulary.text_of, skip_special=skip_special)
    assume(not decode(context).endswith("\ufffd"))
    stream, detokenizer = DecodeStream(context, skip_special), Detokenizer(decode, context)
    expected = [stream.step(vocabulary.tokenizer.backend_tokenizer, token_id) or "" for token_id in ids]
    assert [detokenizer.add(token_id) for token_id in ids] == expected


def test_the_librarys_stream_cannot_say_what_is_left_at_the_end() -> None:
    known = tokenizers.qwen_base()
    half = known.encode(f"a{EURO}")[:2]
    stream = DecodeStream()
    assert [stream.step(known.tokenizer.backend_tokenizer, token_id) for token_id in half] == ["a", None]
    assert not [name for name in dir(stream) if not name.startswith("_") and name != "step"]  # nothing to ask for the rest
    assert known.pieces(half) == ["a", "\ufffd"]


def test_the_librarys_stream_shows_a_context_again_that_ends_within_a_character() -> None:
    known = tokenizers.qwen_base()
    *context, last = known.encode(f"ab{EURO}")
    assert DecodeStream(context).step(known.tokenizer.backend_tokenizer, last) == f"ab{EURO}"
    assert Detokenizer(known.text_of, context).add(last) == EURO


def test_the_librarys_stream_takes_its_own_tokenizers_alone() -> None:
    known = tokenizers.qwen_base()
    with pytest.raises(TypeError):
        DecodeStream().step(known.tokenizer, 0)
    assert Detokenizer(lambda ids: "x" * len(ids)).add(0) == "x"


def test_a_context_that_ends_with_the_sign_for_broken_bytes_is_not_shown_again() -> None:
    known = tokenizers.qwen_base()
    detokenizer = Detokenizer(known.text_of, known.encode("a\ufffd"))
    assert [detokenizer.add(token_id) for token_id in known.encode("bc")] == ["b", "c"]
