"""A statistic reads the files of the sealed runs that it is of, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db import relations, sealing
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from tests.db.conftest import make_problem, make_run
from tests.statistics.conftest import random_traces
from tests.statistics.test_causality import counterfactual, parents_of

STATISTICS = ("sparsity", "position", "uncertainty", "failure", "takeovers", "planted", "accuracy", "cost", "calibration")


@pytest.fixture
def sealed(tmp_path: Path, empty_store: Path) -> Path:
    """Three sealed runs and an open one, each of samples of its own."""
    path = tmp_path / "traces.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i}") for i in range(5)])
        for seed, run_id in enumerate("abcd"):
            store.begin_run(make_run(run_id))
            store.write_samples(random_traces(np.random.default_rng(seed), run_id))
            store.finish_run(run_id, "finished")
    for run_id in "abc":
        sealing.seal(path, run_id)
    return path


@pytest.fixture(params=["the file", "sealed runs alone"])
def opened(sealed: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    opens = Store.open_readonly if request.param == "the file" else Store.open_sealed
    with opens(sealed) as store:
        yield store


def cut(sealed: Path, run_id: str) -> None:
    """Leave nothing of the samples and tokens of a sealed run that could be read."""
    for table in relations.SEALED_VIEWS:
        relations.file_of(relations.run_folder(sealed, run_id), table).write_bytes(b"cut")


@pytest.mark.parametrize("name", STATISTICS)
def test_files_of_other_sealed_runs_are_not_opened(sealed: Path, opened: Store, name: str) -> None:
    before = run_query(opened, name, run="b", resamples=10)
    cut(sealed, "a")
    cut(sealed, "c")
    assert run_query(opened, name, run="b", resamples=10).equals(before)
    with pytest.raises(StoreError):
        run_query(opened, name, run="a", resamples=10)


def test_of_two_runs_both_are_read_and_a_third_is_not(sealed: Path) -> None:
    with Store.open_readonly(sealed) as store:
        before = run_query(store, "flips", run=["b"], base="d", resamples=10)
        cut(sealed, "a")
        assert run_query(store, "flips", run=["b"], base="d", resamples=10).equals(before)
        cut(sealed, "b")
        with pytest.raises(StoreError):
            run_query(store, "flips", run=["b"], base="d", resamples=10)


def test_arms_are_told_by_samples_of_a_run_that_is_not_named(
    tmp_path: Path, empty_store: Path, build: dict[str, Callable[..., Any]]
) -> None:
    path = tmp_path / "traces.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        parents = parents_of(store, build, [[1.0, 5.0, 2.0], [9.0, 4.0, 3.0]])
        counterfactual(store, build, "c", parents, {(0, 0): ("11", "00"), (1, 1): ("1", "0")})
        before = run_query(store, "causality", run="c", resamples=0)
    for run_id in "gc":
        sealing.seal(path, run_id, unfinished=True)
    with Store.open_readonly(path) as store:
        assert run_query(store, "causality", run="c", resamples=0).equals(before)


def test_a_statement_of_some_runs_finds_no_rows_of_others(sealed: Path) -> None:
    query = "SELECT run_id, count(*) AS n FROM token_view GROUP BY run_id ORDER BY run_id"
    with Store.open_readonly(sealed) as store:
        every = {row["run_id"]: row["n"] for row in store.sql(query).to_pylist()}
        some = {row["run_id"]: row["n"] for row in store.sql(query, runs=["a"]).to_pylist()}
        none = store.sql(query, runs=[]).to_pylist()
        assert {row["run_id"]: row["n"] for row in store.sql(query).to_pylist()} == every  # the next one sees all again
    assert sorted(every) == ["a", "b", "c", "d"]
    assert some == {"a": every["a"], "d": every["d"]}  # those in the file are there all the same
    assert none == [{"run_id": "d", "n": every["d"]}]
