"""The parameters of statistics: a default, and which values are allowed."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl import bounds
from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import UsageError


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a statistic. Make it by one of the functions below.

    Attributes:
        default: its value when none is given; None where the statistic chooses.
        wanted: what the allowed values are, in words, for the error message.
        allows: whether a value is allowed.
        is_run: it refers to runs, by id, prefix or program: "one" exactly one, "many" any number of them.
        order: of the values of a list, what they are sorted by; None: by themselves.
    """

    default: Any
    wanted: str
    allows: Callable[[Any], bool]
    is_run: str = ""
    order: Callable[[Any], Any] | None = None

    def checked(self, name: str, value: Any) -> Any:
        """The value; lists sorted and without repetitions, a single value in place of a list as a list of one.

        Raises:
            UsageError: it is not allowed; the message says what is.
        """
        if value is None and self.default is None:
            return None
        if isinstance(self.default, list) and not isinstance(value, list | tuple):
            value = [value]
        if not self.allows(value):
            raise UsageError(f"The parameter {name!r} cannot be {reprlib.repr(value)}.", f"Give {self.wanted}.")
        return sorted(set(value), key=self.order) if isinstance(value, list | tuple) else value


def metric(default: str = "ce") -> Parameter:
    """A score column of `tokens`."""
    return Parameter(default, f"one of {', '.join(SCORES)}", lambda value: value in SCORES)


def metrics(*defaults: str) -> Parameter:
    """Score columns of `tokens`, one table each, under one another."""
    wanted = f"one of {', '.join(SCORES)}, or a list of them"
    return Parameter(list(defaults), wanted, _all(lambda value: value in SCORES), order=SCORES.index)


def share(default: float) -> Parameter:
    """A number between 0 and 1, both excluded."""
    return Parameter(default, "a share between 0 and 1", _is_share)


def shares(*defaults: float) -> Parameter:
    """A list of numbers between 0 and 1, both excluded."""
    return Parameter(list(defaults), "a list of shares between 0 and 1", _all(_is_share))


def part(default: float) -> Parameter:
    """A number from 0 to 1."""
    return Parameter(default, "a share from 0 to 1", lambda value: value in (0, 1) or _is_share(value))


def count(default: int | None, least: int = 1, most: int = bounds.COUNT) -> Parameter:
    """A whole number from `least` to `most`; a default of None leaves it to the statistic."""
    return Parameter(default, f"a whole number from {least} to {most}", lambda value: _is_count(value, least, most))


def counts(*defaults: int) -> Parameter:
    """A list of whole numbers from 1."""
    return Parameter(list(defaults), f"a list of whole numbers from 1 to {bounds.COUNT}", _all(_is_count))


def choice(default: str, *others: str) -> Parameter:
    """One of a few words."""
    words = (default, *others)
    return Parameter(default, f"one of {', '.join(words)}", lambda value: value in words)


def one_run() -> Parameter:
    """A run id, a prefix of one or a program that matches exactly one run; it becomes the run's id."""
    return Parameter(None, "a run", lambda value: isinstance(value, str), "one")


def many_runs() -> Parameter:
    """Run ids, prefixes or programs; they become the list of the ids that match."""
    return Parameter(None, "a run or a list of runs", lambda value: isinstance(value, str) or _all(_is_text)(value), "many")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _is_count(value: Any, least: int = 1, most: int = bounds.COUNT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _all(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def are(value: Any) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and 0 < len(value) <= bounds.RESAMPLES
            and all(map(test, value))
        )

    return are
