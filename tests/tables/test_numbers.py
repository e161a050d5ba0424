"""Numbers look as what they are, everywhere the same."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.programs.tables.kinds import ByRow, named_text
from rrti_sgl.programs.tables.numbers import (
    BYTES,
    COEFFICIENT,
    COUNT,
    IDENTIFIER,
    LEVEL,
    NUMBER,
    POINTS,
    RATE,
    RATIO,
    ROUGH,
    SETTING,
    SHARE,
    WHOLE_SHARE,
    Kind,
    duration,
)

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (SHARE, 0.215, "21.5%"),
        (SHARE, 1, "100.0%"),
        (SHARE, 0.0, "0.0%"),
        (SHARE, 0.0004, "0.04%"),
        (SHARE, -0.05, "−5.0%"),
        (WHOLE_SHARE, 0.862, "86%"),
        (WHOLE_SHARE, 0.004, "0.4%"),
        (LEVEL, 0.08, "8%"),
        (LEVEL, 0.125, "12.5%"),
        (LEVEL, 0.001, "0.1%"),
        (POINTS, 0.76, "+76.0"),
        (POINTS, -0.031, "−3.1"),
        (POINTS, 0.0, "0.0"),
        (POINTS, -0.0, "0.0"),
        (POINTS, 0.1 + 0.2 - 0.3, "0.0"),
        (COEFFICIENT, -2.8e-17, "0.000"),
        (RATE, 0.0366, "0.037"),
        (RATE, 0.00037, "0.0004"),
        (COEFFICIENT, 0.8964, "0.896"),
        (RATIO, 5.587, "5.59"),
        (NUMBER, 0.12345, "0.123"),
        (NUMBER, 12.345, "12.3"),
        (NUMBER, 12345.6, "12,346"),
        (NUMBER, 12345, "12,345"),
        (NUMBER, 3e-9, "3.00e−09"),
        (NUMBER, 0.0, "0"),
        (NUMBER, 2**60 + 1, "1,152,921,504,606,846,977"),
        (NUMBER, Decimal(166098), "166,098"),
        (NUMBER, Decimal("2.5"), "2.50"),
        (NUMBER, INFINITY, "∞"),
        (NUMBER, -INFINITY, "−∞"),
        (POINTS, INFINITY, "+∞"),
        (COUNT, 10438, "10,438"),
        (COUNT, 1321.4, "1,321"),
        (IDENTIFIER, 12345678, "12345678"),
        (SETTING, 0.80, "0.8"),
        (SETTING, 0.0, "0"),
        (SETTING, 16, "16"),
        (SETTING, 0.6833, "0.683"),
        (ROUGH, 950, "950"),
        (ROUGH, 12_345, "12.3k"),
        (ROUGH, 4_560_000, "4.56M"),
        (BYTES, 34_877_440, "34.9 MB"),
        (BYTES, 3_400_000_000, "3.4 GB"),
        (BYTES, 950, "950 B"),
        (BYTES, 0, "0"),
        *[(kind, missing, "–") for kind in (SHARE, COUNT, NUMBER, BYTES) for missing in (None, NAN)],
    ],
)
def test_numbers(kind: Kind, value: Any, shown: str) -> None:
    assert kind.text(value) == shown


@pytest.mark.parametrize(
    ("kind", "values", "shown"),
    [
        (SHARE, (0.215, 0.16, 0.275), "21.5% [16.0, 27.5]"),
        (SHARE, (0.0, 0.0, 0.018), "0.0% [0.0, 1.8]"),
        (SHARE, (0.0004, 0.0, 0.0123), "0.04% [0.00, 1.23]"),
        (POINTS, (-0.01, -0.05, 0.031), "−1.0 [−5.0, +3.1]"),
        (POINTS, (2.8e-17, -0.125, 0.25), "0.0 [−12.5, +25.0]"),
        (NUMBER, (0.6833, 0.68, 0.69), "0.683 [0.680, 0.690]"),
        (NUMBER, (0.5, 0.41, 0.6321), "0.500 [0.410, 0.632]"),
        (NUMBER, (0.0, 0.0, 0.0123), "0.0000 [0.0000, 0.0123]"),
        (NUMBER, (9.45, 9.186, 9.754), "9.45 [9.19, 9.75]"),
        (RATIO, (2.0, 0.5, INFINITY), "2.00 [0.50, ∞]"),
        (SHARE, (0.25, None, None), "25.0%"),
        (SHARE, (0.25, NAN, 0.5), "25.0%"),
        (SHARE, (None, 0.1, 0.2), "–"),
    ],
)
def test_intervals(kind: Kind, values: tuple[Any, Any, Any], shown: str) -> None:
    assert kind.interval(*values) == shown


@given(
    st.sampled_from([SHARE, POINTS, RATE, COEFFICIENT, RATIO, NUMBER]),
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
)
def test_bounds_have_the_decimals_of_their_number(kind: Kind, values: list[float]) -> None:
    low, value, high = sorted(values)
    decimals = {len(digits) for digits in re.findall(r"\.(\d+)", kind.interval(value, low, high))} or {0}
    assert len(decimals) == 1


@given(st.floats(1e-6, 1.0))
def test_what_is_not_nothing_does_not_look_like_it(value: float) -> None:
    for kind in (SHARE, WHOLE_SHARE, RATE, COEFFICIENT, NUMBER, LEVEL, SETTING):
        assert re.search("[1-9]", kind.text(value))


def test_a_column_of_unlike_numbers_goes_by_its_row() -> None:
    kind = ByRow({("statistic", "gini"): COEFFICIENT, ("statistic", "top"): SHARE})
    assert kind.of({"statistic": "top", "value": 1}) is SHARE
    assert kind.of({"statistic": "else"}) is kind.of({}) is NUMBER


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accuracy", 0.975, "97.5%"),
        ("rho", 0.0366, "0.037"),
        ("samples", 3440, "3,440"),
        ("bytes", 1_234_567, "1.23 MB"),
        ("k", 20, "20"),
        ("value", 0.5, "0.500"),
        ("path", "a.duckdb", "a.duckdb"),
        ("fired", True, "True"),
    ],
)
def test_single_values_go_by_their_name(name: str, value: Any, shown: str) -> None:
    assert named_text(name, value) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.2, "1 s"), (99, "99 s"), (100, "2 min"), (5_399, "90 min"), (7_200, "2.0 h"), (200_000, "2.3 days")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
