"""Runs on a pair without servers: every way of decoding through the runner, into every sink, and counterfactuals of them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.db import checking, sealing
from rrti_sgl.db.layouts import Precision
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import Decoding
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import CalibrationMismatchError, EndpointError, UsageError
from rrti_sgl.grading import Grade, load_grader
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running import arms, counterfactual, preparing
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.preparing import prepare
from rrti_sgl.programs.running.runner import Progress, execute, run_program, run_seeds
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.programs.stored.followed import followed_run, takeover_rates
from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
from rrti_sgl.prompts import PromptTemplate, load_template
from rrti_sgl.records import FloatArray, ProblemRecord, RunRecord, SampleTrace
from rrti_sgl.science.deferral import DeferralGate
from rrti_sgl.science.gates import gate_of
from rrti_sgl.sinks.memory import MemorySink
from rrti_sgl.statistics.answers import answer_distance
from rrti_sgl.statistics.estimates import difference_of_shares
from tests.counterfactuals import try_arms
from tests.toy_pair import STOP, ToyEngine, toy_pair

Result = TypeVar("Result")
N = 12
BARE = load_template("bare@1")
GATE = GateOptions(tau=2.0)


class LastWord:
    """The answer is the last word of the solution."""

    name = "last-word-v1"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Right where it is the gold one."""
        answer = ([*text.split(), ""])[-1]
        return Grade(answer, answer == problem.answer)


GRADER = f"{__name__}:{LastWord.__name__}"


@pytest.fixture
def settings(tmp_path: Path) -> RunSettings:
    rng = np.random.default_rng(0)
    questions = [" ".join(f"w{i}" for i in rng.integers(1, 7, size=5)) for _ in range(N)]
    rows = [{"question": question, "answer": f"w{1 + place % 6}"} for place, question in enumerate(questions)]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunSettings(
        "guided", str(path), k=4, max_new_tokens=30, gate=GATE, base_prompt=BARE, reasoning_prompt=BARE, grader=GRADER
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "traces.duckdb", precision="exact") as opened:
        yield opened


def on_session(work: Callable[[PairSession], Awaitable[Result]], base: ToyEngine | None = None) -> Result:
    async def go() -> Result:
        pair = toy_pair(3)
        async with PairSession(replace(pair, base=base or pair.base), Concurrency(4)) as session:
            return await work(session)

    return asyncio.run(go())


def run(store: Store, settings: RunSettings, **options: Any) -> RunRecord:
    return on_session(lambda session: run_program(session, store, settings, **options))


def traces(store: Store, run_id: str) -> list[SampleTrace]:
    rows = store.sql("SELECT sample_id FROM samples WHERE run_id = $run ORDER BY problem_id", {"run": run_id}).to_pylist()
    return [store.load_sample(row["sample_id"]) for row in rows]


@pytest.mark.parametrize("program", ["base", "reasoning", "diagnose", "guided", "entropy", "random", "relay"])
def test_lockstep_and_chunked_runs_store_the_same_tokens(program: str, store: Store, settings: RunSettings) -> None:
    given = replace(settings, program=program)
    chunked, lockstep = (traces(store, run(store, replace(given, decoding=how)).run_id) for how in ("chunked", "lockstep"))
    assert len(chunked) == len(lockstep) == N
    for one, other in zip(chunked, lockstep, strict=True):
        np.testing.assert_array_equal(one.tokens.token_id, other.tokens.token_id)
        assert list(one.tokens.source) == list(other.tokens.source)
        assert (one.sample.answer, one.sample.correct) == (other.sample.answer, other.sample.correct)
        if program != "reasoning":  # alone, it is asked in one call, and what the base model would have drawn is not known
            np.testing.assert_array_equal(one.tokens.base_token_id, other.tokens.base_token_id)
            np.testing.assert_allclose(one.tokens.score, other.tokens.score, rtol=1e-6)


def test_exchanged_roles_swap_the_models_and_leave_them_their_prompts(store: Store, settings: RunSettings) -> None:
    """The record names the model that writes as base; either model alone writes the same in both directions."""
    own = PromptTemplate("w2 {question}")
    given = replace(settings, reasoning_prompt=own)
    exchanged = replace(given, exchanged=True)
    base, reasoning = ToyEngine(3), ToyEngine(1003)
    base.info, reasoning.info = (replace(base.info, model=name) for name in ("b", "r"))

    def runs(settings: RunSettings, **options: Any) -> RunRecord:
        async def go() -> RunRecord:
            pair = replace(toy_pair(3), base=base, reasoning=reasoning)
            async with PairSession(pair, Concurrency(4)) as session:
                return await run_program(session, store, settings, **options)

        return asyncio.run(go())

    for host, guest in (("base", "reasoning"), ("reasoning", "base")):
        alone, other = (runs(replace(each, program=end)) for each, end in ((given, host), (exchanged, guest)))
        assert (alone.base_model, alone.reasoning_model) == (other.reasoning_model, other.base_model) == ("b", "r")
        assert alone.tokenizer_hash == other.tokenizer_hash
        for one, same in zip(traces(store, alone.run_id), traces(store, other.run_id), strict=True):
            np.testing.assert_array_equal(one.tokens.token_id, same.tokens.token_id)
            assert one.sample.base_prompt == same.sample.reasoning_prompt
    guided = runs(exchanged)
    assert guided.config["exchanged"] is True
    assert "exchanged" not in runs(given).config
    [first, *_] = traces(store, guided.run_id)
    assert (first.sample.base_prompt or "").startswith("w2 ")
    assert not (first.sample.reasoning_prompt or "").startswith("w2 ")
    assert 0 < first.sample.n_takeovers < first.sample.n_tokens

    # Thresholds are of a direction, and a counterfactual stays in that of its sample.
    calibrated = replace(exchanged, gate=GateOptions(), allow_overlap=True)
    calibrate_on_run(store, runs(replace(given, program="diagnose")).run_id, metric="ce", spike_ratio=0.2)
    with pytest.raises(UsageError, match=r"no calibration for these models .*, b \+ r\)"):
        runs(calibrated)
    calibrate_on_run(store, runs(replace(exchanged, program="diagnose")).run_id, metric="ce", spike_ratio=0.2)
    assert runs(calibrated).status == "finished"


