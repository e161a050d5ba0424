"""Which tokens belong to planning, and which to execution: a tagger by word lists.

Shen et al. (arXiv 2605.16874) count planning tokens with "a heuristic classifier" that they do not publish; the lists
below are ours, so shares of planning tokens compare between our runs, not with the paper's figures. The tagger's name
(`lexical-v1`) is stored with a run and changes with the lists.

Matching is by whole words, whatever their case and the punctuation around them. Phrases match words that only white
space separates; where several terms begin at a word, the longest counts. A word is a heuristic's unit: "first" is
progression in "the first apple" as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from rrti_sgl.errors import UsageError
from rrti_sgl.science.own_classes import load_own

PLANNING_TERMS: Final[Mapping[str, tuple[str, ...]]] = {
    # which step comes when
    "progression": (
        *("first", "firstly", "second", "secondly", "third", "thirdly", "then", "next", "now", "finally", "lastly"),
        *("afterwards", "step", "first of all", "to begin", "to start", "after that", "at last", "moving on"),
    ),
    # what follows from what
    "inference": (
        *("so", "therefore", "thus", "hence", "since", "because", "consequently", "accordingly", "implies"),
        *("it follows", "which means", "this means", "that means", "as a result", "given that", "due to"),
    ),
    # turning away from what was said
    "revision": (
        *("but", "wait", "however", "actually", "instead", "alternatively", "although", "though", "hmm", "oops"),
        *("rather", "otherwise", "unless", "mistake", "on the other hand", "hold on", "let me rethink", "try again"),
    ),
    # what is to be reached, and how
    "goal": (
        *("plan", "goal", "strategy", "approach", "idea", "try", "consider", "suppose", "assume", "let"),
        *("let's", "lets", "let us", "let me", "need to", "needs to", "want to", "we want", "we need", "have to"),
        *("we must", "we can", "we should", "in order to", "to find", "to solve", "to determine", "break down"),
    ),
    # making sure
    "verification": (
        *("check", "checking", "verify", "verifying", "confirm", "confirms", "indeed", "double-check", "recheck"),
        *("make sure", "sanity check", "is correct", "makes sense"),
    ),
    # closing
    "conclusion": (
        *("answer", "conclude", "conclusion", "overall", "altogether", "summary"),
        *("in conclusion", "in summary", "to summarize", "to sum up", "in total", "final answer"),
    ),
}
"""Category -> its words and phrases, in lower case."""

_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


class PlanningTagger(Protocol):
    """Gives every token of a finished sample a category, or None for execution. `name` is stored with the run."""

    name: str

    def tag(self, token_texts: Sequence[str]) -> list[str | None]:
        """(T,) token texts, whose concatenation is the sample's text -> (T,) categories."""
        ...


class LexicalTagger:
    """Tags by lists of words and phrases, by default `PLANNING_TERMS`.

    Raises:
        UsageError: a term is in two categories or holds no word.
    """

    def __init__(self, terms: Mapping[str, Sequence[str]] = PLANNING_TERMS, name: str = "lexical-v1") -> None:
        self.name = name
        self._categories: dict[tuple[str, ...], str] = {}
        for category, phrases in terms.items():
            for phrase in phrases:
                words = tuple(_normalised(match) for match in _WORD.finditer(phrase))
                if not words or words in self._categories:
                    what = "is in two categories" if words else "holds no word"
                    raise UsageError(f"planning term {phrase!r} of {category} {what}.", "Correct the word list.")
                self._categories[words] = category
        self._longest = max((len(words) for words in self._categories), default=0)

    def tag(self, token_texts: Sequence[str]) -> list[str | None]:
        """(T,) token texts, whose concatenation is the sample's text -> (T,) categories.

        A word may be spread over several tokens: all of them get its category. A token that touches several words gets
        the category of the first one that has any; white space and punctuation alone have none.
        """
        tagged = self._spans("".join(token_texts))
        tags: list[str | None] = []
        start = index = 0
        for piece in token_texts:
            end = start + len(piece)
            while index < len(tagged) and tagged[index][1] <= start:
                index += 1
            touched = index < len(tagged) and tagged[index][0] < end and start < end
            tags.append(tagged[index][2] if touched else None)
            start = end
        return tags

    def _spans(self, text: str) -> list[tuple[int, int, str]]:
        """The tagged words of a text in order: (start, end, category), in characters."""
        matches = list(_WORD.finditer(text))
        words = [_normalised(match) for match in matches]
        tagged: list[tuple[int, int, str]] = []
        at = 0
        while at < len(words):
            length = 1
            while length < self._longest and at + length < len(words):
                if not text[matches[at + length - 1].end() : matches[at + length].start()].isspace():
                    break
                length += 1
            while length and tuple(words[at : at + length]) not in self._categories:
                length -= 1
            if length:
                category = self._categories[tuple(words[at : at + length])]
                tagged += [(match.start(), match.end(), category) for match in matches[at : at + length]]
            at += max(length, 1)
        return tagged


def load_tagger(spec: str) -> PlanningTagger:
    """A user's tagger, `package.module:Class` called without arguments.

    Raises:
        UsageError: no such class, it cannot be made, or it lacks `name` or `tag`.
    """
    tagger: PlanningTagger = load_own(spec, "tagger", "tag")
    return tagger


def _normalised(match: re.Match[str]) -> str:
    return match.group().lower().replace("\u2019", "'")
