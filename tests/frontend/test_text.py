"""What is visible of generated tokens, where stop strings cut, and which ids a text keeps; without servers."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.frontend.prefixes import Prefixes, Prompt
from rrti_sgl.tokens.generated_text import GeneratedText
from rrti_sgl.tokens.vocabulary import Vocabulary

END, SPECIAL = 0, 1
PIECES = ["<end>", "<|im|>", *"abcdefgh", "ab", "cd", "abc", "\n", " "]


class Pieces:
    """A tokenizer of fixed pieces that takes the longest at each place; the bytes of a euro sign are tokens 100-102."""

    all_special_ids = (END, SPECIAL)
    unk_token_id: ClassVar[int | None] = None
    added_tokens_decoder: ClassVar[dict[int, SimpleNamespace]] = {200: SimpleNamespace(special=True)}
    euro = "€".encode()

    def encode(self, text: str, add_special_tokens: bool = True, **_: object) -> list[int]:
        ids: list[int] = []
        while text:
            piece = max((piece for piece in PIECES if text.startswith(piece)), key=len)
            ids.append(PIECES.index(piece))
            text = text[len(piece) :]
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        shown = (i for i in ids if not (skip_special_tokens and i in (*self.all_special_ids, *self.added_tokens_decoder)))
        data = b"".join(self._bytes(i) for i in shown)
        return data.decode(errors="replace")

    def _bytes(self, token_id: int) -> bytes:
        if token_id in self.added_tokens_decoder:
            return b"<|file|>"
        return self.euro[token_id - 100 : token_id - 99] if token_id >= 100 else PIECES[token_id].encode()


ROLELESS = 200  # a special token that is no `eos_token` or the like; its name is `<|file|>`
VOCABULARY = Vocabulary(
    Pieces(), {piece: i for i, piece in enumerate(PIECES)}, frozenset({END, SPECIAL}), 103, frozenset({END})
)
encode = VOCABULARY.encode


def generated(ids: Sequence[int], stops: Sequence[str] = ()) -> GeneratedText:
    text = GeneratedText(VOCABULARY, encode("abc"), stops, {END})
    for token_id in ids:
        text.add([token_id])
    text.finish()
    return text


@pytest.mark.parametrize(
    ("ids", "stops", "expected", "n_tokens", "kept"),
    [
        pytest.param([*encode("a b"), END], (), "a b", 4, encode("a b"), id="end token"),
        pytest.param(encode("a b\nc"), ("\n",), "a b", 4, encode("a b"), id="a token of its own"),
        pytest.param([*encode("d"), 12, *encode("d")], ("b",), "da", 2, encode("da"), id="inside a token"),
        pytest.param([*encode("d"), 10, 11], ("bc",), "da", 3, encode("da"), id="across tokens"),
        pytest.param([2, SPECIAL, 3], ("<|im|>",), "a", 2, encode("a"), id="name of a special token"),
        pytest.param([2, SPECIAL, 3], (), "ab", 3, [2, 3], id="special tokens are left out"),
        pytest.param([2, ROLELESS, 3], ("<|file|>",), "a", 2, encode("a"), id="name of a special token without a role"),
        pytest.param([2, ROLELESS, 3], (), "ab", 3, [2, 3], id="special tokens without a role are left out, too"),
        pytest.param([2, 100, SPECIAL, 3], ("<|im|>",), "a\ufffd", 3, [2, 100], id="name after half a character"),
        pytest.param([2, 100, SPECIAL, 3], (), "a\ufffdb", 4, [2, 100, 3], id="half a character, then a special token"),
        pytest.param([2, 100, 101, 102, 3], (), "a€b", 5, [2, 100, 101, 102, 3], id="character of three tokens"),
        pytest.param([2, 100, 101, 102, 3], ("€",), "a", 4, [2], id="stop at a character of three tokens"),
        pytest.param([2, 100, 101], (), "a\ufffd", 3, [2, 100, 101], id="unfinished character"),
        pytest.param([12], ("c", "bc"), "ab", 1, encode("ab"), id="the first listed of one token's stops"),
        pytest.param(encode("\n"), ("\n",), "", 1, [], id="nothing left"),
    ],
)
def test_text_and_kept_ids(ids: list[int], stops: tuple[str, ...], expected: str, n_tokens: int, kept: list[int]) -> None:
    text = generated(ids, stops)
    assert (text.text, len(text), text.kept_ids) == (expected, n_tokens, kept)
    assert (text.matched is not None) == bool(stops)


def test_a_stream_never_shows_what_a_stop_string_takes_back() -> None:
    text = GeneratedText(VOCABULARY, [], ("bcd",), {END})
    shown = []
    for token_id in (2, 3, 4, 3, 4, 5):  # a b c b c d
        text.add([token_id])
        shown.append(text.settled)
    assert shown == ["a", "a", "a", "abc", "abc", "abc"]


def test_long_texts_equal_one_decoding() -> None:
    ids = [*encode("abcdefgh \n" * 20), 100, 101, 102] * 3
    assert generated(ids).text == VOCABULARY.tokenizer.decode(ids)


class State:
    """The part of SGLang's `StreamExecutor` that matters here."""

    images_: Sequence[tuple[str, str]] = ()

    def __init__(self, text: str, fork_start_text_pos: int | None = None) -> None:
        self.text_, self.fork_start_text_pos = text, fork_start_text_pos


def test_what_is_no_text_is_refused() -> None:
    state = State("d")
    state.images_ = [("path", "data")]
    with pytest.raises(UsageError, match=r"image\(\) and video\(\) are not supported"):
        Prefixes(VOCABULARY).prompt(state)


def test_generated_ids_are_kept_and_pieces_do_not_merge_with_them() -> None:
    prefixes, state = Prefixes(VOCABULARY), State("d")
    assert prefixes.prompt(state) == Prompt("d", (5,))
    prefixes.remember(state, Prompt("dab", (5, 2, 3)))  # drawn as two tokens, though the tokenizer has one
    state.text_ = "dabcd"
    assert prefixes.prompt(state) == Prompt("dabcd", (5, 2, 3, *encode("cd")))


def test_branches_of_a_fork_share_ids_whatever_they_append() -> None:
    prefixes, parent = Prefixes(VOCABULARY), State("dab")
    prefixes.remember(parent, Prompt("da", (5, 2)))
    branches: list[Any] = [State("dab" + suffix, 3) for suffix in ("", "c", "cd")]
    assert [prefixes.prompt(branch).ids[:3] for branch in branches] == [(5, 2, 3)] * 3
    assert prefixes.prompt(branches[1]).ids == (5, 2, 3, 4)


def test_a_text_that_was_rewritten_is_tokenised_anew() -> None:
    prefixes, state = Prefixes(VOCABULARY), State("ab")
    prefixes.remember(state, Prompt("ab", (2, 3)))
    state.text_ = "cab"
    assert prefixes.prompt(state).ids == tuple(encode("cab"))
