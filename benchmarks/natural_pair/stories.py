"""Word problems in plain English with worked solutions, drawn from the stories of `stories.toml`.

The numbers of a problem decide its part, so that no two parts have the numbers of a problem in common, whatever the seeds.
Stories marked `unseen` are in none of the parts that anything is trained or calibrated on.
"""

from __future__ import annotations

import hashlib
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Part = Literal["train", "calibration", "heldout", "unseen"]
PARTS: tuple[Part, ...] = get_args(Part)
LARGEST = 300  # of all values: larger ones test the arithmetic of long numbers
SHORT = 12  # the largest number in the question of a short problem
ONE_STEP = 0.6  # share of short problems with one equation; the others have two

_FILE = tomllib.loads(Path(__file__).with_name("stories.toml").read_text(encoding="utf-8"))
_NAMES: Mapping[str, Sequence[str]] = _FILE["names"]
_STORIES: Sequence[Mapping[str, Any]] = _FILE["stories"]
_GAP = re.compile(r"\{(\w+)\}")
_EQUATION = re.compile(r"\[(\w) = (\w+) ([-+*/]) (\w+)\]")
_BY_HASH: tuple[Part, ...] = ("train",) * 8 + ("calibration", "heldout")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its worked solution, which ends with the answer, the story that it tells, and its number of equations."""

    question: str
    solution: str
    answer: int
    story: str
    steps: int

    def row(self) -> dict[str, Any]:
        """A line of a problem file: the answer as text, and what a query may group by."""
        return {"question": self.question, "answer": str(self.answer), "story": self.story, "steps": self.steps}


def problems(part: Part, seed: int, *, short: bool = False) -> Iterator[Problem]:
    """Problems of one part without end; no question comes twice. Short ones have small numbers, and one or two steps.

    `train`, `calibration` and `heldout` tell the same stories with other numbers; `unseen` tells other stories, with numbers
    of the held-out part.
    """
    rng = random.Random(f"natural-stories:{part}:{seed}")
    unseen = part == "unseen"
    stories = [story for story in _STORIES if story.get("unseen", False) == unseen]
    weights = [story.get("weight", 1) for story in stories]
    seen: set[str] = set()
    while True:
        [story] = rng.choices(stories, weights)
        steps = (1 if rng.random() < ONE_STEP else 2) if short else None
        problem = None
        for _ in range(1000):  # some stories have no problem of so many steps
            telling = _Telling(rng, SHORT if short else LARGEST)
            told = telling.tell(story)
            if told and part_of(telling.numbers) == ("heldout" if unseen else part) and steps in (None, told.steps):
                problem = told
                break
        if problem and problem.question not in seen:
            seen.add(problem.question)
            yield problem


def part_of(numbers: Sequence[int]) -> Part:
    """The part of problems with these numbers, in whatever order."""
    digest = hashlib.sha256(repr(sorted(numbers)).encode()).digest()
    return _BY_HASH[digest[0] % len(_BY_HASH)]


class _Telling:
    """A problem in the making: what was drawn, the values so far, question and solution sentence by sentence."""

    def __init__(self, rng: random.Random, largest: int) -> None:
        self._rng = rng
        self._largest = largest
        self._gaps: dict[str, Any] = {}
        self._question: list[str] = []
        self._solution: list[str] = []
        self._results: list[int] = []
        self.numbers: list[int] = []

    def tell(self, story: Mapping[str, Any]) -> Problem | None:
        """The story with its gaps filled; None if a value is no whole number from 1 to the largest, or nothing is asked."""
        self._cast()
        self._gaps |= {gap: self._rng.choice(words) for gap, words in story.get("words", {}).items()}
        self._add(story)
        if "events" in story:
            for event in self._rng.sample(story["events"], self._rng.randint(*story["steps"])):
                self._add(event)
            self._question.append(self._filled(self._rng.choice(story["ask"])))
        if not self._results or not all(1 <= result <= LARGEST for result in self._results):
            return None
        solution = " ".join([*self._solution, f"The answer is {self._results[-1]}."])
        return Problem(" ".join(self._question), solution, self._results[-1], story["name"], len(self._results))

    def _cast(self) -> None:
        """Two people, and how the first one is referred to."""
        he = self._rng.choice(sorted(_NAMES))
        name = self._rng.choice(_NAMES[he])
        other = self._rng.choice([other for names in _NAMES.values() for other in names if other != name])
        self._gaps = {"name": name, "other": other, "he": he, "He": he.title(), "his": "his" if he == "he" else "her"}

    def _add(self, told: Mapping[str, Any]) -> None:
        """A sentence or more of the question, and those of the solution that follow from it."""
        drawn = {gap: self._number(*between) for gap, between in told.get("numbers", {}).items()}
        self.numbers += drawn.values()
        self._gaps |= drawn
        self._question.append(self._filled(self._rng.choice(told["question"])))
        self._solution += [_EQUATION.sub(self._computed, self._filled(text)) for text in told.get("solution", ())]

    def _number(self, low: int, high: int) -> int:
        return self._rng.randint(low, high) if high <= self._largest else self._rng.randint(2, self._largest)

    def _filled(self, text: str) -> str:
        return _GAP.sub(lambda gap: str(self._gaps[gap[1]]), text)

    def _computed(self, equation: re.Match[str]) -> str:
        """The equation in numbers; a quotient that is no whole number counts as 0, which no problem may have."""
        name, left, sign, right = equation.groups()
        x, y = (self._gaps[side] if side in self._gaps else int(side) for side in (left, right))
        result = {"+": x + y, "-": x - y, "*": x * y, "/": x // y if y and x % y == 0 else 0}[sign]
        self._gaps[name] = result
        self._results.append(result)
        return f"{x} {sign} {y} = {result}"