@pytest.mark.parametrize("program", ["guided", "entropy", "random", "deferral"])
def test_a_cooldown_is_kept_by_every_gate_and_its_decisions_replay(
    program: str, store: Store, settings: RunSettings
) -> None:
    """In the loop, in SQL over what is stored, and by `whatif`, which finds the run as the realised one."""
    gate = GateOptions(tau=0.2, budget=0.7, metric="tv", use_lambda=program == "entropy", lambda_=1.0, window=4)
    plain = run(store, replace(settings, program=program, gate=gate))
    record = run(store, replace(settings, program=program, gate=replace(gate, cooldown=3)))
    assert record.gate_params == {**plain.gate_params, "cooldown": 3}
    assert gate_of(record.gate or "", record.gate_params).rule.cooldown == 3  # type: ignore[union-attr]
    gaps = {name: set[int]() for name in (plain.run_id, record.run_id)}
    for run_id, found in gaps.items():
        for trace in traces(store, run_id):
            found |= set(np.diff(np.flatnonzero(trace.tokens.fired)).tolist())
    assert min(gaps[plain.run_id]) < 4
    assert min(gaps[record.run_id]) == 4
    if program in ("guided", "entropy"):
        [trial] = what_if(store, record.run_id, WhatIfOptions(stored=True)).trials
        assert (trial.outcome.n_added, trial.outcome.n_dropped, trial.outcome.rule.cooldown) == (0, 0, 3)
        factor = {"use_lambda": True, "lambda_": 1.0} if gate.use_lambda else {}
        tried = WhatIfOptions(metric=record.metric, tau=0.2, window=4, cooldown=3, **factor)
        [trial] = what_if(store, plain.run_id, tried).trials
        assert trial.realised_run == record.run_id
        assert trial.outcome.n_dropped > 0
    store.close()
    assert checking.check(store.path) == []


@pytest.mark.parametrize(
    ("program", "metric", "own"),
    [
        ("entropy", "entropy_base", {"rolling": 4}),
        ("guided", "tv", {"rolling": 2, "cooldown": 1}),
        ("guided", "js", {"entropy_tau": 1.0}),
        ("relay", "js", {"entropy_tau": 0.8, "rolling": 2}),
    ],
)
def test_rolling_means_and_doubt_are_calibrated_as_they_are_compared_and_replay(
    program: str, metric: str, own: dict[str, Any], store: Store, settings: RunSettings
) -> None:
    given = replace(settings, allow_overlap=True)
    diagnosed = run(store, replace(given, program="diagnose", gate=GateOptions()))
    calibration = calibrate_on_run(store, diagnosed.run_id, metric=metric, spike_ratio=0.2)
    gate = GateOptions(metric="ce" if program == "entropy" else metric, spike_ratio=0.2, **own)
    record = run(store, replace(given, program=program, gate=gate))
    assert (record.calibration_id, record.metric) == (calibration.calibration_id, metric)
    assert own.items() <= record.gate_params.items()
    assert gate_of(record.gate or "", record.gate_params).identity == record.gate_params

    compared: list[float] = []  # of the rollouts: by hand, from the stored metrics
    for trace in traces(store, diagnosed.run_id):
        values = trace.tokens.metrics[metric].astype(float)
        values = np.where(trace.tokens.metrics["entropy_base"] > own.get("entropy_tau", -1), values, 0)
        width = own.get("rolling", 1)
        compared += [float(np.mean(values[max(0, t + 1 - width) : t + 1])) for t in range(len(values))]
    assert record.tau is not None
    above, at_least = (sum(value > record.tau + slack for value in compared) for slack in (1e-12, -1e-12))
    assert above <= 0.2 * len(compared) < at_least

    [trial] = what_if(store, record.run_id, WhatIfOptions(stored=True)).trials
    assert (trial.outcome.n_added, trial.outcome.n_dropped) == (0, 0)
    assert trial.outcome.n_fired > 0
    if program != "relay":
        tried = WhatIfOptions(metric=metric, calibration_id=calibration.calibration_id, **own)
        found = what_if(store, diagnosed.run_id, tried)
        assert found.trials[0].realised_run == record.run_id
        assert own.items() >= {name: found.rows[0][name] for name in own if name != "cooldown"}.items()
        swept = what_if(store, diagnosed.run_id, WhatIfOptions(metric=metric, spike_ratios=[0.2], **own)).trials[0]
        assert swept.outcome.rule == found.trials[0].outcome.rule
    if program == "entropy":
        like = run(store, replace(given, program=program, gate=GateOptions(like=record.run_id, **own)))
        assert like.gate_params["rolling"] == own["rolling"]
    parent = next(trace.sample.sample_id for trace in traces(store, record.run_id) if trace.sample.n_changed)
    on_session(lambda session: try_arms(session, store, parent, trust=[GRADER]))
    store.close()
    assert checking.check(store.path) == []


