"""Whole files or none: what is there stays until what replaces it is complete."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rrti_sgl.errors import UsageError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside it, then rename it; text is UTF-8.

    A link stays and its target is replaced. What is there and no regular file (a device, a pipe) is written to as it is.

    Raises:
        UsageError: the folder is not there or cannot be written to, or `path` is a folder; an old file is unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        if path.exists() and not path.is_file():
            with path.open("wb", buffering=0) as there:
                there.write(data)
            return
        path = path.resolve()
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.", "Name another file.") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder with its parents.

    Raises:
        UsageError: something else is in the way, or it must not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {path} cannot be made: {error.strerror}.", "Name another folder.") from error


def _umask() -> int:
    """The process's mask; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
