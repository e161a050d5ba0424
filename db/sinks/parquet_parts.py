"""The sink into a folder of Parquet parts: many writers in many processes, and no lock."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from rrti_sgl.db import connection as opening
from rrti_sgl.db import folders, inserting, record_rows, relations, run_ids
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.layouts import Precision, check_precision
from rrti_sgl.db.sinks.buffered import BufferedSink
from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.sinks.refusals import check_unchanged


class ParquetSink(BufferedSink):
    """Writes parts of runs: folders `FOLDER/RUN/WRITER-NUMBER` in the format of sealed runs (`rrti_sgl.db.folders`).

    A part gets its name when it is complete and durable, and never changes. Each sink is a writer with a name of its own, so
    sinks in any number of processes share a folder; `rrti db attach FOLDER` merges what is there into a store. What a killed
    writer was about to write is left in a hidden folder that nobody reads.

    A part can be read on its own: it has samples of one run with their tokens, the problems that they name, the run's
    calibrations, and the run's record as its writer knew it. The first part of a writer has all problems that it was told.
    `begin` of a new run writes a part without samples, which the other writers find when they take the run up. `end` writes
    one that says how the run ended: of several ends the latest counts, and while no part has one, the run is running.

    Args:
        folder: of the parts; made when it is missing.
        precision: of the tokens, see `rrti_sgl.db.layouts`.
        flush_rows: token rows that make a part; a single sample may have more.
        flush_seconds: how long a sample may wait for its part to fill.
        max_rows: token rows that are held at most, those being written included.
        is_emptied: somebody takes parts away meanwhile, so that of a run that is taken up no other part is read.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        precision: Precision = "compact",
        flush_rows: int = folders.ROW_GROUP,
        flush_seconds: float = 60.0,
        max_rows: int = 2 * folders.ROW_GROUP,
        is_emptied: bool = False,
    ) -> None:
        super().__init__(flush_rows=flush_rows, flush_seconds=flush_seconds, max_rows=max_rows)
        check_precision(precision)
        self.folder = Path(folder)
        self._precision: Precision = precision
        self._is_emptied = is_emptied
        self._writer = secrets.token_hex(6)
        self._number = 0
        self._tables: duckdb.DuckDBPyConnection | None = None
        self._records: dict[str, RunRecord] = {}
        self._problems: dict[tuple[str, str], ProblemRecord] = {}
        self._calibrations: dict[str, CalibrationRecord] = {}
        # By run: its samples in any part, and keys of problems and calibrations in parts of this writer.
        self._samples: dict[str, set[str]] = {}
        self._told: dict[str, set[object]] = defaultdict(set)

    def begin_run(self, run: RunRecord, resume: bool) -> frozenset[str]:
        """See `Sink.begin`."""
        place = self.folder / run_ids.checked(run.run_id)
        if resume:
            found = self._take_up(run, place)
        else:
            self._create(place)
            found = frozenset()
        self._records[run.run_id] = replace(run, status="running", error=None, finished_at=None) if resume else run
        self._samples[run.run_id] = set(found)
        if not resume:
            self._write_part(run.run_id, [])
        return found

    def write_problems(self, problems: Sequence[ProblemRecord]) -> None:
        """See `Sink.add_problems`; they are durable with the next part."""
        for problem in problems:
            self._problems.setdefault((problem.problem_set, problem.problem_id), problem)

    def write_calibration(self, calibration: CalibrationRecord) -> None:
        """See `Sink.add_calibration`; it is durable with the next part."""
        self._calibrations.setdefault(calibration.calibration_id, calibration)

    def write(self, traces: Sequence[SampleTrace]) -> None:
        """Write a batch as parts, at least one for each run."""
        by_run: dict[str, dict[str, SampleTrace]] = {}
        for trace in traces:
            sample = trace.sample
            if sample.sample_id not in self._samples[sample.run_id]:
                by_run.setdefault(sample.run_id, {}).setdefault(sample.sample_id, trace)
        for run_id, new in by_run.items():
            for part in self._of_size(list(new.values())):
                self._write_part(run_id, part)
                self._samples[run_id] |= {trace.sample.sample_id for trace in part}

    def sync(self) -> None:
        """Write what was added beside samples since the last part of a run."""
        for run_id, run in self._records.items():
            if not {*self._problems_of(run), *self._calibrations} <= self._told[run_id]:
                self._write_part(run_id, [])

    def end_run(self, run_id: str, status: RunStatus, error: str | None) -> RunRecord:
        """See `Sink.end`."""
        ended = replace(self._records[run_id], status=status, error=error, finished_at=datetime.now(UTC))
        self._records[run_id] = ended
        self._write_part(run_id, [])
        del self._records[run_id]
        return ended

    def _create(self, place: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                place.mkdir()
            except FileExistsError as error:
                message = f"There is a run {place.name} in {self.folder} already."
                raise StoreError(message, "Resume it, or use another id.") from error
            folders.sync(self.folder)
        except OSError as error:
            raise StoreError(f"No run can be begun in {self.folder}: {error}.", "Name another folder.") from error

    def _take_up(self, run: RunRecord, place: Path) -> frozenset[str]:
        if not place.is_dir():
            known = ", ".join(sorted(path.name for path in self.folder.glob("[!.]*"))) or "nothing"
            raise UsageError(f"There is no run {run.run_id!r} in {self.folder}.", f"It holds {known}.")
        parts = [] if self._is_emptied else relations.complete_in(place)
        if not parts:  # begun a moment ago, or its writer died before it could say as what
            return frozenset()
        for part in parts:
            Manifest.read(part).check_revision(part)
        query = f"SELECT DISTINCT sample_id FROM {relations.rows_of(parts, 'stored_samples')}"
        with opening.connect_memory() as connection:
            try:
                rows = connection.execute(f"FROM {relations.rows_of(parts, 'runs')} LIMIT 1").to_arrow_table()
                samples = connection.execute(query).fetchall()
            except duckdb.Error as error:
                message = f"The parts of run {run.run_id} in {self.folder} cannot be read: {opening.first_line(error)}"
                raise StoreError(message, "Put them back as they were, or begin a new run.") from error
        check_unchanged(record_rows.record_of(RunRecord, rows.to_pylist()[0]), run)
        return frozenset(sample_id for (sample_id,) in samples)

    def _write_part(self, run_id: str, traces: Sequence[SampleTrace]) -> None:
        run, told = self._records[run_id], self._told[run_id]
        named = {(run.problem_set, trace.sample.problem_id) for trace in traces}
        problems = [problem for key, problem in self._problems_of(run).items() if key in named or key not in told]
        self._number += 1
        name = f"{self._writer}-{self._number:06d}"
        try:
            if self._tables is None:  # a part goes through them into files as a run that is sealed does
                self._tables = opening.connect_memory()
                relations.create_empty(self._tables)
            self._tables.execute("BEGIN TRANSACTION")
            try:
                inserting.insert_records(self._tables, "runs", [run])
                inserting.insert_records(self._tables, "problems", problems)
                inserting.insert_records(self._tables, "calibrations", list(self._calibrations.values()))
                inserting.insert_samples(self._tables, traces, self._precision)
                folders.write_folder(self._tables, run_id, self.folder / run_id / name, part=name)
            finally:
                self._tables.execute("ROLLBACK")
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"The part {name} of run {run_id} could not be written to {self.folder}: {error}") from error
        told |= {*self._problems_of(run), *self._calibrations}

    def _problems_of(self, run: RunRecord) -> dict[tuple[str, str], ProblemRecord]:
        return {key: problem for key, problem in self._problems.items() if key[0] == run.problem_set}

    def _of_size(self, traces: Sequence[SampleTrace]) -> Iterator[list[SampleTrace]]:
        part: list[SampleTrace] = []
        rows = 0
        for trace in traces:
            if part and rows + trace.sample.n_tokens > self._flush_rows:
                yield part
                part, rows = [], 0
            part.append(trace)
            rows += trace.sample.n_tokens
        if part:
            yield part
