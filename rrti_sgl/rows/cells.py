"""Values of rows: where a field is, what counts as missing, and what can be stored as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Place = str
DEEPEST = 100  # levels of lists and objects in a row: whatever walks a row takes some frames of Python's stack for each
_LONGEST_INTEGER = 100  # digits of a decimal that is a whole number


def look_up(row: Row, path: str) -> tuple[Any, bool]:
    """(value, whether the field is there) of a name, or of a path of names and list indices: `outputs.0.text`.

    NaN is what pandas writes for a missing text, so it reads as None.
    """
    if path in row:
        return _given(row[path]), True
    value: Any = row
    for name in path.split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif is_list(value) and is_index(name, len(value)):
            value = value[int(name)]
        else:
            return None, False
    return _given(value), True


def fields_of(row: Row) -> str:
    """The names of a row's fields, for an error."""
    return str(sorted(map(str, row)))


def is_list(value: Any) -> bool:
    """Whether a value is a list, whatever its class."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def is_index(text: str, n: int) -> bool:
    """Whether a text is the index of one of n things, from 0; none has that many digits that Python would not read it."""
    return text.isdecimal() and len(text) < 10 and int(text) < n


def json_value(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities as null, times as ISO text, decimals as numbers, bytes as hex digits."""
    match value:
        case Mapping():
            return {str(name): json_value(one) for name, one in value.items()}
        case str() | bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            whole = value.is_finite() and value == value.to_integral_value() and value.adjusted() < _LONGEST_INTEGER
            return int(value) if whole else json_value(float(value))
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return value.hex()
        case Sequence():
            return [json_value(one) for one in value]
        case _:
            return str(value)


def lone_surrogate(value: Any, path: str = "", depth: int = 0) -> tuple[str, str] | None:
    """(field, character) of the first half of a character in a value; no text has one, only JSON can spell it.

    Raises:
        RecursionError: a value of more than 100 levels.
    """
    if depth > DEEPEST:
        raise RecursionError(f"more than {DEEPEST} levels of lists and objects")
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return path, value[error.start]
            return None
        case Mapping():
            items = ((f"{path}.{name}" if path else str(name), one) for name, one in value.items())
        case list() | tuple():
            items = ((f"{path}.{number}" if path else str(number), one) for number, one in enumerate(value))
        case _:
            return None
    return next((found for name, one in items if (found := lone_surrogate(one, name, depth + 1)) is not None), None)


def unstorable(row: Any) -> tuple[str, str] | None:
    """(what is wrong, remedy) of a row that holds what no store keeps; None of any other."""
    try:
        found = lone_surrogate(row)
    except RecursionError as error:
        return f"cannot be read ({error})", ""
    if found is None:
        return None
    field, character = found
    if "\udc80" <= character <= "\udcff":
        return "not UTF-8", "Save the file as UTF-8."
    return f"field {field!r} has half a character, {character!r}: a lone surrogate", ""


def _given(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
