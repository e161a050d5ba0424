"""Tiny stores to report on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from tests.db.conftest import make_problem, make_run, make_trace


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reporting") / "traces.duckdb"
    write_tiny(path)
    return path


def write_tiny(path: Path) -> None:
    """Base rollouts, a base, a guided and a reasoning run on the same four problems; both answers occur."""
    draws = np.random.default_rng(0)
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i}") for i in range(4)])
        for program, right in (("diagnose", "1001"), ("base", "1000"), ("guided", "1101"), ("reasoning", "1111")):
            taking = program == "guided"
            gate = {"gate": "divergence"} if taking else {"gate": "never", "tau": None}
            store.begin_run(make_run(f"{program}-1", program=program, n_problems=4, samples_per_problem=1, **gate))
            traces = []
            for i, flag in enumerate(right):
                ce = draws.exponential(size=12).round(3)
                tokens = {
                    "planning_tag": ["plan" if j % 4 == 0 else None for j in range(12)],
                    "entropy_base": (ce * draws.uniform(0.2, 0.9, 12)).round(3),
                    "fired": [taking and j in (2, 5) for j in range(12)],
                    "base_token_id": np.arange(12, dtype=np.int32) + (11 if taking and i == 1 else 10),
                }
                traces.append(make_trace(f"{program}-1", f"p{i}", 0, ce, correct=flag == "1", tokens=tokens))
            store.write_samples(traces)


@pytest.fixture
def tiny(tiny_path: Path) -> Iterator[Store]:
    with Store.open_readonly(tiny_path) as store:
        yield store
