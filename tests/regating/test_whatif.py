"""`rrti whatif` on stored runs: the stored gate replays, other gates are tried, and what cannot be is refused."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from rrti_sgl.cli import whatif as command
from rrti_sgl.db import quantisation, scored_tokens
from rrti_sgl.db.store import Store
from rrti_sgl.errors import CalibrationMismatchError, UsageError
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
from rrti_sgl.records import SampleTrace
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.threshold import ThresholdRule, ThresholdState, Warmup
from tests.db.conftest import make_calibration, make_run, make_trace

DIAGNOSE: dict[str, Any] = {"program": "diagnose", "gate": "never", "tau": None, "window": None, "warmup": None}


def scores_of(seed: int, n: int = 12, longest: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.lognormal(-1, 1.5, rng.integers(1, longest)) for _ in range(n)]


def gated_trace(
    run_id: str, index: int, scores: np.ndarray, rule: ThresholdRule, relay: int = 1, **tokens: Any
) -> SampleTrace:
    """A sample as a gate decided it, position by position; with `relay`, takeovers cover that many tokens."""
    state, score, fired, asked, position = ThresholdState(rule), [], [], [], 0
    for value in scores:
        decision = state.decide(position, float(value))
        covered = relay - 1 if decision.fired else 0
        score += [value, *[np.nan] * covered]
        fired += [decision.fired, *[False] * covered]
        asked += [True, *[False] * covered]
        position += 1 + covered
    values = np.array(score)
    columns = {"score": values, "fired": fired, "base_token_id": np.where(asked, 10 + np.arange(len(asked)), -1)}
    columns |= {"entropy_base": np.where(asked, values / 2, np.nan)}
    return make_trace(run_id, f"p{index % 6}", index, values, tokens=columns | tokens)


def fill(store: Store, run_id: str, samples: list[np.ndarray], rule: ThresholdRule, relay: int = 1, **run: Any) -> None:
    values = {"tau": rule.tau, "lambda_": rule.lambda_, "window": rule.window, "warmup": rule.warmup, "gate": "divergence"}
    store.begin_run(make_run(run_id, **(values | run)))
    store.write_samples([gated_trace(run_id, index, one, rule, relay) for index, one in enumerate(samples)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A diagnose run, and a guided one with another gate."""
    with Store.open(tmp_path / "traces.duckdb") as store:
        fill(store, "diagnose-1", scores_of(1), ThresholdRule(np.inf), **DIAGNOSE)
        fill(store, "guided-1", scores_of(2), ThresholdRule(0.9, 1.2, 4, "partial"))
        yield store


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("replays") / "traces.duckdb") as store:
        yield store


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    tau=st.floats(0, 3),
    lambda_=st.one_of(st.none(), st.floats(0.2, 4)),
    window=st.integers(1, 30),
    warmup=st.sampled_from(get_args(Warmup)),
    relay=st.integers(1, 3),
)
def test_the_stored_gate_replays_where_it_fired(
    growing: Store, seed: int, tau: float, lambda_: float | None, window: int, warmup: Warmup, relay: int
) -> None:
    rule, run_id = ThresholdRule(tau, lambda_, window, warmup), f"guided-{len(growing.find_runs())}"
    fill(growing, run_id, scores_of(seed, 5), rule, relay)
    found = what_if(growing, run_id, WhatIfOptions(stored=True))
    [row] = found.rows
    assert (row["n_added"], row["n_dropped"]) == (0, 0)
    assert row["budget"] == row["stored_budget"]
    np.testing.assert_array_equal(found.trials[0].outcome.fired, found.tokens.tokens.fired)


def test_every_stored_takeover_is_found_however_the_run_is_read(store: Store) -> None:
    run = store.get_run("guided-1")
    whole = scored_tokens.read_scored_tokens(store, run, "ce", "ce")
    parts = scored_tokens.read_scored_tokens(store, run, "ce", "ce", rows_at_once=7)
    for name in ("scores", "lengths", "problems", "disagreement", "fired"):
        np.testing.assert_array_equal(getattr(whole.tokens, name), getattr(parts.tokens, name))
    stored = store.sql("SELECT count(*) FILTER (fired) AS n FROM tokens WHERE run_id = 'guided-1'").to_pylist()
    assert whole.tokens.fired.sum() == stored[0]["n"] > 0
    rows = [
        row
        for part in scored_tokens.read_positions(store, whole, whole.tokens.fired, rows_at_once=7)
        for row in part.to_pylist()
    ]
    expected = store.sql(
        """
        SELECT sample_id, problem_id, position, token_text, base_token_text, source, score, fired
        FROM token_view WHERE run_id = 'guided-1' AND fired ORDER BY sample_id, position
        """
    )
    assert rows == expected.to_pylist()


