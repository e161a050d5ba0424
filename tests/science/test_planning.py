"""The planning tagger: words, phrases, sub-word tokens."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.science.planning import PLANNING_TERMS, LexicalTagger, load_tagger

SETTINGS = settings(derandomize=True, deadline=None, max_examples=300)
TAGGER = LexicalTagger()

words = st.sampled_from([
    *("So", "then", "wait", "need", "to", "let's", "in", "conclusion", "first", "of", "all", "apples", "sofa", "4"),
    *("double-check", "plan", "thenceforth", "answer", "we", "want", "Let\u2019s"),
])  # fmt: skip
texts = st.lists(st.tuples(words, st.sampled_from([" ", ", ", ".\n", "  ", ": ", "-", ""])), max_size=12).map(
    lambda pairs: "".join(itertools.chain.from_iterable(pairs))
)


class EveryToken:
    """A user's tagger."""

    name = "every-token"

    def tag(self, token_texts: list[str]) -> list[str | None]:
        return ["plan" for _ in token_texts]


class Nameless:
    def tag(self, token_texts: list[str]) -> list[str | None]:
        return []


class NeedsArguments(EveryToken):
    def __init__(self, path: str) -> None:
        self.path = path


def word_tags(pieces: list[str]) -> list[tuple[str, str]]:
    return [(piece.strip(), tag) for piece, tag in zip(pieces, TAGGER.tag(pieces), strict=True) if tag]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["plan", " :", " double", " then", " add", " 4", " ."], [("plan", "goal"), ("then", "progression")]),
        (["Wait", ",", " that", "'s", " wrong"], [("Wait", "revision")]),
        (["THERE", "FORE"], [("THERE", "inference"), ("FORE", "inference")]),
        ([" Let", "'s", " see"], [("Let", "goal"), ("'s", "goal")]),
        ([" Let", "\u2019", "s", " see"], [("Let", "goal"), ("\u2019", "goal"), ("s", "goal")]),
        (["we", " need", " to", " go"], [("we", "goal"), ("need", "goal")]),
        (["it", " need", "s", " to"], [("need", "goal"), ("s", "goal"), ("to", "goal")]),
        (["First", " of", " all", ","], [("First", "progression"), ("of", "progression"), ("all", "progression")]),
        (["In", " conclusion", ","], [("In", "conclusion"), ("conclusion", "conclusion")]),
        (["in", ",", " conclusion"], [("conclusion", "conclusion")]),
        (["sofa", " so", "fa", " also"], []),
        (["so", " so-called"], [("so", "inference")]),
        (["\\there", "fore"], [("\\there", "inference"), ("fore", "inference")]),
        (["\u00e9t\u00e9", " hence", "\u00e9"], []),
        (["\u0130 so"], [("\u0130 so", "inference")]),
        (["but then"], [("but then", "revision")]),
        ([" ", "\n", "", "..."], []),
        ([], []),
    ],
)
def test_examples(pieces: list[str], expected: list[tuple[str, str]]) -> None:
    assert word_tags(pieces) == expected


@pytest.mark.parametrize("category", PLANNING_TERMS)
def test_every_term_is_found_in_its_category(category: str) -> None:
    for term in PLANNING_TERMS[category]:
        for text in (term, term.upper(), f"({term.capitalize()})!"):
            assert TAGGER.tag([text]) == [category], text


@SETTINGS
@given(text=texts, cuts=st.lists(st.integers(0, 120), max_size=20))
def test_tags_do_not_depend_on_how_the_text_is_split(text: str, cuts: list[int]) -> None:
    by_character = TAGGER.tag(list(text))
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    for (start, end), tag in zip(itertools.pairwise(bounds), TAGGER.tag(pieces), strict=True):
        assert tag == next((one for one in by_character[start:end] if one), None)


@SETTINGS
@given(text=texts)
def test_all_tokens_of_a_word_share_its_tag(text: str) -> None:
    whole = [piece for word in text.split(" ") for piece in (word, " ")]
    for word, tag in zip(whole, TAGGER.tag(whole), strict=True):
        if word.isalpha():
            at = whole.index(word)
            split = [*whole[:at], *word, *whole[at + 1 :]]
            assert TAGGER.tag(split)[at : at + len(word)] == [TAGGER.tag(whole)[at]] * len(word)
        assert tag is None or tag in PLANNING_TERMS


def test_own_lists_replace_the_shipped_ones() -> None:
    tagger = LexicalTagger({"stop": ["halt"]}, name="mine")
    assert tagger.tag(["plan", " halt"]) == [None, "stop"]
    assert (tagger.name, TAGGER.name) == ("mine", "lexical-v1")


@pytest.mark.parametrize(
    ("terms", "message"), [({"a": ["so"], "b": ["So"]}, "in two categories"), ({"a": ["..."]}, "no word")]
)
def test_ambiguous_lists_are_refused(terms: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LexicalTagger(terms)


def test_a_users_tagger_is_loaded_by_name() -> None:
    tagger = load_tagger(f"{__name__}:EveryToken")
    assert (tagger.name, tagger.tag(["a"])) == ("every-token", ["plan"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("EveryToken", "package.module:Class"),
        (f"{__name__}:Absent", "no class Absent"),
        (f"{__name__}:Nameless", "is no tagger"),
        (f"{__name__}:NeedsArguments", "cannot be made"),
    ],
)
def test_load_tagger_says_what_is_wrong(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_tagger(spec)
