"""One way to use every sink in a test: open it, let it go, and read what it kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from rrti_sgl.db import attaching, inserting
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, SampleTrace
from rrti_sgl.science.metrics import token_fields
from rrti_sgl.sinks.memory import MemorySink
from rrti_sgl.sinks.sink import Sink

# What a sink of the tests is given: no batch is due by itself, so that nothing is durable before it is said to be.
PATIENT = {"flush_rows": 10**6, "flush_seconds": 3600.0}


@dataclasses.dataclass
class Kept:
    """What is there, read back."""

    runs: dict[str, RunRecord]
    problems: list[ProblemRecord]
    calibrations: list[CalibrationRecord]
    samples: dict[str, SampleTrace]


class InMemory:
    """Keeps for as long as the sink is there."""

    def open(self) -> Sink:
        self.sink = MemorySink()
        return self.sink

    def read(self) -> Kept:
        sink = self.sink
        samples = {key: trace for traces in sink.traces.values() for key, trace in traces.items()}
        return Kept(sink.runs, list(sink.problems.values()), list(sink.calibrations.values()), samples)

    def let_go(self) -> None:
        """There is nothing to let go of."""


class InFile:
    """Keeps in a DuckDB file; every number as it was put."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store: Store | None = None

    def open(self, **options: Any) -> Sink:
        self.let_go()
        self._store = Store.open(self.path, precision="exact")
        return DuckDBSink(self._store, **(PATIENT | options))

    def read(self) -> Kept:
        self.let_go()
        return read_store(self.path)

    def fail(self, monkeypatch: Any) -> None:
        """From now on no sample can be written."""

        def refuse(*args: Any) -> None:
            raise OSError("No space left.")

        monkeypatch.setattr(Store, "write_samples", refuse)

    def let_go(self) -> None:
        if self._store is not None:
            self._store.close()
        self._store = None


class InParts:
    """Keeps in a folder of Parquet parts; read back through a store that they are attached to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, **options: Any) -> Sink:
        return ParquetSink(self.folder, precision="exact", **(PATIENT | options))

    def read(self) -> Kept:
        path = self.folder.with_suffix(".duckdb")
        attaching.attach(path, [self.folder])
        return read_store(path)

    def fail(self, monkeypatch: Any) -> None:
        """From now on no sample can be written."""

        def refuse(connection: Any, traces: Any, precision: Any) -> None:
            if traces:
                raise OSError("No space left.")

        monkeypatch.setattr(inserting, "insert_samples", refuse)

    def let_go(self) -> None:
        """Nothing is open."""


def read_store(path: Path) -> Kept:
    with Store.open_readonly(path) as store:
        problems = store.sql("SELECT problem_set, problem_id FROM problems ORDER BY ALL").to_pylist()
        calibrations = store.sql("SELECT calibration_id FROM calibrations ORDER BY ALL").column(0).to_pylist()
        samples = store.sql("SELECT sample_id FROM samples ORDER BY ALL").column(0).to_pylist()
        return Kept(
            {run.run_id: run for run in store.find_runs()},
            [store.get_problem(**row) for row in problems],
            [store.get_calibration(name) for name in calibrations],
            {name: store.load_sample(name) for name in samples},
        )


def assert_same(found: SampleTrace, put: SampleTrace) -> None:
    """Record and every token column, NaN and padding included."""
    assert found.sample == put.sample
    for field in token_fields():
        np.testing.assert_array_equal(getattr(found.tokens, field.name), getattr(put.tokens, field.name), field.name)
