r"""Where in a solution its answer is, for mathematics: explicit marks first, then what is written last.

The order is `\boxed{}`, `####`, a phrase ("the answer is ..."), the last expression. Of several marks of one kind the last
counts. What follows the last `</think>` is looked at first. A solution whose `<think>` was never closed is no solution
yet: only explicit marks count in it, because the last expression of an unfinished thought is a guess. A solution that ends
within a mark (`\boxed{12`) has no answer: what it had marked before was about to be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Method = Literal["boxed", "hashes", "phrase", "last-expression"]

THINK_START, THINK_END = "<think>", "</think>"
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BARE = re.compile(r"[-+]?[\d.,/]*\d%?|[A-HJ-Z](?![A-Za-z])")  # without braces: a number or a choice, no word of a sentence
_BETWEEN_BOXES = re.compile(r"[\s$,;]*(?:\\(?:text|quad|qquad|,|;)\s*)*(?:\{?\s*(?:and|or)\s*\}?)?[\s$,;]*")
_PHRASE = re.compile(r"\banswers?\b(?:[^\n.:=$\\]{0,60}?\b(?:is|are)\b\s*:?|\**\s*[:=]\**)[\s*]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\n|[.!?](?=[\s*]|$)")
_MATH = re.compile(
    r"\$\$(.{1,2000}?)\$\$|\\\[(.{1,2000}?)\\\]|\\\((.{1,2000}?)\\\)|(?<!\\)\$([^$\n]{1,500}?)(?<!\\)\$", re.DOTALL
)
_NUMBER = re.compile(r"(?<![\w.\\^])[-+\u2212]?\$?(?:\d(?:[\d,]*\d)?(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+(?:\.\d+)?)?(?:\s?\\?%)?")
_CUT = re.compile(r"(?:####|\banswers?\b[^\n.:=$\\]{0,60}?\b(?:is|are)\s?:?|\banswers?\s?\**\s?:)\Z", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FUNCTIONS = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "arcsin", "arccos", "arctan"))
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|textbf|mbox)\s*\{[^}]*\}")
_LONGEST = 2000  # characters of an answer: bounds the search where a group is never closed


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer as written, and how it was found."""

    answer: str
    method: Method


def solution(text: str, prompt: str | None = None) -> str:
    """What is graded of a generated text: a thought, where the prompt has opened one.

    Args:
        text: what was generated.
        prompt: of the model that wrote all of it; some chat templates end with `<think>`.
    """
    opened = prompt is not None and prompt.rfind(THINK_START) > prompt.rfind(THINK_END)
    return THINK_START + text if opened and not text.lstrip().startswith(THINK_START) else text


def extract(text: str) -> Extraction | None:
    """The answer of a solution; None where there is none. Linear in the text's length."""
    thought, closed, said = text.rpartition(THINK_END)
    if is_cut(said):
        return None
    if closed:
        return explicit(said) or last_expression(said) or explicit(thought)
    return explicit(text) or (None if THINK_START in text else last_expression(text))


def is_cut(text: str) -> bool:
    """Whether a text ends within the mark of an answer: in a box that is still open, or right behind "the answer is"."""
    box = _BOX.match(text, max(text.rfind("\\boxed"), text.rfind("\\fbox"), 0))
    if box and text.startswith("{", box.end()) and len(text) - box.end() < _LONGEST and _closing(text, box.end()) is None:
        return True
    return _CUT.search(text.rstrip(" \n\t*$")[-120:]) is not None


def explicit(text: str) -> Extraction | None:
    """The answer behind an explicit mark."""
    if boxes := last_boxes(text):
        return Extraction(", ".join(boxes), "boxed")
    if line := after_hashes(text):
        return Extraction(line, "hashes")
    for match in reversed(list(_PHRASE.finditer(text))):
        if answer := _phrase_answer(text[match.end() : match.end() + 400]):
            return Extraction(answer, "phrase")
    return None


def after_hashes(text: str) -> str | None:
    """The line after the last `####` that is no heading: a text that goes on below words has a heading there."""
    lines = [part.strip().partition("\n") for part in text.split("####")[1:]]
    for place, (line, _, below) in reversed(list(enumerate(lines))):
        answer = line.strip("# ").rstrip(".")
        goes_on = below.strip() or place + 1 < len(lines)
        if answer and not (goes_on and answer[0].isalpha()):
            return answer
    return None


def last_expression(text: str) -> Extraction | None:
    """The formula or number that ends last."""
    found = [*_formulas(text), *((match.end(), match.group()) for match in _NUMBER.finditer(text))]
    return Extraction(max(found, key=lambda item: item[0])[1].strip(), "last-expression") if found else None


def _phrase_answer(rest: str) -> str | None:
    """What is said after "the answer is": a formula or number of that sentence, or else the sentence."""
    rest = rest.lstrip(" \n*")
    formula = next(_formulas(rest), None)
    if formula is not None and formula[0] - len(formula[1]) <= 6:  # it begins here, and may contain line ends
        return formula[1].strip()
    end = _SENTENCE_END.search(rest)
    sentence = rest[: end.start()] if end else rest
    if formula := next(_formulas(sentence), None):
        return formula[1].strip()
    if "\\" not in sentence and _words(sentence) and (number := _NUMBER.search(sentence)):
        return number.group().strip()
    return sentence.strip(" *`\"'") or None


def _formulas(text: str) -> Iterator[tuple[int, str]]:
    """(end, content) of every formula between dollars, brackets or parentheses of LaTeX."""
    place = 0
    while match := _MATH.search(text, place):
        content = next(group for group in match.groups() if group is not None)
        # Two prices in a sentence look like a formula between dollars; the prose between them gives them away.
        if match.group(4) and _words(_TEXT_COMMAND.sub("", content)):
            place = match.start() + 1
            continue
        place = match.end()
        yield match.end(), content


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)} - _FUNCTIONS


def last_boxes(text: str) -> list[str]:
    """Contents of the last box and of those that stand right before it in one list ("\\boxed{1} and \\boxed{2}")."""
    boxes: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text):
        if (content := _group(text, match.end())) is not None:
            boxes.append((match.start(), match.end() + content[1], content[0]))
    listed: list[str] = []
    for place in reversed(range(len(boxes))):
        if listed and not _BETWEEN_BOXES.fullmatch(text, boxes[place][1], boxes[place + 1][0]):
            break
        listed.insert(0, boxes[place][2])
    return list(dict.fromkeys(listed))


def _group(text: str, start: int) -> tuple[str, int] | None:
    """(content, length) of the brace group or single token at `start`; None for a group that is cut off or empty."""
    if not text.startswith("{", start):
        token = _BARE.match(text[start : start + 40])
        return (token.group(), token.end()) if token else None
    end = _closing(text, start)
    content = text[start + 1 : end].strip() if end is not None else ""
    return (content, end + 1 - start) if end is not None and content else None


def _closing(text: str, start: int) -> int | None:
    """Where the brace group that begins at `start` is closed; None where it is not, or after too long."""
    depth = 0
    for place in range(start, min(len(text), start + _LONGEST)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return None
