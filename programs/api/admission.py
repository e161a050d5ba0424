"""How much is in flight and waits: what is beyond it is told to come again, at once."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rrti_sgl.programs.api.refusals import RefusedError

_LONGEST_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint takes.

    Args:
        waiting: samples that may wait beside those that are decoded.
        unstored: finished samples that may wait for the store; those in flight have their places reserved.
        body_bytes: of a request.
        body_s: seconds in which a body has to arrive.
        idle_s: seconds in which a reader has to take a piece of its answer.
        grace_s: seconds that running requests have to finish when the endpoint stops.
    """

    waiting: int = 256
    unstored: int = 1024
    body_bytes: int = 2**20
    body_s: float = 30.0
    idle_s: float = 60.0
    grace_s: float = 30.0


class Admission:
    """Counts samples from their request to their end. Belongs to one event loop.

    Args:
        in_flight: samples that are decoded at once.
        limits: of what waits.
    """

    def __init__(self, in_flight: int, limits: Limits) -> None:
        self.in_flight, self.limits = in_flight, limits
        self.admitted = self._read = 0
        self.stopping = False
        self._seconds = 1.0  # of a sample, on average of late

    @property
    def running(self) -> int:
        """Samples that are decoded."""
        return min(self.admitted, self.in_flight)

    @property
    def most(self) -> int:
        """Samples that may be admitted."""
        return self.in_flight + self.limits.waiting

    @property
    def waiting(self) -> int:
        """Samples that wait for a place."""
        return self.admitted - self.running

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """A place for one request that is read and has its prompts made, for as long as the block lasts.

        Raises:
            RefusedError: there is none, or no sample of it would have one, or the endpoint stops.
        """
        self.check_running()
        if max(self._read, self.admitted) >= self.most:
            raise self.full("The endpoint is at its limit.", self._seconds)
        self._read += 1
        try:
            yield
        finally:
            self._read -= 1

    @contextlib.contextmanager
    def places(self, n: int) -> Iterator[None]:
        """Places for n samples, for as long as the block lasts.

        Raises:
            RefusedError: there are not so many, now or ever, or the endpoint stops.
        """
        most = self.most
        if n > most:
            raise RefusedError(
                f"n: {n} samples are asked for at once. Use at most {most}.", param="n", code="too_many_samples"
            )
        self.check_running()
        if self.admitted + n > most:
            raise self.full("The endpoint is at its limit.", (self.admitted + n - most) / self.in_flight * self._seconds)
        self.admitted += n
        begun = time.monotonic()
        try:
            yield
            self._seconds += 0.1 * (time.monotonic() - begun - self._seconds)
        finally:
            self.admitted -= n

    def check_running(self) -> None:
        """Raises RefusedError where the endpoint stops."""
        if self.stopping:
            raise RefusedError(
                "The endpoint is stopping.", status=503, kind="server_error", code="stopping", retry_after_s=5
            )

    def full(self, what: str, seconds: float) -> RefusedError:
        """The refusal of what may come again in so many seconds."""
        after = min(max(1, math.ceil(seconds)), _LONGEST_RETRY_S)
        message = f"{what} Try again in {after} s."
        return RefusedError(message, status=429, kind="rate_limit_error", code="rate_limit_exceeded", retry_after_s=after)
