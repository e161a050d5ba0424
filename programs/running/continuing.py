"""Continuing a stored run: which one the same command began, and what of it changed since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rrti_sgl.db.store import Store
from rrti_sgl.errors import CalibrationMismatchError
from rrti_sgl.records import RunRecord

# What a run must have in common with its continuation, beside its configuration.
COMMON = ("base_model", "reasoning_model", "tokenizer_hash", "n_problems", "k", "score_kind", "tau", "lambda_")


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


def check_unchanged(stored: RunRecord, now: RunRecord) -> None:
    """Refuse to continue a run as another one.

    Raises:
        CalibrationMismatchError: names every setting that differs, with both values.
    """
    differences = [
        f"{name} was {getattr(stored, name)!r} and is {getattr(now, name)!r}"
        for name in COMMON
        if getattr(stored, name) != getattr(now, name)
    ]
    if stored.config_hash != now.config_hash:  # where a file lies, for one, is in the configuration and not in its hash
        changed = list(_differences(stored.config, json.loads(json.dumps(now.config, default=str))))  # as it is stored
        differences += changed or ["the content of its problem set is another one"]
    if differences:
        raise CalibrationMismatchError(
            f"Run {stored.run_id} cannot be continued: {'; '.join(differences)}.",
            "Start the same servers again, restore the problem file, or start a new run.",
        )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new and (name in before or new is not None):
            yield f"{prefix}{name} was {old!r} and is {new!r}"
