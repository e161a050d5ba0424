"""Every sample of a store as one small table in memory: what lists of samples are filtered and sorted by.

What takes a look at every token, the largest score of a sample and whether it has planning words, is found out once, when
the index is made. The table is a temporary one of a connection of its own, so it can be joined with what the store has, and
the store stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Self

import duckdb
import pyarrow as pa

from rrti_sgl.db import readonly_sql
from rrti_sgl.db.connection import translate
from rrti_sgl.db.reader import StoreReader

SHOWN_QUESTION = 200  # characters

_TABLE = """
CREATE TEMP TABLE sample_index (
    number INTEGER, run_order INTEGER, run_id VARCHAR, sample_id VARCHAR, sample_index INTEGER, program VARCHAR,
    problem_set VARCHAR, problem_id VARCHAR, question VARCHAR, answer VARCHAR, gold VARCHAR, correct BOOLEAN,
    n_tokens INTEGER, n_takeovers INTEGER, n_changed INTEGER, finish_reason VARCHAR, max_score DOUBLE, n_tagged INTEGER,
    n_scored INTEGER, parent_sample_id VARCHAR, parent_position INTEGER, arm VARCHAR
)
"""
_ROWS = f"""
INSERT INTO sample_index
WITH scored AS (
    SELECT run_id, sample_id, max(score) AS max_score, count(planning_tag) AS n_tagged, count(ce) AS n_scored
    FROM tokens WHERE $run IS NULL OR run_id = $run GROUP BY ALL
),
ordered AS (SELECT *, row_number() OVER (ORDER BY created_at, run_id) AS run_order FROM runs)
SELECT
    $first + row_number() OVER (ORDER BY run_order, problem_id, sample_index, sample_id) - 1, run_order, run_id, sample_id,
    sample_index, program, ordered.problem_set, problem_id, left(question, {SHOWN_QUESTION}), samples.answer,
    problems.answer, correct, n_tokens, n_takeovers, n_changed, finish_reason, max_score, coalesce(n_tagged, 0),
    coalesce(n_scored, 0), parent_sample_id, parent_position, arm
FROM samples
JOIN ordered USING (run_id)
LEFT JOIN problems USING (problem_set, problem_id)
LEFT JOIN scored USING (run_id, sample_id)
WHERE ($run IS NULL OR run_id = $run) AND (run_id, sample_id) NOT IN (SELECT (run_id, sample_id) FROM sample_index)
"""


class SampleIndex:
    """The index of an open store; a context manager, to be closed before the store. May be used from several threads.

    Its table is `sample_index`: a row for each sample, with `number` from 0 in the order of runs, problems and samples.

    Args:
        store: open; samples that are written later are taken in by `add`.
    """

    def __init__(self, store: StoreReader) -> None:
        self._connection = store._cursor()
        self._lock = threading.Lock()
        self.version = 0
        self._execute(_TABLE)
        self._fill(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the table."""
        with self._lock:
            self._connection.close()

    def add(self, run_id: str) -> None:
        """Take in what a run has since."""
        self._fill(run_id)
        self.version += 1

    def sql(self, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        """The rows of one reading statement, on the store's relations and `sample_index`.

        Raises:
            StoreError: the statement does more than read, or is wrong.
        """
        readonly_sql.check_statement(query)
        return self._execute(query, params)

    def _fill(self, run_id: str | None) -> None:
        [[first]] = self.sql("SELECT count(*) FROM sample_index").to_pydict().values()
        self._execute(_ROWS, {"run": run_id, "first": first})

    def _execute(self, statement: str, params: Mapping[str, Any] | None = None) -> pa.Table:
        with self._lock:
            try:
                return self._connection.execute(statement, dict(params) if params else None).to_arrow_table()
            except duckdb.Error as error:
                raise translate(error) from error
