"""Where sentences begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.science.sentences import sentences


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ("first| double| :| 2| .| then| skip| .| so| answer|", ["first double : 2 .", " then skip .", " so answer"]),
        ("1|.| Let| x = 3.5|.| So|\n|\n|2|. |We!|)\n\n|Done", ["1. Let x = 3.5.", " So\n\n", "2. We!)\n\n", "Done"]),
        ("A.|\n|\n|B? Yes|.", ["A.\n\n", "B? Yes", "."]),
        ("no end", ["no end"]),
        ("", [""]),
    ],
)  # fmt: skip
def test_sentences_and_lines(pieces: str, expected: list[str]) -> None:
    given = pieces.split("|")
    assert ["".join(given[first : last + 1]) for first, last in sentences(given)] == expected


@given(st.lists(st.text('ab1.!? \n")', max_size=4), max_size=30))
def test_they_cover_every_token_once(pieces: list[str]) -> None:
    found = sentences(pieces)
    assert [token for first, last in found for token in range(first, last + 1)] == list(range(len(pieces)))
    assert all(first <= last for first, last in found)
