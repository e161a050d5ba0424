"""Values of a query as JSON has them: what it has no type for as text, numbers with all their digits.

Bytes are hex digits, times ISO 8601, spans of time ISO 8601 durations (`P1M2DT3.5S`), and numbers that JSON cannot spell the
texts "NaN", "Infinity" and "-Infinity": null is NULL and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
_LARGEST = 2**64  # beyond it orjson needs the digits


def json_rows(data: pa.Table) -> list[dict[str, Any]]:
    """The rows of a query as `orjson` takes them."""
    rows = data.to_pylist(maps_as_pydicts="lossy")
    return [{name: json_value(value) for name, value in row.items()} for row in rows]


def json_value(value: Any) -> Any:
    """A value as `orjson` takes it."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if 2 * value > -_LARGEST and value < _LARGEST else orjson.Fragment(str(value))
        case float():
            return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
        case Decimal():
            return orjson.Fragment(_digits(value))
        case bytes():
            return value.hex()
        case date() | time():
            return value.isoformat()
        case pa.MonthDayNano():
            return _duration(*value)
        case Mapping():
            return {str(name): json_value(one) for name, one in value.items()}
        case Sequence():
            return [json_value(one) for one in value]
        case _:
            return str(value)


def json_text(value: Any) -> str:
    """A value that is no number or plain text, as one line: JSON, without the quotes of a text."""
    found = json_value(value)
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _digits(value: Decimal) -> str:
    """All digits of a finite decimal, without zeros at the end of a fraction."""
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _duration(months: int, days: int, nanoseconds: int) -> str:
    sign, seconds = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), 10**9)
    part = f"{seconds[0]}.{seconds[1]:09}".rstrip("0").rstrip(".")
    return f"P{months}M{days}DT{sign}{part}S"
