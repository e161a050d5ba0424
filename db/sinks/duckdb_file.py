"""The sink into a DuckDB file, through its open store."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.db.sinks.buffered import BufferedSink
from rrti_sgl.db.store import Store
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.sinks.refusals import check_unchanged


class DuckDBSink(BufferedSink):
    """Writes to a store, each batch in one transaction. What was flushed survives the death of the process.

    Args:
        store: open for writing; it stays open.
        flush_rows, flush_seconds, max_rows: of the buffer, see `BufferedSink`.
    """

    def __init__(self, store: Store, *, flush_rows: int = 8192, flush_seconds: float = 1.0, max_rows: int = 131072) -> None:
        super().__init__(flush_rows=flush_rows, flush_seconds=flush_seconds, max_rows=max_rows)
        self._store = store

    def begin_run(self, run: RunRecord, resume: bool) -> frozenset[str]:
        """See `Sink.begin`."""
        if not resume:
            self._store.begin_run(run)
            return frozenset()
        check_unchanged(self._store.get_run(run.run_id), run)
        self._store.resume_run(run.run_id)
        return frozenset(self._store.finished_samples(run.run_id))

    def write_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """See `Sink.add_problems`."""
        self._store.add_problems(problems)

    def write_calibration(self, calibration: CalibrationRecord) -> None:
        """See `Sink.add_calibration`."""
        self._store.add_calibration(calibration, if_missing=True)

    def write(self, traces: Sequence[SampleTrace]) -> None:
        """Write a batch in one transaction."""
        self._store.write_samples(traces)

    def end_run(self, run_id: str, status: RunStatus, error: str | None) -> RunRecord:
        """See `Sink.end`."""
        self._store.finish_run(run_id, status, error)
        return self._store.get_run(run_id)
