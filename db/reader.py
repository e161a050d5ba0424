"""What can be asked of an open store: its records, the scores of a run, and any reading SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from rrti_sgl.db import readonly_sql, record_rows, relations
from rrti_sgl.db.connection import translate
from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.records import CalibrationRecord, FloatArray, ProblemRecord, RunRecord, SampleRecord, SampleTrace


class StoreReader:
    """The reading half of `rrti_sgl.db.store.Store`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, folders: Mapping[Path, str] | None = None) -> None:
        self.path = path
        self._connection = connection
        self._folders = folders

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own; as a context manager it closes, and with it rolls back what was not committed."""
        try:
            return self._connection.cursor()
        except duckdb.Error as error:
            raise StoreError(f"The store {self.path} is closed.") from error

    def sql(
        self,
        query: str,
        params: Mapping[str, Any] | None = None,
        *,
        runs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        most_bytes: int | None = None,
    ) -> pa.Table:
        """The rows of one reading statement; it can neither write nor reach anything outside the store.

        Args:
            query: the statement.
            params: values of its `$name` parameters.
            runs: sealed runs that it reads: the files of the samples and tokens of others are not opened, and it finds none
                of their rows. None: all.
            timeout_s, most_bytes: see `rrti_sgl.db.readonly_sql.fetch`.

        Raises:
            StoreError: the statement does more than read, is wrong, or exceeds a limit.
        """
        return readonly_sql.fetch(self._reading(query, runs), query, params, timeout_s, most_bytes)

    def batches(
        self, query: str, params: Mapping[str, Any] | None = None, *, runs: Sequence[str] | None = None, rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Like `sql`, about so many rows at a time, made when they are asked for."""
        return readonly_sql.fetch_batches(self._reading(query, runs), query, params, rows)

    def _reading(self, query: str, runs: Sequence[str] | None) -> duckdb.DuckDBPyConnection:
        """A cursor for one reading statement of some runs."""
        readonly_sql.check_statement(query)
        cursor = self._cursor()
        if runs is not None:
            self._narrow(cursor, runs)
        return cursor

    def _narrow(self, cursor: duckdb.DuckDBPyConnection, runs: Sequence[str]) -> None:
        """Let a cursor see, of the samples and tokens in files, those of some runs alone."""
        try:
            wanted = set(runs)
            if self._folders is None:
                rows = cursor.execute("SELECT run_id FROM sealed_runs ORDER BY run_id").fetchall()
                if wanted.issuperset(sealed := [run_id for (run_id,) in rows]):
                    return
                chosen = [relations.run_folder(self.path, run_id) for run_id in sealed if run_id in wanted]
            else:
                chosen = [folder for folder, run_id in self._folders.items() if run_id in wanted]
                if len(chosen) == len(self._folders):
                    return
            relations.narrow_views(cursor, chosen, registered=self._folders is None)
        except duckdb.Error as error:
            raise translate(error) from error

    def finished_samples(self, run_id: str) -> set[str]:
        """Ids of the samples of a run that are stored."""
        table = self.sql("SELECT sample_id FROM samples WHERE run_id = $run", {"run": run_id}, runs=[run_id])
        return set(table.column(0).to_pylist())

    def get_run(self, run_id: str) -> RunRecord:
        """The run of exactly that id.

        Raises:
            UsageError: there is none; the message names what there is.
        """
        return self.get_runs([run_id])[0]

    def get_runs(self, run_ids: Sequence[str]) -> list[RunRecord]:
        """The runs of exactly these ids, in their order.

        Raises:
            UsageError: one of them is not there; the message names what there is.
        """
        rows = self.sql("SELECT * FROM runs WHERE list_contains($runs, run_id)", {"runs": list(run_ids)}).to_pylist()
        found = {row["run_id"]: record_rows.record_of(RunRecord, row) for row in rows}
        for run_id in run_ids:
            if run_id not in found:
                raise UsageError(f"There is no run {run_id!r} in {self.path}.", self._known_runs())
        return [found[run_id] for run_id in run_ids]

    def find_runs(self, reference: str | None = None, *, program: str | None = None) -> list[RunRecord]:
        """Runs, oldest first, filtered by a run id, a prefix of it or a program name, and by program.

        Raises:
            UsageError: `reference` matches nothing; the message names what there is.
        """
        query = """
            SELECT * FROM runs
            WHERE ($reference IS NULL OR starts_with(run_id, $reference) OR program = $reference)
              AND ($program IS NULL OR program = $program)
            ORDER BY created_at, run_id
        """
        rows = self.sql(query, {"reference": reference, "program": program}).to_pylist()
        if not rows and reference is not None:
            raise UsageError(f"No run id starts with {reference!r}, and no program is so named.", self._known_runs())
        exact = [row for row in rows if row["run_id"] == reference]
        return [record_rows.record_of(RunRecord, row) for row in exact or rows]

    def find_unfinished(self, like: Mapping[str, Any]) -> str | None:
        """Id of the newest run that began alike and did not get to its end; None where there is none.

        A run that says it is running was killed: nobody else can have the store open for writing.

        Args:
            like: columns of runs and their values: what `rrti_sgl.sinks.refusals.identity` says, as far as it is known.
        """
        return self._newest_like(like, "status <> 'finished' AND run_id NOT IN (SELECT run_id FROM sealed_runs)")

    def find_finished(self, like: Mapping[str, Any]) -> str | None:
        """Id of the newest finished run that began alike; None where there is none. Arguments as for `find_unfinished`."""
        return self._newest_like(like, "status = 'finished'")

    def _newest_like(self, like: Mapping[str, Any], condition: str) -> str | None:
        alike = " AND ".join(f"{column} IS NOT DISTINCT FROM ${column}" for column in like)
        query = f"SELECT run_id FROM runs WHERE {condition} AND {alike} ORDER BY created_at DESC, run_id LIMIT 1"
        found: list[str] = self.sql(query, like)["run_id"].to_pylist()
        return found[0] if found else None

    def _known_runs(self) -> str:
        rows = self.sql("SELECT run_id, program FROM runs ORDER BY created_at DESC LIMIT 8").to_pylist()
        known = ", ".join(f"{row['run_id']} ({row['program']})" for row in rows)
        return f"The newest runs are: {known}." if known else "The store has no runs."

    def get_problem(self, problem_set: str, problem_id: str) -> ProblemRecord:
        """The problem of exactly that key.

        Raises:
            UsageError: the store does not have it.
        """
        query = "SELECT * FROM problems WHERE problem_set = $set AND problem_id = $id"
        rows = self.sql(query, {"set": problem_set, "id": problem_id}).to_pylist()
        if not rows:
            raise UsageError(f"There is no problem {problem_id!r} of {problem_set!r} in {self.path}.")
        return record_rows.record_of(ProblemRecord, rows[0])

    def get_calibration(self, calibration_id: str) -> CalibrationRecord:
        """The calibration of exactly that id.

        Raises:
            UsageError: there is none; the message names what there is.
        """
        rows = self.sql("SELECT * FROM calibrations WHERE calibration_id = $id", {"id": calibration_id}).to_pylist()
        if not rows:
            known = self.sql("SELECT calibration_id FROM calibrations ORDER BY created_at").column(0).to_pylist()
            remedy = f"There is: {', '.join(known)}." if known else "The store has no calibrations."
            raise UsageError(f"There is no calibration {calibration_id!r} in {self.path}.", remedy)
        return record_rows.record_of(CalibrationRecord, rows[0])

    def load_sample(self, reference: str, *, runs: Sequence[str] | None = None) -> SampleTrace:
        """The sample whose id is or starts with `reference`, with its tokens.

        Args:
            reference: the id or its first digits.
            runs: sealed runs whose files are looked into; None: all.

        Raises:
            UsageError: no sample, or more than one, matches.
        """
        query = """
            SELECT samples.*, runs.k, runs.metric FROM samples LEFT JOIN runs USING (run_id)
            WHERE starts_with(sample_id, $reference) ORDER BY sample_id LIMIT 5
        """
        rows = self.sql(query, {"reference": reference}, runs=runs).to_pylist()
        rows = [row for row in rows if row["sample_id"] == reference] or rows
        if not rows:
            raise UsageError(f"No sample id starts with {reference!r}.", "List them: SELECT sample_id FROM samples.")
        if len(rows) > 1:
            found = ", ".join(row["sample_id"] for row in rows)
            raise UsageError(f"More than one sample id starts with {reference!r}: {found}.", "Give more digits.")
        key = {"run": rows[0]["run_id"], "sample": rows[0]["sample_id"]}
        query = "SELECT * FROM tokens WHERE run_id = $run AND sample_id = $sample ORDER BY position"
        tokens = self.sql(query, key, runs=[key["run"]])
        sample = record_rows.record_of(SampleRecord, rows[0])
        return SampleTrace(sample, record_rows.tokens_from_arrow(tokens, rows[0]["k"] or 0), rows[0]["metric"])

    def scores(self, run_id: str, metric: str = "score") -> FloatArray:
        """All values of a metric over the tokens of a run, in order of sample and position; NULL is left out.

        Raises:
            UsageError: no such run or metric, or the metric was computed for none of its tokens.
        """
        if metric not in SCORES:
            raise UsageError(f"There is no metric {metric!r}.", f"Choose one of: {', '.join(SCORES)}.")
        self.get_run(run_id)
        query = f"SELECT {metric} FROM tokens WHERE run_id = $run AND {metric} IS NOT NULL ORDER BY sample_id, position"
        values = self.sql(query, {"run": run_id}, runs=[run_id]).column(0).to_numpy()
        if not len(values):
            raise UsageError(f"The metric {metric!r} was computed for no token of run {run_id}.")
        return np.asarray(values, dtype=np.float64)
