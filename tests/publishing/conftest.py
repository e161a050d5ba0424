"""A stand-in of the hub that `huggingface_hub` speaks to in place of the real one, and stores with sealed runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from rrti_sgl.db import sealing
from rrti_sgl.db.store import Store
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace
from tests.publishing.hub import WRITER, Hub, serve


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Empty; its token is set, the cache is a folder of the test."""
    with serve() as hub:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield hub


def fill(path: Path, *run_ids: str, problem_set: str = "tiny", correct: bool = True) -> Path:
    """A store with sealed runs of two samples each, one of which is in the exact layout."""
    with Store.open(path) as store:
        store.add_problems([make_problem("p1", problem_set=problem_set), make_problem("p2", problem_set=problem_set)])
        for run_id in run_ids:
            run = make_run(run_id, problem_set=problem_set, base_model="org/base", reasoning_model="/srv/models/think")
            store.begin_run(run)
            fired = {"fired": [False, True, True], "local_mean": [float("nan"), 0.0, 0.5]}
            exact = fired | {"kl": [1e-300, 0.5, 0.25]}
            store.write_samples(
                [
                    make_trace(run_id, "p1", tokens=fired, correct=correct),
                    make_trace(run_id, "p2", tokens=exact, correct=correct),
                ]
            )
            store.finish_run(run_id, "finished")
        store.add_calibration(make_calibration(f"cal-{run_ids[0]}", run_id=run_ids[0]))
    for run_id in run_ids:
        sealing.seal(path, run_id)
    return path


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sealed runs a and b; nobody changes it."""
    return fill(tmp_path_factory.mktemp("ours") / "ours.duckdb", "a", "b")
