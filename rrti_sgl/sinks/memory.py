"""The sink of a notebook: everything stays in the process, as the records that were put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.sinks.refusals import check_trace, check_unchanged, closed, not_begun
from rrti_sgl.sinks.sink import Sink


class MemorySink(Sink):
    """Keeps runs in dictionaries, for as long as it is there itself: nothing is durable, and nothing is ever held back.

    Attributes:
        runs: by id, as they began or ended.
        problems: by problem set and id.
        calibrations: by id.
        traces: finished samples by run and sample id, in the order in which they were put.
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunRecord] = {}
        self.problems: dict[tuple[str, str], ProblemRecord] = {}
        self.calibrations: dict[str, CalibrationRecord] = {}
        self.traces: dict[str, dict[str, SampleTrace]] = {}
        self._begun: set[str] = set()
        self._closed = False

    async def begin(self, run: RunRecord, *, resume: bool = False) -> frozenset[str]:
        """See `Sink.begin`."""
        self._check_usable()
        if resume:
            if run.run_id not in self.runs:
                raise UsageError(f"There is no run {run.run_id!r} in memory.")
            check_unchanged(self.runs[run.run_id], run)
            self.runs[run.run_id] = replace(self.runs[run.run_id], status="running", error=None, finished_at=None)
        elif run.run_id in self.runs:
            raise StoreError(f"There is a run {run.run_id} already.", "Use another id.")
        else:
            self.runs[run.run_id] = run
        self._begun.add(run.run_id)
        return frozenset(self.traces.setdefault(run.run_id, {}))

    async def add_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """See `Sink.add_problems`."""
        self._check_usable()
        for problem in problems:
            self.problems.setdefault((problem.problem_set, problem.problem_id), problem)

    async def add_calibration(self, calibration: CalibrationRecord) -> None:
        """See `Sink.add_calibration`."""
        self._check_usable()
        self.calibrations.setdefault(calibration.calibration_id, calibration)

    async def put(self, trace: SampleTrace) -> None:
        """See `Sink.put`."""
        self._check_begun(trace.sample.run_id)
        check_trace(trace)
        self.traces[trace.sample.run_id].setdefault(trace.sample.sample_id, trace)

    async def flush(self) -> None:
        """Nothing is held back."""

    async def end(self, run_id: str, status: RunStatus, error: str | None = None) -> RunRecord:
        """See `Sink.end`."""
        self._check_begun(run_id)
        self._begun.remove(run_id)
        self.runs[run_id] = replace(self.runs[run_id], status=status, error=error, finished_at=datetime.now(UTC))
        return self.runs[run_id]

    async def close(self) -> None:
        """What is there stays there."""
        self._closed = True

    def _check_usable(self) -> None:
        if self._closed:
            raise closed()

    def _check_begun(self, run_id: str) -> None:
        self._check_usable()
        if run_id not in self._begun:
            raise not_begun(run_id)
