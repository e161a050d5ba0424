"""Numbers as text. What a number is, its `Kind`, decides how it is written, wherever it stands.

An accuracy is 21.5% in the demonstration, in `rrti stats`, in an experiment's table and in the report. Files of rows (JSON,
CSV, Parquet) hold numbers as they are and need none of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

MISSING = "–"
MINUS = "−"
_SMALLEST = 1e-4  # what is smaller is written with an exponent
_MOST_DECIMALS = 6
_ROUNDING = 1e-12  # what adding up leaves of shares that cancel


@dataclass(frozen=True, slots=True)
class Kind:
    """What a number is.

    Args:
        decimals: at least so many, and more where they would show nothing but zeros; None shows three significant digits.
        factor: what the number is multiplied by.
        suffix: written behind it.
        signed: write the plus of positive numbers: for differences.
        unit: named in headings.
        trimmed: leave zeros at the end out: for what somebody chose, such as a temperature.
        separated: separate thousands.
        steps: sizes that are written in units of their own, the largest first.
    """

    decimals: int | None = None
    factor: int = 1
    suffix: str = ""
    signed: bool = False
    unit: str = ""
    trimmed: bool = False
    separated: bool = True
    steps: Sequence[tuple[float, str]] = ()

    def text(self, value: Any) -> str:
        """A number; None and NaN are a dash."""
        return MISSING if _is_missing(value) else self._written(self._settled(value), None) + self.suffix

    def interval(self, value: Any, low: Any, high: Any) -> str:
        """`21.5% [16.0, 27.5]`: the bounds with as many decimals as the number; without bounds the number alone."""
        if _is_missing(value) or _is_missing(low) or _is_missing(high):
            return self.text(value)
        value, low, high = map(self._settled, (value, low, high))
        decimals = self._decimals(value or high)
        written, *bounds = (self._written(number, decimals) for number in (value, low, high))
        return f"{written}{self.suffix} [{', '.join(bounds)}]"

    def _settled(self, value: Any) -> Any:
        """The number; nothing where it is the rounding error of one that has decimals."""
        return 0.0 if self.decimals is not None and 0 < abs(value) < _ROUNDING else value

    def _written(self, value: Any, decimals: int | None) -> str:
        """Without the suffix, with so many decimals; None decides."""
        if isinstance(value, Decimal):
            value = int(value) if value == value.to_integral_value() else float(value)
        number = value * self.factor or 0  # no sign before nothing
        plus = "+" if self.signed and number else ""
        if not math.isfinite(number):
            return f"{number:{plus}}".replace("inf", "∞").replace("-", MINUS)
        for size, unit in self.steps:
            if abs(number) >= size:
                return _trimmed(f"{number / size:.{max(0, 2 - _magnitude(number / size))}f}") + unit
        comma = "," if self.separated else ""
        if decimals is None:
            if 0 < abs(number) < _SMALLEST:
                return f"{number:{plus}.2e}".replace("-", MINUS)
            decimals = self._decimals(value)
        exact = isinstance(number, int) and not decimals
        text = f"{number:{plus}{comma}}" if exact else f"{number:{plus}{comma}.{decimals}f}"
        return (_trimmed(text) if self.trimmed else text).replace("-", MINUS)

    def _decimals(self, value: Any) -> int:
        number = abs(value * self.factor)
        if not number or not math.isfinite(number):
            return self.decimals or 0
        if self.decimals is None:
            return 0 if isinstance(value, int) else min(_MOST_DECIMALS, max(0, 2 - _magnitude(number)))
        return max(self.decimals, min(_MOST_DECIMALS, -_magnitude(number)))


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _magnitude(number: float) -> int:
    return math.floor(math.log10(abs(number))) if number else 0


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


NUMBER = Kind()
NATS = Kind(unit="nats")
SHARE = Kind(1, 100, "%")
WHOLE_SHARE = Kind(0, 100, "%")
LEVEL = Kind(factor=100, suffix="%", trimmed=True)  # a share that somebody chose
POINTS = Kind(1, 100, signed=True)  # a difference of two shares, in percentage points
RATE = Kind(3)  # takeovers per token
COEFFICIENT = Kind(3)  # Gini, AUROC, correlations, overlaps
RATIO = Kind(2)
DIFFERENCE = Kind(2, signed=True)
COUNT = Kind(0)
IDENTIFIER = Kind(0, separated=False)  # ids, seeds, positions, k
SETTING = Kind(trimmed=True)
ROUGH = Kind(0, steps=((1e9, "G"), (1e6, "M"), (1e3, "k")))
BYTES = Kind(0, steps=((1e12, " TB"), (1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")))


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds is None:
        return "?"
    for least, per, unit, decimals in ((86_400, 86_400, "days", 1), (5_400, 3_600, "h", 1), (100, 60, "min", 0)):
        if seconds >= least:
            return f"{seconds / per:.{decimals}f} {unit}"
    return f"{max(seconds, 1):.0f} s"
