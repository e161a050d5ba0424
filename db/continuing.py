"""Continuing a stored run: which one the same command began."""

from __future__ import annotations

from rrti_sgl.db.store import Store
from rrti_sgl.records import RunRecord
from rrti_sgl.sinks.refusals import COMMON


def find_unfinished(store: Store, record: RunRecord) -> str | None:
    """Id of the newest run that began as this one would and did not get to its end; None where there is none.

    A run that says it is running was killed: nobody else can have the store open for writing.
    """
    names = ("program", "config_hash", *COMMON)
    rows = store.sql(
        """
        SELECT run_id FROM runs ANTI JOIN sealed_runs USING (run_id)
        WHERE program = $program AND config_hash = $hash AND status <> 'finished'
        ORDER BY created_at DESC, run_id
        """,
        {"program": record.program, "hash": record.config_hash},
    ).to_pylist()
    for row in rows:
        stored = store.get_run(row["run_id"])
        if all(getattr(stored, name) == getattr(record, name) for name in names):
            return stored.run_id
    return None
