"""Programs on one server for both models: stored, resumed, calibrated and replayed as those of two servers are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.engines.fused_server import OneModelError
from rrti_sgl.errors import CalibrationMismatchError, UsageError
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import RunRecord
from rrti_sgl.science.threshold import ThresholdRule, replay
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import ServedPair

pytestmark = pytest.mark.server


def run(store: Store, urls: tuple[str, str], settings: RunSettings) -> RunRecord:
    async def go() -> RunRecord:
        async with open_session(*urls, Concurrency(16, 16)) as session:
            return await run_program(session, store, settings)

    return asyncio.run(go())


def texts(store: Store, record: RunRecord) -> list[tuple[str, str, bool]]:
    found = store.sql(
        "SELECT problem_id, text, correct FROM samples WHERE run_id = $run ORDER BY problem_id", {"run": record.run_id}
    ).to_pydict()
    return list(zip(*found.values(), strict=True))


def test_runs_are_those_of_two_servers_but_for_the_kind_of_score(
    served_pair: ServedPair, fused: BothModels, tmp_path: Path
) -> None:
    one, two = (fused.url, fused.url), (served_pair.base.url, served_pair.reasoning.url)
    with Store.open(tmp_path / "traces.duckdb") as store:
        diagnosed = run(store, one, RunSettings("diagnose", "world:calibration", 40))
        assert (diagnosed.score_kind, diagnosed.base_model, diagnosed.reasoning_model) == (
            "full", "bundled/base", "bundled/reasoning",
        )  # fmt: skip
        calibration = calibrate_on_run(store, diagnosed.run_id, metric="ce", spike_ratio=0.1)
        settings = RunSettings("guided", "world:heldout", 16)
        with pytest.raises(UsageError, match="no calibration"):
            run(store, two, settings)
        with pytest.raises(CalibrationMismatchError, match="'full' in the calibration and 'topk' in the run"):
            run(store, two, replace(settings, calibration_id=calibration.calibration_id))
        guided = run(store, one, settings)
        assert (guided.score_kind, guided.calibration_id) == ("full", calibration.calibration_id)
        beside = run(store, two, replace(settings, k=0, gate=GateOptions(tau=calibration.tau)))
        assert texts(store, guided) == texts(store, beside)
        assert [run(store, one, replace(settings, program=name)).status for name in ("base", "reasoning", "early")] == [
            "finished"
        ] * 3

        rows = store.sql(
            "SELECT sample_id, score, fired FROM tokens WHERE run_id = $run ORDER BY sample_id, position",
            {"run": guided.run_id},
        ).to_pydict()
        for sample in set(rows["sample_id"]):
            here = [index for index, each in enumerate(rows["sample_id"]) if each == sample]
            fired, _ = replay(np.asarray([rows["score"][index] for index in here]), ThresholdRule(calibration.tau))
            assert fired.tolist() == [rows["fired"][index] for index in here]


def test_what_needs_two_servers_says_so(fused: BothModels, tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store, pytest.raises(UsageError, match="two servers"):
        run(store, (fused.url, fused.url), RunSettings("guided", limit=1, decoding="lockstep", gate=GateOptions(tau=0.5)))


def test_one_model_beside_itself_is_a_pair_but_not_where_both_are_asked_for(served_pair: ServedPair, tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        alone = run(store, (served_pair.base.url, served_pair.base.url), RunSettings("base", limit=1))
    assert alone.base_model == alone.reasoning_model == "bundled/base"
    command = ["run", "base", "--limit", "1", "--fused-url", served_pair.base.url, "--db", str(tmp_path / "other.duckdb")]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, OneModelError)