def test_spike_ratios_are_calibrated_on_the_run_or_on_another(store: Store) -> None:
    own = np.concatenate(scores_of(1))
    other = np.concatenate(scores_of(2))
    [row] = what_if(store, "diagnose-1", WhatIfOptions(spike_ratios=(0.08,))).rows
    assert (row["tau"], row["lambda"]) == (calibrate(own, 0.08).tau, None)
    assert row["budget"] == calibrate(own, 0.08).fired_share
    carried = what_if(store, "diagnose-1", WhatIfOptions(spike_ratios=(0.08,), calibrate_on="guided-1", use_lambda=True))
    assert carried.rows[0]["tau"] == calibrate(other, 0.08).tau
    assert carried.rows[0]["lambda"] == calibrate(other, 0.08).lambda_
    assert not any("very tokens" in note for note in carried.notes)


def test_without_options_the_newest_diagnosis_is_swept(store: Store) -> None:
    found = what_if(store, None, WhatIfOptions())
    ratios = [row["spike_ratio"] for row in found.rows]
    assert found.tokens.run.run_id == "diagnose-1"
    assert ratios == sorted(ratios)
    assert len(ratios) > 8
    coverage = [row["coverage"] for row in found.rows]
    assert coverage == sorted(coverage)
    assert all(row["coverage"] == pytest.approx(row["best_coverage"]) for row in found.rows)  # score = disagreement
    assert any("very tokens" in note for note in found.notes)
    assert any("would change every token" in note for note in found.notes)


def test_the_entropy_gate_is_judged_by_the_disagreement_it_covers(store: Store) -> None:
    [row] = what_if(store, "diagnose-1", WhatIfOptions(metric="entropy_base", spike_ratios=(0.1,))).rows
    assert (row["metric"], row["disagreement"]) == ("entropy_base", "ce")
    expected = calibrate(np.concatenate(scores_of(1)) / 2, 0.1).tau
    assert row["tau"] == pytest.approx(expected, rel=quantisation.REAL_ERROR, abs=0)  # only the score is kept exactly


def test_a_run_that_used_the_gate_stands_beside(store: Store) -> None:
    options = WhatIfOptions(tau=0.9, lambda_=1.2, use_lambda=True, window=4, warmup="partial")
    [row] = what_if(store, "diagnose-1", options).rows
    [guided] = store.sql("SELECT rho FROM run_view WHERE run_id = 'guided-1'").to_pylist()
    assert (row["realised_run"], row["realised_budget"]) == ("guided-1", guided["rho"])
    [row] = what_if(store, "diagnose-1", WhatIfOptions(tau=0.9)).rows
    assert row["realised_run"] is None


@pytest.mark.parametrize("drawn", [{"temperature": 0.8}, {"temperature": 0.0}, {"top_p": 0.5}])
def test_a_budget_of_another_temperature_does_not_stand_beside(store: Store, drawn: dict[str, float]) -> None:
    rule = ThresholdRule(0.7, None, 16, "tau")
    fill(store, "guided-2", scores_of(4), rule, **drawn)
    found = what_if(store, "diagnose-1", WhatIfOptions(tau=0.7))
    assert (found.rows[0]["realised_run"], found.rows[0]["realised_budget"]) == (None, None)
    [note] = [note for note in found.notes if "guided-2" in note]
    assert "not comparable" in note
    for name, value in drawn.items():
        assert f"{name.replace('_', '-')} {value:g}" in note
    fill(store, "guided-3", scores_of(5), rule, problem_set="other")
    found = what_if(store, "diagnose-1", WhatIfOptions(tau=0.7))
    assert found.rows[0]["realised_run"] == "guided-3"
    assert any("guided-3 is that of other problems: other, not tiny" in note for note in found.notes)


def test_greedy_runs_are_alike_at_any_top_p(store: Store) -> None:
    fill(store, "diagnose-2", scores_of(1), ThresholdRule(np.inf), **DIAGNOSE, temperature=0.0, top_p=1.0)
    fill(store, "guided-2", scores_of(4), ThresholdRule(0.7, None, 16, "tau"), temperature=0.0, top_p=0.9)
    [row] = what_if(store, "diagnose-2", WhatIfOptions(tau=0.7)).rows
    assert row["realised_run"] == "guided-2"


