"""The line of every key of a TOML text, which `tomllib` does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]


def locate(text: str) -> dict[Path, int]:
    """The lines, from 1, on which tables and keys stand, by their path: `("evaluations", 0, "limit")`.

    A statement (a header, or a key with its value) goes on until it is valid TOML by itself, so a value may span lines. Keys
    inside an inline table stand where it begins.

    Args:
        text: valid TOML.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, statement, content in _statements(text):
        if statement.lstrip().startswith("["):
            table = _open_table(content, counts)
            lines.setdefault(table, number)
            for end in range(1, len(table)):
                lines.setdefault(table[:end], number)
        else:
            for path in _paths(content):
                lines.setdefault(table + path, number)
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of a path, or of the nearest table around it; None where nothing of it is in the file."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def dotted(path: Path) -> str:
    """`evaluations[0].limit`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """(first line, text, what it says by itself) of every statement."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        start = start if pending else number
        pending.append(line)
        statement = "\n".join(pending)
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield start, statement, content
        pending = []


def _open_table(content: dict[str, Any], counts: dict[Path, int]) -> Path:
    """The path of the table that a header opens; `counts` holds how many tables each array has so far."""
    path: Path = ()
    inner: Any = content
    while isinstance(inner, dict) and inner:
        [(key, inner)] = inner.items()
        path += (key,)
        if isinstance(inner, list):  # [[key]]: one table more
            counts[path] = counts.get(path, 0) + 1
            inner = inner[0]
        if path in counts:
            path += (counts[path] - 1,)
    return path


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
