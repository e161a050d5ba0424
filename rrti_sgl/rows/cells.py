"""Values of rows: where a field is, what counts as missing, and what can be stored as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
Place = str


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
        elif is_list(value) and name.isdigit() and int(name) < len(value):
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
            return int(value) if value == value.to_integral_value() else float(value)
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


def lone_surrogate(value: Any, path: str = "") -> tuple[str, str] | None:
    """(field, character) of the first half of a character in a value; no text has one, only JSON can spell it."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return path, value[error.start]
            return None
        case Mapping():
            items = ((f"{path}.{name}" if path else str(name), one) for name, one in value.items())
        case list():
            items = ((f"{path}.{number}" if path else str(number), one) for number, one in enumerate(value))
        case _:
            return None
    return next((found for name, one in items if (found := lone_surrogate(one, name)) is not None), None)


def _given(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
