"""Keys of the servers that we start: one for all that a process starts, in files that only their owner may read.

A server's key lies in a file named after its machine and port for as long as it runs. Who connects to an address of this
machine without a key takes the one that lies there, so that the same user needs none; another has to be given it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

from rrti_sgl.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@functools.cache
def own_key() -> str:
    """The key of the servers that this process starts."""
    return secrets.token_urlsafe(32)


def key_path(port: int) -> Path:
    """File with the key of the server at a port of this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rrti" / "keys" / f"{socket.gethostname()}-{port}"


def keep(path: Path, key: str) -> None:
    """Write a key to a file that nobody else may read; one that is there is replaced.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        _write(path, key)
    except OSError as error:
        raise UsageError(
            f"The servers' key cannot be kept in {path} ({error.strerror}).", "Name another folder: XDG_CACHE_HOME=FOLDER."
        ) from error


def _write(path: Path, key: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")


def forget(port: int) -> None:
    """Remove the file of a server that has ended."""
    with contextlib.suppress(OSError):
        key_path(port).unlink()


def found_key(url: str) -> str | None:
    """The key that lies here for the server at an address; None for one of another machine, or where there is none."""
    try:
        parts = urlsplit(url)
        if parts.hostname not in LOOPBACK or parts.port is None:
            return None
        key = key_path(parts.port).read_text(encoding="ascii").strip()
        return key if key and is_key(key) else None
    except (OSError, ValueError, RuntimeError):  # of an address, a file or a home that cannot be read
        return None


def is_key(text: str) -> bool:
    """Whether a text can be sent as a key: without blanks and control characters, in ASCII."""
    return text.isascii() and text.isprintable() and " " not in text


def given_key(path: Path) -> str:
    """The key in a file, or a new one that is written there.

    Raises:
        UsageError: others may read the file, it holds no key, or it cannot be read or written.
    """
    try:
        if not path.exists():
            _write(path, own_key())
        if path.stat().st_mode & 0o077:
            raise UsageError(f"Others may read or write the key file {path}.", f"Take their rights away: chmod 600 {path}.")
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The key file {path} cannot be read or written ({error}).", "Name a file of yours.") from error
    if len(key) < 16 or not is_key(key):
        raise UsageError(f"The key file {path} holds no key.", "Write 16 characters or more on one line, or remove it.")
    return key
