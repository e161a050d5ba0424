"""The seam between decoding and whatever keeps its traces."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rrti_sgl.errors import StoreError
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace


class Sink(Protocol):
    """Takes the samples of runs as they finish; an async context manager that closes itself.

    **Loss.** A sample is kept whole or not at all. What was `put` is durable once a later `flush`, `end` or `close` has
    returned; until then at most what the sink holds back is lost with the process. Of a sample that is put twice the first
    one is kept.

    **Threads.** All methods belong to one event loop and do not stall it: slow work goes on in threads of the sink's own.
    `put` waits while too much is held back. A caller that is cancelled loses nothing that was put.

    **Failure.** A sample that `put` refuses was not taken, and the sink goes on. Once one that was taken cannot be kept,
    nothing more is taken: every later `put`, `flush` and `close` raises the error.

    **Runs.** `begin` comes before the first sample of a run, `end` after its last. A run that never ended, or ended early,
    can be taken up again by `begin` with `resume`, in another process too, and says which of its samples are there. A run
    that several sinks write is begun by one of them, taken up by the others, and ended by the last; the others just close.

    A class that derives from this one gets the context manager.
    """

    async def begin(self, run: RunRecord, *, resume: bool = False) -> frozenset[str]:
        """Register a run, durably, or take up one that is there.

        Returns:
            Ids of the samples of the run that are there already: none of a new run.

        Raises:
            UsageError: a run to resume that is not there.
            StoreError: a new run whose id is taken, or a run whose samples are fixed.
            CalibrationMismatchError: the run that is there was begun with other settings.
        """

    async def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """Add problems that samples name; those that are there already are left as they are."""

    async def add_calibration(self, calibration: CalibrationRecord) -> None:
        """Add the calibration that a run took its thresholds from; where it is there already, nothing changes."""

    async def put(self, trace: SampleTrace) -> None:
        """Take a finished sample.

        Raises:
            StoreError: it contradicts itself, its run is not begun here or ended, an earlier one could not be kept, or the
                sink is closed.
        """

    async def flush(self) -> None:
        """Make everything put so far durable.

        Raises:
            StoreError: it cannot be.
        """

    async def end(self, run_id: str, status: RunStatus, error: str | None = None) -> RunRecord:
        """Note how a run ended, with everything put so far durable. Returns its record.

        Raises:
            StoreError: the run is not begun here; it cannot be "finished", because something that was put could not be kept
                (every other status is noted all the same); or nothing can be noted.
        """

    async def close(self) -> None:
        """Keep what is left and let go of files and threads. It may be called again.

        Raises:
            StoreError: something could not be kept.
        """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An error of the body comes first; what the sink has to say then is in the log.
        with contextlib.suppress(StoreError) if error is not None else contextlib.nullcontext():
            await self.close()
