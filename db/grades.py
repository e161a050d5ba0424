"""Replacing the grades of a stored run: its samples' answers and its grader, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rrti_sgl.db import snapshots
from rrti_sgl.db.store import Store
from rrti_sgl.grading import Grade


def replace_grades(store: Store, run_id: str, grader: str, config: Mapping[str, Any], grades: Mapping[str, Grade]) -> None:
    """Set `answer`, `correct` and `answer_method` of the samples, `runs.grader` and `runs.config`; all of it or nothing.

    Args:
        store: open for writing.
        run_id: the run.
        grader: name of the grader that made the grades.
        config: the run's new configuration, which says what the grader was before.
        grades: by sample id.

    Raises:
        UsageError: there is no such run.
        StoreError: the run is sealed, or DuckDB refused.
    """
    store.get_run(run_id)
    incoming = pa.table(
        {
            "sample_id": pa.array(list(grades), pa.string()),
            "answer": pa.array([grade.answer for grade in grades.values()], pa.string()),
            "correct": pa.array([grade.correct for grade in grades.values()], pa.bool_()),
            "method": pa.array([grade.method for grade in grades.values()], pa.string()),
        }
    )
    with store.writing(run_id) as cursor:
        cursor.register("incoming_grades", incoming)
        cursor.execute(
            """
            UPDATE stored_samples SET answer = new.answer, correct = new.correct, answer_method = new.method
            FROM incoming_grades AS new
            WHERE stored_samples.run_id = $run AND stored_samples.sample_id = new.sample_id
            """,
            {"run": run_id},
        )
        cursor.execute(
            "UPDATE runs SET grader = $grader, config = $config WHERE run_id = $run",
            {"run": run_id, "grader": grader, "config": json.dumps(config, ensure_ascii=False, sort_keys=True)},
        )
    snapshots.discard(store.path, run_id)
