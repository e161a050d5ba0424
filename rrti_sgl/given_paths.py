"""Paths as callers give them: an empty one would be the folder that one is in, where a variable was not set."""

from __future__ import annotations

from pathlib import Path

from rrti_sgl.errors import UsageError, argument


def given_path(name: str, value: str | Path) -> Path:
    """The path of an argument.

    Raises:
        UsageError: it is blank.
    """
    if not str(value).strip():
        raise UsageError(f"{argument(name, str(value))} is no path.", "Name a file or a folder.")
    return Path(value)
