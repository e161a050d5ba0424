"""Runs with exact scores: stored as such, nearer to the truth than top-k, and kept apart from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.errors import CalibrationMismatchError, UsageError
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import RunRecord, ScoreKind
from rrti_sgl.serving.server import ServedPair

pytestmark = pytest.mark.server
K, N = 4, 12


def run(store: Store, served: ServedPair, settings: RunSettings) -> RunRecord:
    async def go() -> RunRecord:
        async with open_session(served.base.url, served.reasoning.url, Concurrency(16, 16)) as session:
            return await run_program(session, store, settings)

    return asyncio.run(go())


def diagnosed(store: Store, served: ServedPair, k: int, kind: ScoreKind) -> tuple[RunRecord, dict[str, np.ndarray]]:
    record = run(store, served, RunSettings("diagnose", "world:heldout", N, k=k, score_kind=kind))
    columns = store.sql(
        "SELECT ce, entropy_base, entropy_reasoning FROM tokens JOIN samples USING (run_id, sample_id) "
        "WHERE run_id = $run ORDER BY problem_id, position",
        {"run": record.run_id},
    ).to_pydict()
    return record, {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}


def test_exact_scores_from_a_short_list(served_pair: ServedPair, tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        full, true = diagnosed(store, served_pair, 0, "plugin")
        short, listed = diagnosed(store, served_pair, K, "topk")
        exact, found = diagnosed(store, served_pair, K, "plugin")
        assert [record.score_kind for record in (full, short, exact)] == ["full", "topk", "plugin"]
        for name in ("entropy_base", "entropy_reasoning"):
            np.testing.assert_allclose(found[name], true[name], atol=1e-4)
        assert (found["ce"] <= true["ce"] + 1e-4).all()
        assert np.mean(true["ce"] - found["ce"]) < 0.5 * np.mean(true["ce"] - listed["ce"])

        calibration = calibrate_on_run(store, exact.run_id, metric="ce", spike_ratio=0.08)
        settings = RunSettings("guided", "world:heldout", 2, k=K)
        with pytest.raises(UsageError, match="no calibration"):
            run(store, served_pair, settings)
        with pytest.raises(CalibrationMismatchError, match="'plugin' in the calibration and 'topk' in the run"):
            run(store, served_pair, RunSettings("guided", limit=2, k=K, calibration_id=calibration.calibration_id))
        settings = RunSettings("guided", "world:heldout", 2, k=K, score_kind="plugin", allow_overlap=True)
        guided = run(store, served_pair, settings)
        assert (guided.score_kind, guided.calibration_id) == ("plugin", calibration.calibration_id)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="score_kind="):
        RunSettings("base", score_kind="exact")  # type: ignore[arg-type]
