"""The seam between decoding and whatever keeps its traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace


class Sink(Protocol):
    """Takes the samples of runs as they finish.

    **Loss.** A sample is kept whole or not at all. What was `put` is durable once a later `flush`, `end` or `close` has
    returned; until then at most what the sink holds back is lost with the process. A sample that is put twice is kept once.

    **Threads.** All methods belong to one event loop and do not stall it: slow work goes on in threads of the sink's own.
    `put` waits while too much is held back.

    **Failure.** After the first error nothing more is taken: every later `put` and `flush` raises it. `close` may be called
    again, and after an error.

    **Runs.** `begin` comes before the first sample of a run, `end` after its last. A run that never ended can be taken up
    again by `begin` with `resume`, in another process too, and says which of its samples are there.
    """

    async def begin(self, run: RunRecord, *, resume: bool = False) -> frozenset[str]:
        """Register a run, or take up one that ended early.

        Returns:
            Ids of the samples of the run that are there already: none of a new run.

        Raises:
            StoreError: a new run whose id is taken, or a run to resume that is not there.
            CalibrationMismatchError: the run that is there was begun with other settings.
        """

    async def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """Add problems that samples name; those that are there already are left as they are."""

    async def add_calibration(self, calibration: CalibrationRecord) -> None:
        """Add the calibration that a run took its thresholds from; where it is there already, nothing changes."""

    async def put(self, trace: SampleTrace) -> None:
        """Take a finished sample.

        Raises:
            StoreError: it contradicts itself, its run is unknown, or an earlier one could not be kept.
        """

    async def flush(self) -> None:
        """Make everything put so far durable.

        Raises:
            StoreError: it cannot be.
        """

    async def end(self, run_id: str, status: RunStatus, error: str | None = None) -> RunRecord:
        """Note how a run ended, with everything put so far durable. Returns its record."""

    async def close(self) -> None:
        """Keep what is left and let go of files and threads.

        Raises:
            StoreError: something could not be kept.
        """