def test_a_single_problem_has_no_interval_and_no_spread(store: Store) -> None:
    store.begin_run(make_run("diagnose-2", **DIAGNOSE))
    store.write_samples([make_trace("diagnose-2", "p1", 0, [0.1, 2.0, 0.3])])
    [row] = what_if(store, "diagnose-2", WhatIfOptions(tau=1.0)).rows
    assert row["budget"] == pytest.approx(1 / 3)
    assert (row["budget_low"], row["budget_high"], row["problem_sd"]) == (None, None, None)


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("gate", [{"tau": 0.9}, {"spike_ratios": [0.1]}, {"budgets": [0.1]}, {"calibration": "fits"}])
def test_a_factor_counts_where_lambda_is_on(store: Store, gate: dict[str, Any], used: bool) -> None:
    store.add_calibration(make_calibration("fits", run_id="diagnose-1"))
    options = WhatIfOptions.of({**gate, "lambda_value": 8.0, "use_lambda": used, "window": 2})
    [row] = what_if(store, "diagnose-1", options).rows
    assert row["lambda"] == (8.0 if used else None)
    assert row["budget"] >= gate.get("budgets", [0])[0]  # that budget is the one with the factor


def test_scores_over_the_whole_vocabulary_depend_on_no_k(store: Store) -> None:
    fill(store, "whole-1", scores_of(3), ThresholdRule(np.inf), **DIAGNOSE | {"k": 5, "score_kind": "full"})
    fill(store, "whole-2", scores_of(4), ThresholdRule(np.inf), **DIAGNOSE | {"score_kind": "full"})
    fill(store, "whole-3", scores_of(4), ThresholdRule(0.7), k=9, score_kind="full", window=16)
    [row] = what_if(store, "whole-2", WhatIfOptions(spike_ratios=(0.1,), calibrate_on="whole-1")).rows
    assert row["tau"] == calibrate(np.concatenate(scores_of(3)), 0.1).tau
    [row] = what_if(store, "whole-2", WhatIfOptions(tau=0.7)).rows
    assert row["realised_run"] == "whole-3"


def test_stored_calibrations_are_taken_and_checked(store: Store) -> None:
    store.add_calibration(make_calibration("fits", run_id="diagnose-1"))
    store.add_calibration(make_calibration("other-k", run_id="diagnose-1", k=5))
    [row] = what_if(store, "diagnose-1", WhatIfOptions(calibration_id="fits", use_lambda=True)).rows
    assert (row["tau"], row["lambda"], row["spike_ratio"]) == (1.5, 7.25, 0.05)
    with pytest.raises(CalibrationMismatchError, match="k is 5 in the calibration"):
        what_if(store, "diagnose-1", WhatIfOptions(calibration_id="other-k"))


def test_a_calibration_is_of_all_samples_of_a_run(store: Store) -> None:
    """Those that are there of a run that was stopped are its shorter ones."""
    with pytest.raises(UsageError, match=r"diagnose-1 is running: its samples are not all there.*Finish it"):
        calibrate_on_run(store, "diagnose-1", metric="ce", spike_ratio=0.1)
    store.finish_run("diagnose-1", "finished")
    found = calibrate_on_run(store, "diagnose-1", metric="ce", spike_ratio=0.1)
    assert found.tau == calibrate(np.concatenate(scores_of(1)), 0.1).tau


# -- what is refused ------------------------------------------------------------------------------------------------


