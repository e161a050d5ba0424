"""Programs on one server for both models: stored, resumed, calibrated and replayed as those of two servers are."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.fused import FusedDecoding
from rrti_sgl.engines.fused_server import FusedSide, OneModelError
from rrti_sgl.errors import CalibrationMismatchError, UsageError
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.running.counterfactual import Effect
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.scoring.score import run_score
from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import RunRecord
from rrti_sgl.science.threshold import ThresholdRule, replay
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import ServedPair
from tests.counterfactuals import try_arms
from tests.experiments.test_running import Watch, grid_of
from tests.experiments.test_running import run as run_grid

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
        diagnosed = run(store, one, RunSettings("diagnose", "world:calibration", 16))
        assert (diagnosed.score_kind, diagnosed.base_model, diagnosed.reasoning_model) == (
            "full", "bundled/base", "bundled/reasoning",
        )  # fmt: skip
        calibration = calibrate_on_run(store, diagnosed.run_id, metric="ce", spike_ratio=0.1)
        settings = RunSettings("guided", "world:heldout", 8)
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


def test_scores_of_two_servers_decide_nothing_here(served_pair: ServedPair, fused: BothModels, tmp_path: Path) -> None:
    one, two = (fused.url, fused.url), (served_pair.base.url, served_pair.reasoning.url)
    with Store.open(tmp_path / "traces.duckdb") as store:
        diagnosed = run(store, two, RunSettings("diagnose", "world:calibration", 10))
        topk = calibrate_on_run(store, diagnosed.run_id, metric="ce", spike_ratio=0.1)
        named = RunSettings("guided", "world:heldout", 1, calibration_id=topk.calibration_id)
        with pytest.raises(CalibrationMismatchError, match="'topk' in the calibration and 'full' in the run") as refused:
            run(store, one, named)
        assert "one server for both models scores over the whole vocabulary" in str(refused.value.remedy)
        whole = run(store, two, RunSettings("diagnose", "world:calibration", 10, k=0))
        full = calibrate_on_run(store, whole.run_id, metric="ce", spike_ratio=0.1)
        assert run(store, one, RunSettings("guided", "world:heldout", 1)).calibration_id == full.calibration_id


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_runs_or_says_that_it_needs_two_servers(fused: BothModels, tmp_path: Path, program: str) -> None:
    settings = RunSettings(program, "world:heldout", 4, gate=GateOptions(tau=0.5, budget=0.2, mean_length=40))
    with Store.open(tmp_path / "traces.duckdb", precision="exact") as store:  # as deferral asks of a run that it follows
        if PROGRAMS[program].follows:
            followed = run(store, (fused.url, fused.url), replace(settings, program="guided"))
            settings = replace(settings, gate=GateOptions(like=followed.run_id))
        if program == "oracle":
            with pytest.raises(UsageError, match="The gate oracle is not made of a name and parameters alone"):
                run(store, (fused.url, fused.url), settings)
            return
        record = run(store, (fused.url, fused.url), settings)
        assert (record.status, record.score_kind) == ("finished", "full")
        sources = store.sql("SELECT DISTINCT source FROM tokens WHERE run_id = $run", {"run": record.run_id}).to_pylist()
        assert ("reasoning" in [row["source"] for row in sources]) == (program not in ("base", "diagnose", "pass-at-k"))


def test_a_takeover_is_denied_as_on_two_servers(served_pair: ServedPair, fused: BothModels, tmp_path: Path) -> None:
    found = []
    with Store.open(tmp_path / "traces.duckdb") as store:
        settings = RunSettings("guided", "world:heldout", 6, k=0, gate=GateOptions(tau=0.5))
        for urls in ((fused.url, fused.url), (served_pair.base.url, served_pair.reasoning.url)):
            guided = run(store, urls, settings)
            query = "SELECT sample_id FROM samples WHERE run_id = $run ORDER BY n_changed DESC, problem_id LIMIT 1"
            [row] = store.sql(query, {"run": guided.run_id}).to_pylist()

            async def go(urls: tuple[str, str], sample: str) -> list[Effect]:
                async with open_session(*urls) as session:
                    return (await try_arms(session, store, sample))[1]

            found.append([replace(effect, score=None) for effect in asyncio.run(go(urls, row["sample_id"]))])
    assert found[0]
    assert found[0] == found[1]


def test_given_texts_are_scored_as_on_two_servers(served_pair: ServedPair, fused: BothModels, tmp_path: Path) -> None:
    one, two = (fused.url, fused.url), (served_pair.base.url, served_pair.reasoning.url)
    file = tmp_path / "texts.jsonl"
    with Store.open(tmp_path / "traces.duckdb") as store:
        wrote = run(store, two, RunSettings("base", "world:heldout", 10, k=0))
        query = "SELECT problem_id, text, finish_reason FROM samples WHERE run_id = $run"
        rows = store.sql(query, {"run": wrote.run_id}).to_pylist()
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        texts = TextInput(str(file), problems="world:heldout")

        async def score(urls: tuple[str, str]) -> RunRecord:
            async with open_session(*urls) as session:
                options = {"k": 0, "reasoning_prompt": "textbook {question}\n"}
                return await run_score(session, store, ScoreSettings.of(texts, **options), texts.read())

        scored = [
            [store.load_sample(row["sample_id"]) for row in store.sql(
                "SELECT sample_id FROM samples WHERE run_id = $run ORDER BY problem_id",
                {"run": asyncio.run(score(urls)).run_id},
            ).to_pylist()]
            for urls in (one, two)
        ]  # fmt: skip
    assert len(scored[0]) == 10
    for fast, slow in zip(*scored, strict=True):
        for column in (
            "text",
            "finish_reason",
            "correct",
            "n_takeovers",
            "tokens_drafted",
            "tokens_discarded",
            "tokens_scored",
        ):
            assert getattr(fast.sample, column) == getattr(slow.sample, column), column
        for column in ("token_id", "base_token_id", "reasoning_token_id", "fired", "planted"):
            assert np.asarray(getattr(fast.tokens, column)).tolist() == np.asarray(getattr(slow.tokens, column)).tolist()
        for column in ("score", "base_logprob", "reasoning_logprob"):
            ours, theirs = getattr(fast.tokens, column), getattr(slow.tokens, column)
            likely = theirs > -12  # of what is all but impossible, float32 sums have no digits in common
            np.testing.assert_allclose(ours[likely], theirs[likely], atol=2e-3, err_msg=column)
        assert fast.tokens.source == slow.tokens.source == ["base"] * len(fast.tokens.source)


def test_several_servers_share_the_samples_by_how_they_begin(fused: BothModels, tmp_path: Path) -> None:
    settings = RunSettings("guided", "world:heldout", 12, samples=2, gate=GateOptions(tau=0.5))
    both = f"{fused.url},{fused.url}"
    with Store.open(tmp_path / "traces.duckdb") as store:
        assert texts(store, run(store, (both, both), settings)) == texts(store, run(store, (fused.url, fused.url), settings))

    async def places() -> list[int]:
        async with open_session(both, both) as session:
            assert isinstance(session.pair.base, FusedSide)
            assert session.pair.base.info.details["replicas"] == 2
            decoding = FusedDecoding(session.pair.base.servers, session.pair.vocab_size)
            return [session.pair.base.servers.index(decoding.server_for([n, 5, 7])) for n in range(32)]

    found = asyncio.run(places())
    assert found == asyncio.run(places())
    assert 8 < sum(found) < 24


def test_commands_take_several_addresses(fused: BothModels, tmp_path: Path) -> None:
    addresses = ["--fused-url", fused.url, "--fused-url", fused.url, "--json", "--db", str(tmp_path / "traces.duckdb")]
    done = CliRunner().invoke(app, ["run", "guided", "--limit", "2", "--tau", "0.5", *addresses], catch_exceptions=False)
    [row] = json.loads(done.stdout)
    assert (row["status"], row["n_samples"]) == ("finished", 2)


def test_an_experiment_runs_on_it(fused: BothModels, tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    with Store.open(tmp_path / "traces.duckdb") as store:
        runs, _ = run_grid(store, ServedPair(fused, fused), grid, Watch())
        found = {row["status"] for row in store.sql("SELECT status FROM runs").to_pylist()}
        kinds = {row["score_kind"] for row in store.sql("SELECT score_kind FROM runs").to_pylist()}
    assert (found, kinds) == ({"finished"}, {"full"})
    assert len(runs.ids) == len(grid.all_cells)


def test_a_server_that_is_started_for_a_run_knows_its_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class StartedError(Exception):
        """Ends the command where a server would start."""

    def start(self: BothModels) -> None:
        raise StartedError(*self.gates)

    monkeypatch.setattr(BothModels, "start", start)
    gate = "rrti_sgl.science.gates:NeverGate"
    command = ["run", "guided", "--fused", "--gate", gate, "--limit", "1", "--db", str(tmp_path / "traces.duckdb")]
    assert CliRunner().invoke(app, command).exception.args == (gate,)  # type: ignore[union-attr]


@pytest.mark.parametrize("asked", [{"decoding": "lockstep"}, {"exchanged": True}], ids=str)
def test_what_needs_two_servers_says_so(fused: BothModels, tmp_path: Path, asked: Any) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store, pytest.raises(UsageError, match="two servers"):
        run(store, (fused.url, fused.url), RunSettings("guided", limit=1, gate=GateOptions(tau=0.5), **asked))


def test_one_model_beside_itself_is_a_pair_but_not_where_both_are_asked_for(served_pair: ServedPair, tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        alone = run(store, (served_pair.base.url, served_pair.base.url), RunSettings("base", limit=1))
    assert alone.base_model == alone.reasoning_model == "bundled/base"
    command = ["run", "base", "--limit", "1", "--fused-url", served_pair.base.url, "--db", str(tmp_path / "other.duckdb")]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, OneModelError)
