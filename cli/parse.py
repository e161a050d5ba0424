"""What can be typed and how it is read: parameters of commands, NAME=VALUE options, lists of indices, what was given."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

import typer

from rrti_sgl.errors import UsageError

# What `orjson` says of JSON that is right and cannot be held: such a value is no text.
_UNREADABLE = {"depth limit": "has too many brackets within brackets.", "infinity": "is too large a number."}


def with_signature(called: Callable[..., None], command: Callable[..., None], parameters: Sequence[Parameter]) -> None:
    """Let typer see a function as a command with these parameters; name and help are those of `command`."""
    called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
    called.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]


def name_value(option: str, text: str) -> tuple[str, Any]:
    """A NAME=VALUE; the value is JSON, or else the text itself.

    Raises:
        UsageError: there is no `=`, or a value that JSON begins and nobody can hold.
    """
    import orjson

    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{option} {text!r} is no NAME=VALUE.", f"Write for example {option} p=0.05.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError as error:
        for sign, wrong in _UNREADABLE.items():
            if sign in str(error):
                raise UsageError(f"{option} {name}={value[:20]}... {wrong}", "Write a shorter value.") from error
        return name, value


def indices(option: str, text: str | None) -> tuple[int, ...] | None:
    """Numbers from 0, with commas between them; None where nothing was typed.

    Raises:
        UsageError: a part is no such number.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"{option} {text!r} is no list of indices.", f"Write for example {option} 0,1.")
    return tuple(map(int, parts))


def given(context: typer.Context) -> dict[str, str]:
    """What was typed, not left to its default: names of parameters -> their first spelling."""
    spelled = {parameter.name: parameter.opts[0] for parameter in context.command.params if parameter.name}
    sources = {name: context.get_parameter_source(name) for name in spelled}
    return {name: spelled[name] for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def typed(context: typer.Context) -> list[str]:
    """The options with a value that were typed, each with it; one that was repeated each time."""
    found = []
    for name, flag in given(context).items():
        value = context.params[name]
        values = value if isinstance(value, list | tuple) else [value]
        found += [f"{flag} {shlex.quote(str(each))}" for each in values if flag.startswith("-") and each is not True]
    return found