def test_a_rolling_mean_or_a_doubt_of_nothing_is_refused(store: Store, settings: RunSettings) -> None:
    for program, own, message in (
        ("random", {"rolling": 4}, "rolling=4 does nothing: it is of the gates of guided, relay and entropy, not of random"),
        ("entropy", {"entropy_tau": 1.0}, "entropy_tau=1.0 does nothing: .* of guided and relay, not of entropy"),
        ("guided", {"rolling": 4, "use_lambda": True, "lambda_": 2.0}, "rolling = 4 and lambda = 2 both need"),
        ("guided", {"gate": "rrti_sgl.science.gates:NeverGate", "rolling": 4}, "rolling= is of the programs' gates"),
    ):
        with pytest.raises(UsageError, match=message):
            run(store, replace(settings, program=program, gate=replace(settings.gate, **own)))


def test_a_cooldown_of_nothing_is_refused(store: Store, settings: RunSettings) -> None:
    resting = replace(settings.gate, cooldown=2)
    for program in ("base", "reasoning", "diagnose"):
        with pytest.raises(UsageError, match=f"cooldown=2 does nothing: no gate of {program} chooses"):
            run(store, replace(settings, program=program, gate=resting))
    own = replace(resting, gate="rrti_sgl.science.gates:NeverGate")
    with pytest.raises(UsageError, match="cooldown= is of the programs' gates"):
        run(store, replace(settings, gate=own))


@pytest.mark.parametrize("precision", ["compact", "exact"])
def test_lists_that_end_at_a_mass_leave_everything_else_as_it_was(
    precision: Any, tmp_path: Path, settings: RunSettings
) -> None:
    mass = 0.6
    with Store.open(tmp_path / "mass.duckdb", precision=precision) as store:
        whole, cut = (run(store, replace(settings, top_k_mass=share)).run_id for share in (1.0, mass))
        lengths = set()
        for one, other in zip(traces(store, whole), traces(store, cut), strict=True):
            for name in ("token_id", "fired", "score", "ce", "kl", "base_tail_mass", "reasoning_tail_mass", "base_logprob"):
                np.testing.assert_array_equal(getattr(one.tokens, name), getattr(other.tokens, name), name)
            for model in ("base", "reasoning"):
                ids, shorter = (getattr(trace.tokens, f"{model}_topk_ids") for trace in (one, other))
                held = np.exp(np.nan_to_num(getattr(one.tokens, f"{model}_topk_logprobs"), nan=-np.inf)).cumsum(axis=1)
                for row, kept, total in zip(ids, shorter, held, strict=True):
                    n = int((kept >= 0).sum())
                    assert list(kept[:n]) == list(row[:n])
                    assert n == (row >= 0).sum() or total[n - 1] > mass - 0.01  # as the compact layout rounds
                    assert n < 2 or total[n - 2] < mass + 0.01
                    lengths.add(n)
        assert {1, 2} < lengths
        found = {run_id: run_query(store, "metrics", run=run_id, ks=[1], resamples=0).to_pylist() for run_id in (whole, cut)}
        (one, of_one), (other, of_other) = ([row for row in rows if row["part"] != "metrics"] for rows in found.values())
        assert [row | {"run_id": cut} for row in found[whole][:15]] == found[cut][:15]  # made of numbers, not of lists
        assert one["n_tokens"] == other["n_tokens"] == of_one["n_tokens"] == of_other["n_tokens"]
        assert max(of_one["bound_excess"], of_other["bound_excess"]) <= 1e-9
        assert store.sql("SELECT config FROM runs WHERE config LIKE '%top_k_mass%'").num_rows == 1
    sealing.seal(tmp_path / "mass.duckdb", cut)
    assert checking.check(tmp_path / "mass.duckdb") == []


@pytest.mark.parametrize(("decoding", "exchanged"), [("chunked", False), ("lockstep", False), ("chunked", True)])
def test_a_counterfactual_goes_on_from_its_token(
    decoding: Decoding, exchanged: bool, store: Store, settings: RunSettings
) -> None:
    """With the takeover the sample ends as it ended; without, the base model's token is what the rest goes on from."""
    parents = traces(store, run(store, replace(settings, decoding=decoding, exchanged=exchanged)).run_id)
    parent = next(trace for trace in parents if trace.sample.n_changed)
    work = lambda session: try_arms(session, store, parent.sample.sample_id, trust=[GRADER])  # noqa: E731
    record, effects = on_session(work)
    assert (record.program, record.status) == ("counterfactual", "finished")
    assert len(effects) == parent.sample.n_changed
    arms = traces(store, record.run_id)
    assert len(arms) == 2 * len(effects)
    changed = over = 0
    for arm in arms:
        position = arm.sample.parent_position
        assert position is not None
        assert arm.sample.parent_sample_id == parent.sample.sample_id
        if arm.sample.arm == "taken":
            np.testing.assert_array_equal(arm.tokens.token_id, parent.tokens.token_id[position + 1 :])
        else:
            changed += list(arm.tokens.token_id) != list(parent.tokens.token_id[position + 1 :])
        before = [*parent.tokens.token_id[:position]]
        token = (parent.tokens.token_id if arm.sample.arm == "taken" else parent.tokens.base_token_id)[position]
        if not arm.sample.n_tokens:  # the token ended the solution
            assert token == STOP or position == settings.max_new_tokens - 1
            over += 1
            continue
        assert arm.sample.base_prompt is not None
        assert parent.sample.base_prompt is not None
        shown = parent.sample.base_prompt + "".join(f"w{i}" for i in [*before, token])
        assert arm.sample.base_prompt.replace(" ", "") == shown.replace(" ", "")
    assert changed
    assert over