def test_runs_that_cannot_be_gated_as_asked_say_why(store: Store) -> None:
    rule = ThresholdRule(np.inf)
    silent = {"base_token_id": np.full(3, -1), "entropy_base": np.full(3, np.nan)}
    store.begin_run(make_run("reasoning-1", program="reasoning", gate="always", metric=None))
    store.write_samples([make_trace("reasoning-1", tokens=silent)])
    store.begin_run(make_run("entropy-1", program="entropy", gate="entropy", metric="entropy_base"))
    store.write_samples(
        [make_trace("entropy-1", ce=[np.nan, 1.0, np.nan], tokens={"entropy_base": np.ones(3), "score": np.ones(3)})]
    )
    store.begin_run(make_run("random-1", program="random", gate="random", metric=None, tau=0.75))
    store.write_samples([make_trace("random-1")])
    store.begin_run(make_run("counterfactual-1", program="counterfactual"))
    store.write_samples([make_trace("counterfactual-1", parent_sample_id="abc", parent_position=2, arm="taken")])
    store.begin_run(make_run("empty-1", **DIAGNOSE))
    fill(store, "other-1", scores_of(3), rule, **DIAGNOSE | {"k": 5})
    for run, options, message in (
        ("reasoning-1", {}, "base model was never asked"),
        ("entropy-1", {"metric": "ce"}, "has ce at 1 of its 3 positions.*\n?.*entropy_base"),
        ("entropy-1", {"disagreement": "ce"}, "has ce at 1 of its 3 positions"),
        ("random-1", {"stored": True}, "decided by the gate 'random'"),
        ("counterfactual-1", {}, "continues other samples"),
        ("empty-1", {}, "no samples yet"),
        ("absent", {}, "No run id starts with 'absent'"),
        ("diagnose", {}, "could be any of"),
        ("diagnose-1", {"metric": "cosine"}, "Metric 'cosine' is unknown"),
        ("diagnose-1", {"stored": True}, "no gate with a threshold"),
        ("guided-1", {"stored": True, "metric": "js"}, "a gate on ce, not on js"),
        ("diagnose-1", {"calibration_id": "absent"}, "no calibration 'absent'"),
        ("diagnose-1", {"spike_ratios": (1.5,)}, "spike_ratio=1.5"),
        ("diagnose-1", {"tau": 1.0, "warmup": "mean"}, "warmup = 'mean'"),
        ("diagnose-1", {"calibrate_on": "other-1"}, "k is 5 there and 2 here"),
    ):
        with pytest.raises((UsageError, CalibrationMismatchError), match=message):
            what_if(store, run, WhatIfOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 1.0, "spike_ratios": (0.1,)}, "tau= and spike_ratios= name different gates"),
        ({"stored": True, "budgets": (0.1,)}, "budgets= and stored="),
        ({"tau": 1.0, "calibrate_on": "x"}, "calibrate_on= has no use beside tau="),
        ({"tau": 1.0, "use_lambda": True}, "lambda is not known"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WhatIfOptions(**options)


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def rrti(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "100")
    path = store.path
    store.close()
    app = typer.Typer()
    app.command()(command.whatif)

    def call(*arguments: Any) -> Result:
        result = CliRunner().invoke(app, [*map(str, arguments), "--db", str(path)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_the_table_is_printed_with_its_limits(rrti: Callable[..., Result]) -> None:
    text = rrti("--spike-ratio", 0.05, "--spike-ratio", 0.1).stdout
    assert "Gates on ce over run diagnose-1" in text
    assert "[0." in text
    assert "would" in text
    assert "not known here" in " ".join(text.split())


def test_json_is_rows_alone_and_the_limits_go_beside(rrti: Callable[..., Result]) -> None:
    done = rrti("guided-1", "--stored", "--json")
    [row] = json.loads(done.stdout)
    assert (row["run_id"], row["n_added"], row["n_dropped"]) == ("guided-1", 0, 0)
    assert "not known here" in " ".join(done.stderr.split())


def test_positions_are_listed_and_written(rrti: Callable[..., Result], tmp_path: Path) -> None:
    rows = json.loads(rrti("--tau", 1.0, "--positions", "-", "--json").stdout)
    assert rows
    assert all(row["score"] > 1.0 for row in rows)
    assert set(rows[0]) >= {"sample_id", "position", "token_text", "score"}
    rrti("--tau", 1.0, "--positions", tmp_path / "positions.csv")
    assert len((tmp_path / "positions.csv").read_text().splitlines()) == len(rows) + 1
    with pytest.raises(UsageError, match="where one gate fires"):
        rrti("--positions", "-")


@pytest.mark.parametrize(("ending", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_sweep_is_drawn(rrti: Callable[..., Result], tmp_path: Path, ending: str, begins: bytes) -> None:
    rrti("--figure", tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").read_bytes().startswith(begins)


@pytest.mark.parametrize(("option", "name"), [("--figure", "x.gif"), ("--positions", "x.txt")])
def test_endings_that_cannot_be_written_are_refused_at_once(rrti: Callable[..., Result], option: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{option} {name} has no ending"):
        rrti("--tau", 1.0, option, name)


def test_a_command_and_a_call_have_the_same_options() -> None:
    called = WhatIfOptions.of({"spike_ratios": [0.1, 0.2], "lambda_value": 1.5, "seed": 3})
    assert called == WhatIfOptions(spike_ratios=[0.1, 0.2], use_lambda=True, lambda_=1.5, seed=3)
    assert not WhatIfOptions.of({"lambda_": 1.5, "use_lambda": False}).use_lambda
    with pytest.raises(
        UsageError, match=r"^lambda_=0.0 is too small.*window=0 is.*no option 'budget'; did you mean budgets"
    ):
        WhatIfOptions.of({"budget": [0.1], "window": 0, "lambda_value": 0.0})
    typed = inspect.signature(command.whatif).parameters.keys() - {"run", "db", "positions", "figure", "json"}
    assert typed == {field.name for field in fields(WhatIfOptions)} - {"seed"}
