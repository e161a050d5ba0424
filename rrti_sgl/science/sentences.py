"""Where the sentences of a solution begin and end, in tokens."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# A full stop, mark or line's end; newlines after it belong to it. A number that counts a list's lines is no sentence.
_END = re.compile(r"""[.!?]["'”)\]]*(?:[^\S\n]*\n\s*|(?=\s|$))|\n\s*""")
_COUNTED = re.compile(r"\s*(?:\d+[.)])?\s*")


def sentences(pieces: Sequence[str]) -> list[tuple[int, int]]:
    """The first and last token of each sentence or line, in order and without gaps.

    A token in which a sentence ends is its last. What is left at the end belongs to the last sentence where it is blank.

    Args:
        pieces: the text that each token adds; joined, they are the solution.
    """
    text, ends = "".join(pieces), list(accumulate(map(len, pieces)))
    found: list[tuple[int, int]] = []
    begun = first = 0
    for end in (match.end() for match in _END.finditer(text)):
        if _COUNTED.fullmatch(text, begun, end):
            continue
        begun, last = end, bisect_left(ends, end)
        if last >= first:
            found.append((first, last))
            first = last + 1
    if first < len(pieces):
        if found and not "".join(pieces[first:]).strip():
            first = found.pop()[0]
        found.append((first, len(pieces) - 1))
    return found
