"""Reads one TOML table field by field: types, ranges and choices are checked, and unknown fields found."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.locations import Path

Value = TypeVar("Value")


class TableReader:
    """One table.

    Every method returns the field's value, or the default where the field is missing or wrong; a wrong one is noted. What
    was never asked for is unknown: `finish` notes it.

    Args:
        path: of the table in the file.
        table: its content; anything but a table is noted and read as an empty one.
        complaints: where faults go.
    """

    def __init__(self, path: Path, table: object, complaints: Complaints) -> None:
        self.path, self.complaints = path, complaints
        self._asked: set[str] = set()
        if not isinstance(table, Mapping):
            complaints.add(path, f"{_shown(table)} is no table.")
            table = {}
        self._table: Mapping[str, Any] = table

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def note(self, name: str, message: str) -> None:
        """Note a fault of a field."""
        self.complaints.add((*self.path, name), message)

    def raw(self, name: str) -> Any:
        """The field as TOML has it; None where it is missing."""
        self._asked.add(name)
        return self._table.get(name)

    def text(self, name: str, default: Value, *, choices: Sequence[str] = ()) -> str | Value:
        """A text that is not empty, one of the choices where there are any."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str) or not value.strip():
            self.note(name, f"{_shown(value)} is no text.")
        elif choices and value not in choices:
            self.note(name, f"{value!r} is unknown{_suggestion(value, choices)}. Use {', '.join(choices)}.")
        else:
            return value
        return default

    def needed(self, name: str, example: str) -> str:
        """A text that must be there; "" where it is not."""
        if name not in self._table:
            self.note(name, f"missing. Write for example {name} = {example!r}.")
        return self.text(name, "")

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self.raw(name)
        if value is not None and not isinstance(value, bool):
            self.note(name, f"{_shown(value)} is neither true nor false.")
        return value if isinstance(value, bool) else default

    def integer(self, name: str, default: Value, *, least: int = 1) -> int | Value:
        """A whole number, `least` or more."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.note(name, f"{_shown(value)} is no whole number.")
        elif value < least:
            self.note(name, f"{value} is too small. Use at least {least}.")
        else:
            return value
        return default

    def number(
        self, name: str, default: Value, *, least: float = 0.0, most: float = math.inf, positive: bool = False
    ) -> float | Value:
        """A number from `least` to `most`; a positive one is above 0."""
        value = self.raw(name)
        if value is None:
            return default
        problem = number_problem(value, least, most, positive)
        if problem:
            self.note(name, problem)
            return default
        return float(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none where the field is missing."""
        return self._list(name, str, "texts")

    def integers(self, name: str, default: Value) -> tuple[int, ...] | Value:
        """A list of whole numbers from 0 on, all different."""
        if name not in self._table:
            return default
        values = self._list(name, int, "whole numbers")
        if any(value < 0 for value in values) or len(set(values)) < len(values):
            self.note(name, f"{list(values)} holds a number below 0, or one twice.")
            return default
        return values or default

    def _list(self, name: str, kind: type[Value], called: str) -> tuple[Value, ...]:
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is kind for item in value) or not value:
            self.note(name, f"{_shown(value)} is no list of {called}.")
            return ()
        return tuple(value)

    def tables(self, name: str, example: str) -> list[TableReader]:
        """Tables of an array, at least one."""
        value = self.raw(name)
        if not isinstance(value, list) or not value:
            self.note(name, f"missing: there is no [[{name}]]. Write for example:  [[{name}]]  {example}")
            return []
        return [TableReader((*self.path, name, place), entry, self.complaints) for place, entry in enumerate(value)]

    def table(self, name: str) -> TableReader:
        """A table of this one; an empty one where it is missing."""
        value = self.raw(name)
        return TableReader((*self.path, name), {} if value is None else value, self.complaints)

    def finish(self) -> None:
        """Note every field that nobody asked for."""
        for name in self._table:
            if name not in self._asked:
                self.note(name, f"unknown field{_suggestion(name, sorted(self._asked))}.")


def number_problem(value: object, least: float, most: float, positive: bool) -> str:
    """What keeps a value from being a number in the range; "" for nothing."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return f"{_shown(value)} is no number."
    if (positive and value <= 0) or not least <= value <= most:
        low = f"({least:g}" if positive else f"[{least:g}"
        return f"{value:g} is outside {low}, {f'{most:g}]' if math.isfinite(most) else '...)'}."
    return ""


def _shown(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _suggestion(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
