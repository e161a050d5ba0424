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

An interrupted command (Ctrl-C) exits with 130.
"""

from __future__ import annotations

from typing import ClassVar


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