def test_a_counterfactual_goes_on_until_its_effects_are_known(store: Store, settings: RunSettings) -> None:
    """In steps of both arms; what is known after the first is not continued."""
    parent = next(trace for trace in traces(store, run(store, settings).run_id) if trace.sample.n_changed)
    given: dict[str, Any] = {"temperature": 1.0, "trust": [GRADER]}

    def work(until: float) -> Callable[[PairSession], Awaitable[Any]]:
        sample = parent.sample.sample_id
        return lambda session: try_arms(session, store, sample, continuations=20, until=until, **given)

    seen: list[Progress] = []
    given["on_progress"] = seen.append
    record, found = on_session(work(0.3))
    assert all(progress.done <= progress.total for progress in seen)
    assert seen[-1].done == seen[-1].total == 2 * sum(each.continuations for each in found)
    first = {(each.position, arm): parent.sample.sample_index + 1 + 20 * (2 * each.position + 2 + arm)
             for each in found for arm in (0, 1)}  # fmt: skip
    assert record.status == "finished"
    assert {each.continuations for each in found} <= {8, 16, 20}
    for each in found:
        assert each.continuations == 20 or each.reach <= 0.3
        low, high = each.interval
        assert -1 <= low <= each.effect <= high <= 1 or abs(each.effect) == 1
        if each.continuations > 8:  # after a step less it was not known yet
            n = {16: 8, 20: 16}[each.continuations]
            arms = [t.sample for t in traces(store, record.run_id) if t.sample.parent_position == each.position]
            answers = [
                [s.answer or "" for s in arms if s.arm == arm and s.sample_index < first[each.position, number] + n]
                for number, arm in enumerate(("taken", "denied"))
            ]
            gold = store.get_problem(record.problem_set, parent.sample.problem_id).answer
            x, y = (each.count(gold or "") for each in answers)
            ends = (difference_of_shares(x, n, y, n), answer_distance(*answers)[1:])
            assert max(high - low for low, high in ends) / 2 > 0.3
    _, wide = on_session(work(1.0))
    assert {each.continuations for each in wide} == {8}
    for asked, named in (({"until": 0.3}, r"until=0\.3"), ({"unit": "sentence"}, "unit='sentence'")):
        with pytest.raises(UsageError, match=f"{named} is of sampled continuations"):
            plan_arms(store, parent.sample.sample_id, trust=[GRADER], **asked)
    [arm, *_] = traces(store, record.run_id)
    with pytest.raises(UsageError, match=f"is the end of another one.*{parent.sample.sample_id}"):
        plan_arms(store, arm.sample.sample_id, trust=[GRADER])


