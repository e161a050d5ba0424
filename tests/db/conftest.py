"""Builders of records and a tiny store whose statistics can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import TABLES
from rrti_sgl.records import (
    CalibrationRecord,
    ProblemRecord,
    RunRecord,
    SampleRecord,
    SampleTrace,
    TokenColumns,
    sample_key,
)
from rrti_sgl.science.metrics import METRICS

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def make_run(run_id: str = "r1", **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "run_id": run_id,
        "program": "guided",
        "status": "running",
        "created_at": NOON,
        "config": {"kind": "run", "seed": 1, "nested": {"a": [1, None]}},
        "config_hash": "c0ffee",
        "base_model": "base",
        "reasoning_model": "reasoning",
        "tokenizer_hash": "t0",
        "vocab_size": 64,
        "problem_set": "tiny",
        "n_problems": 2,
        "samples_per_problem": 2,
        "k": 2,
        "score_kind": "topk",
        "metric": "ce",
        "gate": "threshold",
        "gate_params": {"tau": 0.5},
        "tau": 0.5,
        "lambda_": None,
        "window": 4,
        "warmup": "tau",
        "calibration_id": None,
        "tagger": "lexical-v1",
        "grader": "world-v1",
        "temperature": 0.6,
        "top_p": 0.95,
        "max_new_tokens": 32,
        "seed": 2**40,
        "package_version": "0.1.0",
        "base_server": {"url": "http://127.0.0.1:1"},
        "reasoning_server": {},
    }
    return RunRecord(**(values | changes))


def make_calibration(calibration_id: str = "cal1", **changes: Any) -> CalibrationRecord:
    values: dict[str, Any] = {
        "calibration_id": calibration_id,
        "run_id": "r1",
        "created_at": NOON,
        "base_model": "base",
        "reasoning_model": "reasoning",
        "tokenizer_hash": "t0",
        "metric": "ce",
        "score_kind": "topk",
        "k": 2,
        "spike_ratio": 0.05,
        "tau": 1.5,
        "lambda_": 7.25,
        "mean_score": 0.2,
        "n_tokens": 1000,
        "n_samples": 10,
        "mean_length": 100.0,
    }
    return CalibrationRecord(**(values | changes))


def make_trace(
    run_id: str = "r1",
    problem_id: str = "p1",
    index: int = 0,
    ce: Any = (0.0, 1.0, 2.0),
    *,
    correct: bool | None = True,
    tokens: dict[str, Any] | None = None,
    score_metric: str | None = "ce",
    **changes: Any,
) -> SampleTrace:
    """A sample with one token for each value of `ce`; `tokens` and keywords replace columns and sample fields."""
    ce = np.asarray(ce, dtype=np.float64)
    length = len(ce)
    missing = np.full(length, np.nan)
    fired = np.asarray((tokens or {}).get("fired", np.zeros(length, dtype=bool)), dtype=bool)
    columns: dict[str, Any] = {
        "token_id": np.arange(length, dtype=np.int32) + 10,
        "token_text": [f"t{i}" for i in range(length)],
        "source": ["reasoning" if flag else "base" for flag in fired],
        "base_token_id": np.arange(length, dtype=np.int32) + 10,
        "base_logprob": -ce,
        "reasoning_logprob": missing,
        "score": ce,
        "local_mean": missing,
        "fired": fired,
        "ce": ce,
        "kl": missing,
        "reverse_kl": missing,
        "js": missing,
        "tv": missing,
        "entropy_base": ce / 2,
        "entropy_reasoning": missing,
        "base_tail_mass": np.zeros(length),
        "reasoning_tail_mass": missing,
        "planning_tag": [None] * length,
        "planted": np.full(length, -1, dtype=np.int32),
        "base_topk_ids": np.tile(np.array([[3, 5]], dtype=np.int32), (length, 1)),
        "base_topk_logprobs": np.tile(np.array([[-0.5, -1.5]], dtype=np.float32), (length, 1)),
        "reasoning_topk_ids": np.full((length, 2), -1, dtype=np.int32),
        "reasoning_topk_logprobs": np.full((length, 2), np.nan, dtype=np.float32),
    }
    columns |= tokens or {}
    taken = np.array(columns["source"]) == "reasoning"
    columns.setdefault("reasoning_token_id", np.where(taken, columns["token_id"], -1).astype(np.int32))
    columns.setdefault("base_token_text", [None if i < 0 else f"t{i - 10}" for i in columns["base_token_id"]])
    sample: dict[str, Any] = {
        "run_id": run_id,
        "sample_id": sample_key(run_id, problem_id, index),
        "problem_id": problem_id,
        "sample_index": index,
        "base_prompt": "Q:",
        "reasoning_prompt": None,
        "text": "".join(columns["token_text"]),
        "n_tokens": length,
        "n_takeovers": int(fired.sum()),
        "n_changed": int((fired & (columns["token_id"] != columns["base_token_id"])).sum()),
        "finish_reason": "stop",
        "answer": "4",
        "correct": correct,
        "started_at": NOON,
        "wall_ms": 10.0,
        "base_calls": 3,
        "reasoning_calls": 1,
        "base_ms": 4.0,
        "reasoning_ms": 2.0,
        "base_prompt_tokens": 30,
        "base_cached_tokens": 20,
        "reasoning_prompt_tokens": 10,
        "reasoning_cached_tokens": 5,
        "tokens_drafted": 4,
        "tokens_discarded": 1,
        "tokens_scored": 3,
    }
    metrics = {name: columns.pop(name) for name in METRICS}
    return SampleTrace(SampleRecord(**(sample | changes)), TokenColumns(metrics=metrics, **columns), score_metric)


def make_problem(problem_id: str = "p1", **changes: Any) -> ProblemRecord:
    values: dict[str, Any] = {"problem_id": problem_id, "problem_set": "tiny", "question": "2+2?", "answer": "4"}
    return ProblemRecord(**(values | changes))


@pytest.fixture
def build() -> dict[str, Callable[..., Any]]:
    """The builders, by the name of what they build."""
    return {"run": make_run, "trace": make_trace, "problem": make_problem, "calibration": make_calibration}


@pytest.fixture
def path(tmp_path: Path, empty_store: Path) -> Path:
    """A store file of the newest schema without rows."""
    target = tmp_path / "traces.duckdb"
    target.write_bytes(empty_store.read_bytes())
    return target


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store


def tables_of(path: Path) -> dict[str, list[Any]]:
    """What each table of a file is: its comment, then name, type, NULL, key and comment of each column."""
    with duckdb.connect(str(path), read_only=True) as connection:
        found: dict[str, list[Any]] = {}
        query = "SELECT table_name, comment FROM duckdb_tables() WHERE table_name <> 'alembic_version'"
        for name, comment in connection.execute(query).fetchall():
            query = "SELECT constraint_column_names FROM duckdb_constraints() WHERE table_name = ? AND constraint_type = ?"
            keys = {column for (key,) in connection.execute(query, [name, "PRIMARY KEY"]).fetchall() for column in key}
            query = "SELECT column_name, data_type, is_nullable, comment FROM duckdb_columns() WHERE table_name = ?"
            columns = sorted(connection.execute(query, [name]).fetchall())
            found[name] = [comment, *([c, kind, null, c in keys, said] for c, kind, null, said in columns)]
    return found


def declared() -> dict[str, list[Any]]:
    """What each table is declared to be, in the same form."""
    return {
        table.name: [
            table.comment,
            *sorted([column.name, column.type, column.null, column.key, column.comment] for column in table.columns),
        ]
        for table in TABLES.values()
    }
