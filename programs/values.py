"""The values that options take: types with limits, and how a value that does not fit is told.

The types are for models with strict validation: pydantic then takes no text for a number, and no number for a text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import ErrorDetails

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError, argument

_KINDS = {
    "int": "whole number",
    "float": "number",
    "finite": "number",
    "string": "text",
    "list": "list",
    "dict": "table",
    "model": "table",
}
_BOUNDS = {
    "greater_than": ("is too small.", "Use more than {gt:g}."),
    "greater_than_equal": ("is too small.", "Use at least {ge:g}."),
    "less_than_equal": ("is too large.", "Use at most {le:.19g}."),
}
SHOWN_LENGTH = 60


def limited(fits: Callable[[Any], bool], wrong: str, remedy: str = "") -> AfterValidator:
    """Takes the values that fit; of others it says what is wrong with them, after the value, and what to do."""

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(wrong, remedy)
        return value

    return AfterValidator(check)


def one_of(known: Iterable[str]) -> AfterValidator:
    """Names that are known."""
    names = list(known)

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(*_unknown(value, names))
        return value

    return AfterValidator(check)


def loadable(load: Callable[[str], object]) -> AfterValidator:
    """Names that something can be loaded by; the error of `load` says what is wrong."""

    def check(value: str) -> str:
        try:
            load(value)
        except UsageError as error:
            raise ValueError(error) from error
        return value

    return AfterValidator(check)


Count = Annotated[int, Field(ge=1, le=bounds.COUNT)]
Natural = Annotated[int, Field(ge=0, le=bounds.COUNT)]
Seed = Annotated[int, Field(ge=-bounds.WHOLE, le=bounds.WHOLE)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Nats = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(pattern=r"\S")]


def given_path(name: str, value: str | Path) -> Path:
    """The path of an argument; an empty one would be the folder that one is in, where a variable was not set.

    Raises:
        UsageError: it is blank.
    """
    if not str(value).strip():
        raise UsageError(f"{argument(name, str(value))} is no path.", "Name a file or a folder.")
    return Path(value)


def told(fault: ErrorDetails, known: Sequence[str] = ()) -> tuple[str, str]:
    """What is wrong with a value, beginning with the value, and what to do about it.

    Args:
        fault: as pydantic has it.
        known: names that there are, where the fault is an unknown one.
    """
    kind, value = fault["type"], shown(fault["input"])
    if kind == "value_error":
        wrong = fault["ctx"]["error"].args
        return (wrong[0].message, wrong[0].remedy) if isinstance(wrong[0], UsageError) else (f"{value} {wrong[0]}", wrong[1])
    if kind == "literal_error":
        wrong, remedy = _unknown(fault["input"], re.findall(r"'([^']+)'", fault["ctx"]["expected"]))
        return f"{value} {wrong}", remedy
    if kind == "extra_forbidden":
        name = str(fault["loc"][-1])
        near = suggestion(name, known)
        return f"unknown field{near or '.'}", "" if near else f"There are {', '.join(known)}."
    if kind == "missing":
        return "missing.", ""
    if kind in _BOUNDS:
        wrong, remedy = _BOUNDS[kind]
        return f"{value} {wrong}", remedy.format(**fault["ctx"])
    if kind.startswith("bool"):
        return f"{value} is neither true nor false.", ""
    return f"{value} is no {_KINDS.get(kind.partition('_')[0], 'value of this kind')}.", ""


def shown(value: object) -> str:
    """A value in a message, at most so long."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."


def _unknown(value: object, known: Sequence[str]) -> tuple[str, str]:
    return f"is unknown{suggestion(str(value), known) or '.'}", f"Use one of {', '.join(known)}."


def suggestion(name: str, known: Sequence[str]) -> str:
    """The rest of a message on an unknown name: the one that was meant, if one is near."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
