"""Stores to look at: random runs, and continuations of some of their samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.records import SampleTrace
from tests.db.conftest import make_problem, make_run, make_trace

WORDS = np.array([" then", " Wait", "so ", " 7", " add", "\tif"], dtype=object)
PROBLEMS = 6


def random_trace(run: str, problem: str, index: int, draws: np.random.Generator, taking: bool) -> SampleTrace:
    """A sample of 3 to 14 tokens; scores are missing here and there."""
    n = int(draws.integers(3, 15))
    ce = np.where(draws.random(n) < 0.1, np.nan, draws.exponential(size=n).round(2))
    fired = (ce > 1.5) if taking else np.zeros(n, bool)
    tags = draws.random(n) < 0.3
    tokens = {
        "token_text": WORDS[draws.integers(0, len(WORDS), n)].tolist(),
        "planning_tag": ["plan" if tag else None for tag in tags],
        "fired": fired.tolist(),
        "source": np.where(fired, "reasoning", "base").tolist(),
        "base_token_id": np.arange(n, dtype=np.int32) + 10 + (fired & (draws.random(n) < 0.5)),
        "entropy_base": np.abs(ce) * 0.5,
    }
    correct = [True, False, None][int(draws.integers(0, 3))] if problem != "p0" else True
    return make_trace(run, problem, index, ce, correct=correct, tokens=tokens)


def write_random(path: Path, seed: int = 0) -> None:
    """Four runs on the same problems, two samples each."""
    draws = np.random.default_rng(seed)
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i}") for i in range(PROBLEMS)])
        for program in ("diagnose", "base", "guided", "reasoning"):
            gate = {"gate": "divergence"} if program == "guided" else {"gate": "never", "tau": None}
            store.begin_run(make_run(f"{program}-1", program=program, n_problems=PROBLEMS, samples_per_problem=2, **gate))
            store.write_samples(
                [
                    random_trace(f"{program}-1", f"p{i}", index, draws, program == "guided")
                    for i in range(PROBLEMS)
                    for index in range(2)
                ]
            )


@pytest.fixture(scope="session")
def random_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "traces.duckdb"
    write_random(path)
    return path


@pytest.fixture(scope="session")
def explored(random_path: Path) -> Iterator[Explorer]:
    with Store.open_readonly(random_path) as store, Explorer(store) as explorer:
        yield explorer
