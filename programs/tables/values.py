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

import numpy as np
import orjson
import pyarrow as pa

_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_LARGEST = 2**64  # beyond it orjson needs the digits


def json_rows(data: pa.Table) -> list[dict[str, Any]]:
    """The rows of a query as `orjson` takes them."""
    return [{name: json_value(value) for name, value in row.items()} for row in python_rows(data)]


def python_rows(data: pa.Table) -> list[dict[str, Any]]:
    """The rows of a query, values as `values_of` has them."""
    rows = zip(*map(values_of, data.columns), strict=True)
    return [dict(zip(data.column_names, row, strict=True)) for row in rows]


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column; dates and times that Python does not have (infinite, far, 24:00:00) as texts."""
    if not _holds_times(column.type):
        return column.to_pylist(maps_as_pydicts="lossy")  # type: ignore[no-any-return]
    return [_python(value) for value in column]


def with_texts(data: pa.Table) -> pa.Table:
    """A table in which columns with dates or times that Python does not have are texts; lists with such are JSON."""
    for place, field in enumerate(data.schema):
        if _holds_times(field.type):
            values = values_of(data.column(place))
            if pa.types.is_nested(field.type) or any(isinstance(value, str) for value in values):
                texts = [None if value is None else json_text(value) for value in values]
                data = data.set_column(place, field.name, pa.array(texts, pa.string()))
    return data


def _holds_times(of: pa.DataType) -> bool:
    if pa.types.is_date(of) or pa.types.is_time(of) or pa.types.is_timestamp(of):
        return True
    return any(_holds_times(of.field(place).type) for place in range(of.num_fields))


def _python(scalar: pa.Scalar) -> Any:
    of = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_map(of):
        pairs = [(_python(entry[0]), _python(entry[1])) for entry in scalar.values]
        return {json_text(key): value for key, value in pairs}
    if pa.types.is_struct(of):
        return {of.field(place).name: _python(scalar[place]) for place in range(of.num_fields)}
    if pa.types.is_union(of):
        return _python(scalar.value)
    if pa.types.is_nested(of):
        return [_python(value) for value in scalar.values]
    return _time(scalar) if _holds_times(of) else scalar.as_py()


def _time(scalar: pa.Scalar) -> Any:
    """A date or a time, as Python's or as text where Python has none: years beyond 1 to 9999, infinities, 24:00:00."""
    of, number = scalar.type, scalar.value
    unit: Any = "D" if pa.types.is_date(of) else of.unit
    if pa.types.is_time(of):
        return "24:00:00" if number == _DAY[unit] else scalar.as_py()
    if abs(number) == (2**31 if unit == "D" else 2**63) - 1:  # as DuckDB has them
        return "infinity" if number > 0 else "-infinity"
    far = str(np.datetime64(number, unit))
    sign, digits = ("-" if far.startswith("-") else ""), far.lstrip("-")
    year, _, rest = digits.partition("-")
    if not sign and len(year) <= 4 and int(year):
        return scalar.as_py()
    text = f"{sign}{year:0>4}-{rest}"
    return f"{text}+00:00" if pa.types.is_timestamp(of) and of.tz else text


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
