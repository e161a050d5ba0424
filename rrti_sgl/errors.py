"""Every error that rrti-sgl raises on purpose, in one tree, each with the exit code of the command line.

::

    RRTIError                  1   anything below
    +-- UsageError             2   an option, a file or a name that the caller gave is wrong
    |   +-- ProblemFileError   3   a problem file is empty or malformed (names the line)
    |   +-- ExperimentFileError 11 an experiment file asks for what cannot be (names every line)
    +-- EndpointError          4   a server cannot be reached, is no SGLang server, or died
    |   +-- ServerLaunchError  5   a server that we start does not come up
    +-- PairMismatchError      6   the two models do not share a vocabulary
    +-- CalibrationMismatchError 7   a calibration belongs to another k, metric or pair of models
    +-- StoreError             8   the trace store cannot be used
        +-- StoreLockedError   9   another process holds the store
        +-- StoreVersionError 10   the store's schema is older or newer than this package

An interrupted command (Ctrl-C) exits with 130; a fault of ours, which none of these is, with 70 and its traceback in a file.

A message names what its caller gave by `argument` and `command`, and each surface spells that as its users write it: a
Python call `tau=0.5`, the command line `--tau 0.5`, an experiment file `tau = 0.5`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar


class Spelling:
    """How messages spell what the caller gave; this one as Python does. Other surfaces derive from it."""

    def argument(self, name: str, value: Any, text: str) -> str:
        """An argument, with a value if that is not `...`, or with a text that begins with its value."""
        return f"{name}={text if value is ... else repr(value)}"

    def command(self, name: str, options: dict[str, Any]) -> str:
        """The call that is the same as a command, or the command where no call is."""
        if name not in _CALLS:
            return " ".join(["rrti", name, *(f"--{option.replace('_', '-')}" for option in options)])
        given = [self.argument(option, value, "") for option, value in options.items() if option != "db"]
        return f"{_CALLS[name]}({', '.join(['...', *given])})"


# Of a pair, and of a store; other commands have none that is the same, and are typed.
_CALLS = {**{name: name for name in ("run", "calibrate", "score", "counterfactual")}, "sql": "open"}
_PYTHON = Spelling()
_SPELLING: ContextVar[Spelling] = ContextVar("spelling", default=_PYTHON)


@contextlib.contextmanager
def spelled(spelling: Spelling) -> Iterator[None]:
    """The block is a surface's own: messages that are made in it are spelled so."""
    token = _SPELLING.set(spelling)
    try:
        yield
    finally:
        _SPELLING.reset(token)


def argument(name: str, value: Any = ..., text: str = "") -> str:
    """How a message names an argument of its caller.

    Args:
        name: as the field or the argument of the Python call is called: `tau`, `use_lambda`, `base_url`.
        value: which is meant; `...` where it is any.
        text: what is said of a value that was given, beginning with the value; in place of `value`.
    """
    return _SPELLING.get().argument(name, value, text)


def command(name: str, **options: Any) -> str:
    """How a message names what its caller may do next: a command of `rrti`, or the call that is the same."""
    return _SPELLING.get().command(name, options)


class RRTIError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong: the field and the value.
        remedy: what to do about it, in the imperative; printed on its own line.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def raise_all(errors: Sequence[RRTIError]) -> None:
    """Raise errors as one that says all that is wrong, each with its remedy; nothing where there are none.

    Raises:
        RRTIError: the error itself where there is one; of the first's class where there are several.
    """
    if len(errors) > 1:
        lines = "\n".join(f"  {place}. {error.message} {error.remedy}".rstrip() for place, error in enumerate(errors, 1))
        raise type(errors[0])(f"{len(errors)} things are wrong:\n{lines}")
    for error in errors:
        raise error


def need_posix(what: str) -> None:
    """Refuse, on Windows, what needs POSIX: groups of processes, limits of the kernel.

    Args:
        what: the beginning of the sentence, up to "needs" or "need".

    Raises:
        UsageError: this is Windows.
    """
    if sys.platform == "win32":
        raise UsageError(f"{what} Linux, and this is Windows.", "Use the Windows Subsystem for Linux, or a container.")


class UsageError(RRTIError):
    """An option, a file or a name given by the caller is wrong."""

    exit_code = 2


class ProblemFileError(UsageError):
    """A problem file is empty or malformed."""

    exit_code = 3


class ExperimentFileError(UsageError):
    """An experiment file asks for something that cannot be; the message has a line for each fault."""

    exit_code = 11


class EndpointError(RRTIError):
    """A server cannot be reached, is no SGLang server, refused a request, or died."""

    exit_code = 4


class ServerLaunchError(EndpointError):
    """A server started by us did not come up."""

    exit_code = 5


class PairMismatchError(RRTIError):
    """The two models do not share one vocabulary."""

    exit_code = 6


class CalibrationMismatchError(RRTIError):
    """A calibration belongs to another k, metric, score kind or pair of models."""

    exit_code = 7


class StoreError(RRTIError):
    """The trace store cannot be used as asked."""

    exit_code = 8


class StoreLockedError(StoreError):
    """Another process holds the store open for writing."""

    exit_code = 9


class StoreVersionError(StoreError):
    """The store's schema is older or newer than this package."""

    exit_code = 10
