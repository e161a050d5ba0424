"""Flags as they are typed in one text, taken apart into words as a shell does."""

from __future__ import annotations

import shlex

from rrti_sgl.errors import UsageError, argument

_SHOWN = 60


def words(name: str, text: str) -> list[str]:
    """The words of a text of flags.

    Args:
        name: of the argument that holds it.
        text: as it is typed.

    Raises:
        UsageError: a quotation is not closed, or a backslash ends the text; names the argument.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
        message = argument(name, text=f"{shown} is no list of flags ({str(error).lower()}).")
        raise UsageError(message, "Close every quotation, and double a backslash.") from error