def test_a_sentence_is_kept_or_drawn_anew(store: Store, settings: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beginning between two sentences serves both; without chance each goes on as the sample did."""
    planted = SimpleNamespace(positions=lambda problem, words: range(len(words)))
    monkeypatch.setattr(preparing, "Finisher", lambda *given: Finisher(*given[:3], planted, *given[4:]))
    monkeypatch.setattr(arms, "sentences", lambda pieces: [(0, 1), (2, 4), (5, len(pieces) - 1)])
    parent = max(traces(store, run(store, settings).run_id), key=lambda trace: trace.sample.n_tokens)
    n, given = parent.sample.n_tokens, {"unit": "sentence", "temperature": 1.0, "trust": [GRADER]}
    assert n > 6
    record, found = on_session(lambda s: try_arms(s, store, parent.sample.sample_id, continuations=3, **given))
    assert [(each.unit.first, each.position) for each in found] == [(0, 1), (2, 4), (5, n - 1)]
    assert " ".join(each.text for each in found) == parent.sample.text
    kept: dict[int, list[SampleTrace]] = {}
    for trace in traces(store, record.run_id):
        assert trace.sample.arm == "kept"
        assert trace.sample.parent_position is not None
        kept.setdefault(trace.sample.parent_position, []).append(trace)
    assert {place: len(each) for place, each in kept.items()} == {-1: 3, 1: 3, 4: 3, n - 1: 3}
    for place, each in kept.items():
        for trace in each:  # nothing of what is all given
            assert trace.tokens.planted.tolist() == [int(token != STOP) for token in trace.tokens.token_id]
        assert {trace.sample.base_prompt for trace in each if trace.sample.base_calls} <= {
            (parent.sample.base_prompt or "") + "".join(parent.tokens.token_text[: place + 1])
        }
    for each in found:
        for place, share in ((each.position, each.taken), (each.unit.first - 1, each.denied)):
            assert share == pytest.approx(np.mean([bool(trace.sample.correct) for trace in kept[place]]))
    assert found[-1].taken == bool(parent.sample.correct), "all of it is given"
    one = plan_arms(store, parent.sample.sample_id, positions=[3], **given)
    assert (one.spans, one.most(), one.tokens(parent.sample)) == (((2, 4),), 2 * 8, 8 * (n - 2 + n - 5))
    # Drawn without chance, every beginning leads to the sample's own end.
    trace, calls = parent, {"positions": [3], "continuations": 1, "temperature": 1e-6}
    record, _ = on_session(lambda s: try_arms(s, store, trace.sample.sample_id, **{**given, **calls}))
    for arm in traces(store, record.run_id):
        np.testing.assert_array_equal(arm.tokens.token_id, parent.tokens.token_id[(arm.sample.parent_position or 0) + 1 :])


def test_a_stopped_counterfactual_goes_on_where_it_was(store: Store, settings: RunSettings) -> None:
    parent = next(trace for trace in traces(store, run(store, settings).run_id) if trace.sample.n_changed)
    given: dict[str, Any] = {"continuations": 6, "temperature": 1.0, "trust": [GRADER]}

    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise EndpointError("The server died.", "See its log.")

    with pytest.raises(EndpointError) as stopped:
        on_session(lambda s: try_arms(s, store, parent.sample.sample_id, on_progress=stop, **given))
    [row] = store.sql("SELECT run_id, status FROM runs WHERE program = 'counterfactual'").to_pylist()
    assert row["status"] == "failed"
    assert row["run_id"] in stopped.value.remedy
    before = [trace.sample.sample_id for trace in traces(store, row["run_id"])]
    assert len(before) >= 5
    arms = plan_arms(store, resume=row["run_id"])
    assert (arms.sample, arms.continuations, arms.temperature) == (parent.sample.sample_id, 6, 1.0)
    record, found = on_session(lambda s: try_arms(s, store, resume=row["run_id"], trust=[GRADER]))
    assert (record.run_id, record.status) == (row["run_id"], "finished")
    assert {each.continuations for each in found} == {6}
    after = [trace.sample.sample_id for trace in traces(store, record.run_id)]
    assert len(after) == len(set(after)) == arms.most()
    assert set(before) <= set(after)
    with pytest.raises(UsageError, match="does not say which arms it has"):
        plan_arms(store, resume=parent.sample.run_id)
    with pytest.raises(UsageError, match="continuations= is that of the run which goes on"):
        plan_arms(store, resume=record.run_id, continuations=9)
    with pytest.raises(UsageError, match="of one sample, or goes on with one run"):
        plan_arms(store)


def test_pivotal_tokens_are_searched(store: Store, settings: RunSettings) -> None:
    """By the plan, from what is stored; stopped and continued it has the same beginnings, and a budget is kept."""
    parent = max(traces(store, run(store, settings).run_id), key=lambda trace: trace.sample.n_tokens)
    sample, n = parent.sample.sample_id, parent.sample.n_tokens
    given: dict[str, Any] = {"unit": "pivotal", "temperature": 1.0, "trust": [GRADER]}

    def stop(progress: Progress) -> None:
        if progress.done == 21:
            raise EndpointError("The server died.", "See its log.")

    with pytest.raises(EndpointError):
        on_session(lambda s: try_arms(s, store, sample, gap=0.25, on_progress=stop, **given))
    [started] = store.find_runs(program="counterfactual")
    record, found = on_session(lambda s: try_arms(s, store, resume=started.run_id, trust=[GRADER]))
    assert (record.run_id, record.status) == (started.run_id, "finished")
    asked = plan_arms(store, resume=record.run_id)
    assert (asked.gap, asked.spans, asked.first(), asked.most()) == (0.25, ((0, n - 1),), 16, 64 * (n + 1))
    continued = counterfactual.seen(store, record.run_id, asked, parent.sample)
    assert asked.plan.planned(continued).wanted == {branch: len(each) for branch, each in continued.items()}
    for each in found:
        assert abs(each.effect) >= 0.25
        assert each.text == "".join(parent.tokens.token_text[each.unit.first : each.position + 1]).strip()
    rows = run_query(store, "pivotal", run=record.run_id, resamples=0).to_pylist()
    assert rows[0]["n_pivotal"] == sum(each.unit.first == each.position for each in found)
    record, _ = on_session(lambda s: try_arms(s, store, sample, budget=40, **given))
    assert 16 <= len(traces(store, record.run_id)) <= 40
    inside = plan_arms(store, sample, positions=[1], **given)
    assert (inside.spans, inside.gap, inside.continuations) == (((0, n - 1),), 0.2, 64)
    for wrong, message in (
        ({"unit": "pivotal", "until": 0.2}, r"until=0\.2 is not of a search"),
        ({"gap": 0.2}, r"gap=0\.2 is of a search"),
        ({"budget": 15, "unit": "pivotal"}, "budget=15 is spent at once: 16 continuations come first"),
        ({"unit": "word"}, "unit='word' is no unit"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_arms(store, sample, **{**given, "unit": None, **wrong})


def killed_between_steps(path: Path, sample: str) -> None:
    """A counterfactual in a process that dies once its first step is stored, when it looks what came out."""
    looked, seen = [], counterfactual.seen

    def die(*given: Any) -> Any:
        looked.append(seen(*given))
        return looked[0] if len(looked) == 1 else os.kill(os.getpid(), signal.SIGKILL)

    counterfactual.seen = die
    given: dict[str, Any] = {"continuations": 20, "until": 0.1, "temperature": 1.0, "trust": [GRADER]}
    with Store.open(path) as store:
        on_session(lambda session: try_arms(session, store, sample, **given))


def test_a_counterfactual_killed_between_steps_is_not_finished(store: Store, settings: RunSettings) -> None:
    parent = next(trace for trace in traces(store, run(store, settings).run_id) if trace.sample.n_changed > 1)
    store.close()
    process = multiprocessing.get_context("spawn").Process(
        target=killed_between_steps, args=(store.path, parent.sample.sample_id)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with Store.open(store.path) as opened:
        [killed] = opened.find_runs(program="counterfactual")
        arms = plan_arms(opened, resume=killed.run_id)
        assert (killed.status, arms.until) == ("running", 0.1)
        assert len(opened.finished_samples(killed.run_id)) == 8 * len(arms.branches)
        work = lambda session: try_arms(session, opened, resume=killed.run_id, trust=[GRADER])  # noqa: E731
        record, found = on_session(work)
        assert (record.run_id, record.status) == (killed.run_id, "finished")
        assert all(each.continuations == 20 or each.reach <= 0.1 for each in found)
        assert max(each.continuations for each in found) == 20


def test_a_run_into_memory_and_into_a_file_is_the_same(store: Store, settings: RunSettings) -> None:
    async def both(session: PairSession) -> tuple[RunRecord, MemorySink, RunRecord]:
        prepared = prepare(session.pair, settings, store)
        memory = MemorySink()
        kept = await execute(session, memory, prepared)
        async with DuckDBSink(store) as sink:
            return kept, memory, await execute(session, sink, prepared)

    kept, memory, stored = on_session(both)
    assert (kept.run_id, kept.status, len(memory.problems)) == (stored.run_id, "finished", N)
    for trace in traces(store, stored.run_id):
        same = memory.traces[kept.run_id][trace.sample.sample_id]
        np.testing.assert_array_equal(trace.tokens.token_id, same.tokens.token_id)
        np.testing.assert_array_equal(trace.tokens.score, same.tokens.score)
        assert trace.sample.correct == same.sample.correct


class Breaking(ToyEngine):
    """Fails for good after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__(3)
        self.left = calls

    async def generate(self, requests: list[GenerateRequest]) -> list[Generation]:  # type: ignore[override]
        self.left -= 1
        if self.left < 0:
            raise EndpointError("The server is gone.", "Start it again.")
        return await super().generate(requests)


def test_what_was_finished_is_kept_and_the_same_command_goes_on(store: Store, settings: RunSettings) -> None:
    whole = traces(store, run(store, settings).run_id)
    with pytest.raises(EndpointError, match="is gone") as error:
        on_session(lambda session: run_program(session, store, settings), Breaking(20))
    [broken] = store.sql("SELECT run_id, status, error FROM runs WHERE status <> 'finished'").to_pylist()
    assert (broken["status"], broken["error"]) == ("failed", "The server is gone. Start it again.")
    assert f"Continue with: run(..., resume={broken['run_id']!r})" in error.value.remedy
    kept = len(traces(store, broken["run_id"]))
    assert 0 < kept < N

    with pytest.raises(CalibrationMismatchError, match=r"seed was 0 and is 1"):
        run(store, replace(settings, seed=1), resume=broken["run_id"])
    done: list[int] = []
    record = run(store, settings, anew=False, on_progress=lambda progress: done.append(progress.done))
    assert (record.run_id, record.status, record.error) == (broken["run_id"], "finished", None)
    assert done == list(range(kept + 1, N + 1))
    for one, other in zip(traces(store, record.run_id), whole, strict=True):
        np.testing.assert_array_equal(one.tokens.token_id, other.tokens.token_id)


def test_one_version_of_a_grader_judges_all_of_a_run_that_goes_on(
    store: Store, settings: RunSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EndpointError, match="is gone"):
        on_session(lambda session: run_program(session, store, settings), Breaking(20))
    [broken] = store.find_runs()
    kept = [trace.sample for trace in traces(store, broken.run_id)]
    assert 0 < len(kept) < N

    of_runs = type(load_grader(GRADER))  # a module of tests may have been imported twice
    monkeypatch.setattr(of_runs, "name", "last-word-v2")
    monkeypatch.setattr(of_runs, "grade", lambda self, problem, text: Grade("?", True))
    with pytest.raises(CalibrationMismatchError, match=r"grader was .*; seed was 0 and is 1"):
        run(store, replace(settings, seed=1), resume=broken.run_id)
    assert [trace.sample for trace in traces(store, broken.run_id)] == kept  # another command changes nothing
    record = run(store, settings, anew=False)
    assert (record.run_id, record.grader, record.config["grader"]) == (broken.run_id, "last-word-v2", GRADER)
    assert [each["grader"] for each in record.config["regraded"]] == ["last-word-v1"]
    assert [(trace.sample.answer, trace.sample.correct) for trace in traces(store, record.run_id)] == [("?", True)] * N
    assert f"goes on with last-word-v2: its samples are graded again ({len(kept)})" in caplog.text

    monkeypatch.setattr(of_runs, "name", "last-word-v3")
    assert run(store, settings, resume=record.run_id).grader == "last-word-v2"  # nothing of it goes on


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 8}, "k = 8 is outside 1..7"),
        ({"gate": GateOptions()}, "no calibration for these models with metric ce, k = 4"),
        ({"program": "oracle"}, "plants no decision points"),
        ({"max_new_tokens": 10_000}, "the 10000 that the base server takes in all"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_stored(
    changes: dict[str, Any], message: str, store: Store, settings: RunSettings
) -> None:
    with pytest.raises(UsageError, match=message):
        run(store, replace(settings, **changes))
    assert store.sql("SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM problems) AS n").to_pylist() == [{"n": 0}]


@pytest.fixture
def many(tmp_path: Path, settings: RunSettings) -> RunSettings:
    """`guided` on 200 problems, sampled three times each: enough to compare budgets."""
    path = tmp_path / "many.jsonl"
    rng = np.random.default_rng(1)
    rows = [{"question": " ".join(f"w{i}" for i in rng.integers(1, 7, size=5)), "answer": "w1"} for _ in range(200)]
    path.write_text("".join(json.dumps({"id": str(place), **row}) + "\n" for place, row in enumerate(rows)))
    return replace(settings, problems=str(path), samples=3, temperature=1.0)


def separates(tau: float | None, values: FloatArray, share: float) -> bool:
    """Whether no value is near it, and no more values than that share exceed it unless the next smaller ones do as well."""
    assert tau is not None
    assert np.abs(values - tau).min() > 1e-6
    more = values >= values[values < tau].max()  # there are ties
    return float(np.mean(values > tau)) <= share + 1e-9 < float(np.mean(more)) + 2e-9


def test_controls_take_over_as_often_as_the_run_that_they_follow(store: Store, many: RunSettings) -> None:
    """Random, first, by entropy and by position: at the realised rho of guided; by position also where guided did."""
    guided = run(store, replace(many, gate=GateOptions(tau=3.0)))
    records = {}
    for program in ("random", "early", "entropy", "matched"):
        records[program] = run(store, replace(many, program=program, gate=GateOptions(like=guided.run_id[:-2])))
        assert records[program].config["gate"]["like"] == guided.run_id
        assert records[program].calibration_id is None
    found = store.sql("SELECT run_id, program, rho FROM run_view").to_pylist()
    rho = {row["program"]: row["rho"] for row in found}
    for program in ("random", "matched"):
        assert rho[program] == pytest.approx(rho["guided"], rel=0.15), program
    assert records["random"].gate_params == {"rho": rho["guided"]}
    [a_sample] = store.sql("SELECT avg(n_takeovers) AS n FROM samples WHERE run_id = $r", {"r": guided.run_id})[
        "n"
    ].to_pylist()
    assert records["early"].gate_params == {"horizon": pytest.approx(a_sample)}
    entropies = store.scores(guided.run_id, "entropy_base")
    assert separates(records["entropy"].tau, entropies, rho["guided"])

    by_position = """
        SELECT position, count(*) AS tokens, count(*) FILTER (source = 'reasoning') AS takeovers
        FROM tokens JOIN runs USING (run_id) WHERE program = $p GROUP BY position ORDER BY position
    """
    theirs, own = (store.sql(by_position, {"p": p}).to_pandas() for p in ("guided", "matched"))
    edges, rates = takeover_rates(theirs["tokens"].to_numpy(np.int32), theirs["takeovers"].to_numpy(np.int32))
    assert records["matched"].gate_params == {"edges": edges, "rates": pytest.approx(rates)}
    asked = np.repeat(rates, np.diff([*edges, len(own)]))
    expected, spread = own["tokens"] * asked, np.sqrt(own["tokens"] * asked * (1 - asked))
    assert (np.abs(own["takeovers"] - expected) <= 5 * spread + 1).all()  # the draws follow the run's id


@pytest.mark.parametrize(("precision", "mass", "said"), [("compact", 1.0, "rounded lists"), ("exact", 0.9, "shorter ones")])
def test_a_deferral_rule_takes_no_threshold_from_lists_that_are_not_what_its_gate_sees(
    tmp_path: Path, settings: RunSettings, precision: Precision, mass: float, said: str
) -> None:
    """Nearly certain tokens lie around 0: rounded, 84 of 100 had one value, and the rule took over at half of all tokens."""
    with Store.open(tmp_path / "other.duckdb", precision=precision) as store:
        guided = run(store, replace(settings, top_k_mass=mass))
        with pytest.raises(UsageError, match=said):
            run(store, replace(settings, program="deferral", gate=GateOptions(like=guided.run_id, deferral="opt")))


def test_controls_that_choose_by_the_drawn_token_follow_a_run(store: Store, many: RunSettings) -> None:
    """Deferral rules at that budget, the threshold from stored lists; takeovers of the very tokens that were taken there."""
    guided = run(store, replace(many, gate=GateOptions(tau=3.0)))
    [rho] = store.sql("SELECT rho FROM run_view").column(0).to_pylist()
    # The score of a rule, asked again for the stored tokens, is what its gate saw.
    rule = run(store, replace(many, program="deferral", samples=1, gate=GateOptions(deferral="token", tau=0.6)))
    followed = followed_run(store, rule.run_id)
    np.testing.assert_array_equal(followed.signals(DeferralGate("token", 0.6)), store.scores(rule.run_id))
    like = GateOptions(like=guided.run_id)
    for name in ("chow", "difference", "opt", "token"):
        record = run(store, replace(many, program="deferral", gate=replace(like, deferral=name)))
        signals = followed_run(store, guided.run_id).signals(DeferralGate(name, 0.0))
        assert separates(record.tau, signals, rho)
        assert record.gate_params == {"rule": name, "tau": record.tau}
    record = run(store, replace(many, program="matched", gate=replace(like, match="token")))
    by_token = """
        SELECT base_token_id AS id, count(*) AS n, count(*) FILTER (source = 'reasoning') AS taken
        FROM tokens WHERE run_id = $run GROUP BY id HAVING taken > 0 ORDER BY id
    """
    theirs, own = (store.sql(by_token, {"run": each.run_id}).to_pandas() for each in (guided, record))
    assert record.gate_params == {"ids": theirs["id"].tolist(), "rates": (theirs["taken"] / theirs["n"]).tolist()}
    joined = own.merge(theirs, on="id", how="left", suffixes=("", "_there"))
    rate = joined["taken_there"] / joined["n_there"]
    spread = np.sqrt(joined["n"] * rate * (1 - rate))
    assert (np.abs(joined["taken"] - joined["n"] * rate) <= 5 * spread + 1).all()


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.data())
def test_rates_by_position_add_up_to_the_takeovers(lengths: list[int], data: st.DataObject) -> None:
    tokens = np.sort(np.array(lengths))[::-1].astype(np.int32)  # samples end, none begins late
    takeovers = np.array([data.draw(st.integers(0, int(n))) for n in tokens[:20]] + [0] * (len(tokens[20:])), dtype=np.int32)
    bins = data.draw(st.integers(1, 40))
    edges, rates = takeover_rates(tokens, takeovers, bins)
    assert edges[0] == 0
    assert len(edges) == len(rates) <= bins
    by_position = np.repeat(rates, np.diff([*edges, len(tokens)]))
    assert float(by_position @ tokens) == pytest.approx(float(takeovers.sum()))
    assert takeover_rates(tokens, takeovers, int(tokens.sum())) == (
        list(range(len(tokens))), pytest.approx((takeovers / tokens).tolist())
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "gate", "message"),
    [
        ({"program": "random"}, {"like": "none-of-these"}, "No run id starts with 'none-of-these'"),
        ({"program": "random"}, {"like": "base"}, "has no takeover that could be followed"),
        ({"program": "random"}, {"like": "relay"}, "'relay' could be any of relay-"),
        ({"program": "random", "temperature": 0.5}, {"like": "guided"}, "temperature is 0.0 there, 0.5 here"),
        ({"program": "entropy"}, {"like": "entropy-"}, "No run id"),
        ({"program": "matched"}, {}, "No run to take over like is named"),
        (
            {"program": "guided"},
            {"like": "guided", "tau": 2.0},
            "guided does not take over like .* for entropy, deferral, random, early, m",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(
    changes: dict[str, Any], gate: dict[str, Any], message: str, store: Store, settings: RunSettings
) -> None:
    for program in ("guided", "base", "relay", "relay"):
        run(store, replace(settings, program=program))
    with pytest.raises(UsageError, match=message):
        run(store, replace(settings, **changes, gate=GateOptions(**gate)))


def test_settings_without_a_later_option_are_stored_as_before(settings: RunSettings) -> None:
    """So that an experiment finds the runs that an older version made, by their hash."""
    assert "like" not in settings.to_dict()["gate"]
    followed = replace(settings, gate=GateOptions(like="guided"))
    assert followed.to_dict()["gate"]["like"] == "guided"
    for each in (settings, followed):
        assert RunSettings.from_dict(json.loads(json.dumps(each.to_dict())), trust=[GRADER]).gate == each.gate


def test_seeds_are_made_once_and_more_of_them_make_what_is_new(store: Store, settings: RunSettings) -> None:
    sampled = replace(settings, temperature=1.0)

    def seeds(n: int, base: ToyEngine | None = None, **options: Any) -> list[RunRecord]:
        return on_session(lambda session: run_seeds(session, store, sampled, n, **options), base)

    with pytest.raises(EndpointError):
        seeds(2, Breaking(20))
    [broken] = store.find_runs()
    begun: list[int] = []
    two = seeds(2, track=lambda seeded: begun.append(seeded.seed))
    assert [(run.seed, run.status) for run in two] == [(0, "finished"), (1, "finished")]
    assert two[0].run_id == broken.run_id  # continued
    three = seeds(3, track=lambda seeded: begun.append(seeded.seed))
    assert [run.run_id for run in three[:2]] == [run.run_id for run in two]
    assert begun == [0, 1, 2]
    [group] = [row for row in run_query(store, "accuracy").to_pylist() if row["part"] == "seeds"]
    assert (group["n_seeds"], group["n_samples"]) == (3, 3 * N)
    assert [run.seed for run in seeds(2, anew=True)] == [0, 1]
    assert len(store.find_runs()) == 5
    with pytest.raises(UsageError, match="seeds=0 makes no run"):
        seeds(0)
