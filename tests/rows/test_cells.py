"""Values of rows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from rrti_sgl.errors import ProblemFileError, UsageError
from rrti_sgl.rows import Complaints, json_value, look_up

ROW = {"a": {"b": [{"c": 1}, float("nan")]}, "a.b": 2, "n": float("nan"), "e": None}


LOOKED_UP = [
    ("a.b", (2, True)),
    ("a.b.0.c", (1, True)),
    ("a.b.1", (None, True)),
    ("a.b.2", (None, False)),
    ("a.b.\u00b2", (None, False)),  # a digit, and no number
    ("a.b." + "1" * 5000, (None, False)),
    ("n", (None, True)),
    ("e", (None, True)),
    ("x", (None, False)),
    ("e.x", (None, False)),
]


@pytest.mark.parametrize(("path", "value"), LOOKED_UP)
def test_look_up(path: str, value: tuple[Any, bool]) -> None:
    assert look_up(ROW, path) == value


@pytest.mark.parametrize(
    ("value", "json_form"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("3"), 3),
        (Decimal("3.5"), 3.5),
        (Decimal("1e76"), 10**76),
        (Decimal("NaN"), None),
        (Decimal("Infinity"), None),
        (Decimal("1e9999"), None),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=2), 2.0),
        (b"\x01\xff", "01ff"),
        ({"a": (1, [float("nan")])}, {"a": [1, [None]]}),
        ({7: True}, {"7": True}),
    ],
)
def test_json_value(value: Any, json_form: Any) -> None:
    assert json_value(value) == json_form
    json.dumps(json_value(value), allow_nan=False)


def test_complaints_are_told_at_once() -> None:
    complaints = Complaints()
    complaints.raise_any("Mend it.")
    complaints.add("f, line 1", "bad", "Look there.")
    with pytest.raises(ProblemFileError) as one:
        complaints.raise_any("Mend it.", error=ProblemFileError)
    assert (one.value.message, one.value.remedy) == ("f, line 1: bad.", "Look there. Mend it.")
    for number in range(2, 31):
        complaints.add(f"f, line {number}", "bad", "Look there.")
    with pytest.raises(UsageError) as many:
        complaints.raise_any("", "nothing was scored")
    assert many.value.message.startswith("The input has 30 problems; nothing was scored.\n  f, line 1: bad\n")
    assert many.value.message.endswith("\n  and 10 more")
    assert many.value.remedy == "Look there."
    assert list(complaints.places)[:2] == ["f, line 1", "f, line 2"]
