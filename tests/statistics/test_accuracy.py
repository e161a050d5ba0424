"""Accuracy, pass@k and recovery: by hand, against all subsets, and intervals against resampled problems."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rrti_sgl.cli.summaries import print_run_summary
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.headlines import everything
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import RESAMPLES, bootstrap, random_traces, rows, share_ends, write_run

RIGHT = {"b": "0100", "t": "1111", "g": "0111"}


def graded(build, run_id, right, problem_set=""):
    """Two samples of five tokens for each problem; the gate fires in the last three samples of run g."""
    return [
        build["trace"](
            run_id,
            f"{problem_set}p{i // 2}",
            i % 2,
            np.arange(5.0),
            correct=flag == "1",
            tokens={"fired": np.array([False, i >= 1, False, False, False]) & run_id.startswith("g")},
        )
        for i, flag in enumerate(right)
    ]


@pytest.fixture
def three(store, build):
    programs = {"b": "base", "t": "reasoning", "g": "guided"}
    for run_id, right in RIGHT.items():
        write_run(store, run_id, graded(build, run_id, right), program=programs[run_id])
    return store


def test_golden(three):
    got = {row["run_id"]: row for row in rows(three, "accuracy", base="b", reasoning="t")}
    assert list(got) == ["b", "t", "g"]
    assert [row["accuracy"] for row in got.values()] == pytest.approx([0.25, 1.0, 0.75])
    assert [row["pass_at_k"] for row in got.values()] == pytest.approx([0.5, 1.0, 1.0])
    assert {row["k"] for row in got.values()} == {2}
    guided = got["g"]
    assert (guided["n_problems"], guided["n_samples"]) == (2, 4)
    assert (guided["rho_mean"], guided["rho_pooled"]) == pytest.approx((3 / 20, 3 / 20))
    assert (guided["recovery_accuracy"], guided["recovery_pass"]) == pytest.approx((2 / 3, 1.0))
    [alone] = rows(three, "accuracy", run="g", k=1)
    assert (alone["pass_at_k"], alone["recovery_pass"]) == (pytest.approx(0.75), None)


def test_budgets_of_samples_of_different_lengths(store, build):
    short = build["trace"](ce=[1.0], tokens={"fired": [True]}, finish_reason="length")
    write_run(store, "r1", [short, build["trace"](index=1, ce=[0.0, 0.0, 1.0])])
    (row,) = rows(store, "accuracy")
    assert (row["rho_mean"], row["rho_pooled"]) == pytest.approx((0.5, 0.25))
    assert row["truncated"] == 0.5


def test_samples_that_do_not_say_how_they_ended_were_not_cut_off(store, build, capsys):
    ends = ["length", "stop", "unknown", "unknown"]
    write_run(store, "r1", [build["trace"](index=i, finish_reason=end) for i, end in enumerate(ends)])
    write_run(store, "r2", [build["trace"]("r2", finish_reason="unknown")])
    assert {row["run_id"]: row["truncated"] for row in rows(store, "accuracy")} == {"r1": 0.5, "r2": None}
    print_run_summary(store, store.get_run("r2"), as_json=False)
    assert "reached the limit" not in capsys.readouterr().out


def test_more_samples_than_k(store, build):
    write_run(store, "r1", [build["trace"](index=i, correct=i < 3) for i in range(8)])
    for k in range(1, 9):
        expected = np.mean([any(i < 3 for i in subset) for subset in combinations(range(8), k)])
        assert rows(store, "accuracy", k=k)[0]["pass_at_k"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_those_of_resampled_problems(store, seed):
    rng = np.random.default_rng(seed)
    runs = {run_id: random_traces(rng, run_id, problems=9) for run_id in ("base", "think", "guided")}
    for run_id, traces in runs.items():
        write_run(store, run_id, traces)

    def by_problem(run_id, value):
        return [[value(t) for t in runs[run_id] if t.sample.problem_id == f"p{i}"] for i in range(9)]

    right = {run_id: np.mean(by_problem(run_id, lambda t: t.sample.correct), axis=1) for run_id in runs}
    got = run_query(store, "accuracy", base="base", reasoning="think", resamples=RESAMPLES).to_pylist()[-1]
    assert (got["accuracy_low"], got["accuracy_high"]) == pytest.approx(share_ends(right["guided"], [1] * 9, exact=True))
    takeovers, tokens = (
        np.sum(by_problem("guided", lambda t, name=name: getattr(t.sample, name)), axis=1)
        for name in ("n_takeovers", "n_tokens")
    )
    assert (got["rho_pooled_low"], got["rho_pooled_high"]) == pytest.approx(share_ends(takeovers, tokens))
    shares = by_problem("guided", lambda t: t.sample.n_takeovers / t.sample.n_tokens)
    # One more trial is a token, of which a sample has so many.
    expected = share_ends(np.sum(shares, axis=1), [3] * 9, unit=27 / tokens.sum())
    assert (got["rho_mean_low"], got["rho_mean_high"]) == pytest.approx(expected)
    leads, gains = (bootstrap(9).sums(right[run] - right["base"]) for run in ("think", "guided"))
    one_more = bootstrap(9).imaginary(np.ones((9, 1)))[:, 0] / 3
    assert got["recovery_accuracy"] == pytest.approx(
        (right["guided"] - right["base"]).sum() / (right["think"] - right["base"]).sum(), abs=1e-9
    )
    if max((leads > one_more).mean(), (leads < -one_more).mean()) < 0.975:
        assert (got["recovery_accuracy_low"], got["recovery_accuracy_high"]) == (None, None)
    else:
        ends = np.sort([(gains - one_more) / leads, (gains + one_more) / leads], axis=0)
        expected = [np.quantile(ends[0], 0.025), np.quantile(ends[1], 0.975)]
        assert (got["recovery_accuracy_low"], got["recovery_accuracy_high"]) == pytest.approx(expected)


def test_a_certain_lead_has_an_interval_and_an_uncertain_one_has_none(store, build):
    for run_id, right in (("b", "00" * 8), ("t", "11" * 8), ("g", "1100" * 4), ("even", "10" + "00" * 7)):
        write_run(store, run_id, graded(build, run_id, right))
    got = run_query(store, "accuracy", run="g", base="b", reasoning="t").to_pylist()[-1]
    assert got["recovery_accuracy_low"] < got["recovery_accuracy"] == 0.5 < got["recovery_accuracy_high"]
    got = run_query(store, "accuracy", run="g", base="b", reasoning="even").to_pylist()[-1]
    assert (got["recovery_accuracy_low"], got["recovery_accuracy_high"]) == (None, None)


def test_all_right_is_not_certainly_always_right(three):
    got = {row["run_id"]: row for row in run_query(three, "accuracy").to_pylist()}
    assert (got["t"]["accuracy_low"], got["t"]["accuracy_high"]) == pytest.approx((0.025**0.5, 1.0), rel=1e-3)
    assert got["t"]["rho_pooled_high"] is None, "two problems say too little of tokens"


def test_recovery_between_two_perfect_runs_is_not_certainly_all(store, build):
    """It was 100 [100, 100] between two pass@2 of [88.4, 100]."""
    for run_id, right in (("b", "00" * 11 + "10" * 19), ("t", "11" * 30), ("g", "10" * 30)):
        write_run(store, run_id, graded(build, run_id, right))
    got = run_query(store, "accuracy", run="g", base="b", reasoning="t").to_pylist()[-1]
    assert (got["pass_at_k_low"], got["pass_at_k_high"]) == pytest.approx((0.884, 1.0), abs=1e-3)
    assert got["recovery_pass_low"] < 0.7 < got["recovery_pass"] == 1.0 < got["recovery_pass_high"]


@pytest.mark.parametrize(("program", "tau", "fires"), [("base", None, False), ("reasoning", 0.5, True)])
def test_a_budget_that_is_given_has_no_interval(store, build, program, tau, fires):
    traces = [build["trace"]("r", f"p{i}", tokens={"fired": np.full(3, fires)}) for i in range(8)]
    write_run(store, "r", traces, program=program, tau=tau)
    [got] = run_query(store, "accuracy").to_pylist()
    assert got["rho_pooled"] == float(fires)
    assert got["rho_pooled_low"] is got["rho_mean_high"] is got["changed_high"] is None


def test_averages_over_problem_sets(store, build):
    right = {"b": ("0100", "000000"), "t": ("1111", "111100"), "g": ("0111", "110000")}
    for run_id, each in right.items():
        for problem_set, flags in zip(("easy", "hard"), each, strict=True):
            run = f"{run_id}-{problem_set}"
            config = {"seed": 1, "problems": problem_set, "limit": len(flags)}
            write_run(store, run, graded(build, run, flags), program=run_id, problem_set=problem_set, config=config)
    got = run_query(store, "accuracy", run=["g"], base=["b"], reasoning=["t"]).to_pylist()
    assert [row["run_id"] for row in got[:6]] == ["b-easy", "b-hard", "t-easy", "t-hard", "g-easy", "g-hard"]
    base, reasoning, guided = got[6:]
    assert {row["part"] for row in got[6:]} == {"average"}
    assert (guided["program"], guided["problem_set"], guided["n_problems"], guided["n_samples"]) == ("g", "mean of 2", 5, 10)
    assert guided["accuracy"] == pytest.approx((3 / 4 + 1 / 3) / 2)
    lead = reasoning["accuracy"] - base["accuracy"]
    assert guided["recovery_accuracy"] == pytest.approx((guided["accuracy"] - base["accuracy"]) / lead)
    ends = []
    for seed, right in enumerate(([0.5, 1.0], [1.0, 0.0, 0.0])):
        drawn = ProblemBootstrap(len(right), seed=seed, exact=True)
        one_more = drawn.imaginary(np.ones((len(right), 1)))[:, 0]
        ends.append([(drawn.sums(right) + value * one_more) / (len(right) + one_more) for value in (0, 1)])
    low, high = np.mean(ends, axis=0)
    expected = (np.quantile(low, 0.025), np.quantile(high, 0.975))
    assert (guided["accuracy_low"], guided["accuracy_high"]) == pytest.approx(expected)


def test_two_runs_on_one_problem_set_have_no_average(store, build):
    for run_id, problem_set in (("g1", "easy"), ("g2", "easy"), ("g3", "hard")):
        write_run(store, run_id, graded(build, run_id, "0111"), problem_set=problem_set)
    assert {row["part"] for row in rows(store, "accuracy")} == {"run"}
    assert [row["part"] for row in rows(store, "accuracy", run=["g2", "g3"])] == ["run", "run", "average"]


def test_in_exchanged_roles_recovery_is_the_way_from_the_host_to_its_guest(store, build):
    """Both directions are compared with the same two runs of one model alone."""
    directions = {"x": {"base_model": "R", "reasoning_model": "B"}}
    for run_id, right in (RIGHT | {"x": "1110"}).items():
        program = {"b": "base", "t": "reasoning"}.get(run_id, "guided")
        models = directions.get(run_id, {"base_model": "B", "reasoning_model": "R"})
        write_run(store, run_id, graded(build, run_id, right), program=program, **models)
    found = {row["run_id"]: row for row in run_query(store, "accuracy", base="b", reasoning="t").to_pylist()}
    assert {run: row["recovery_accuracy"] for run, row in found.items()} == pytest.approx(
        {"b": 0, "t": 1, "g": 2 / 3, "x": 1 / 3}
    )
    assert found["x"]["recovery_accuracy"] == (0.75 - 1.0) / (0.25 - 1.0)
    named = rows(store, "accuracy", run="x", base="t", reasoning="b")
    assert {row["run_id"]: row["recovery_accuracy"] for row in named} == pytest.approx({"t": 0, "b": 1, "x": 1 / 3})
    with pytest.raises(UsageError, match=r"runs of one base model: run x has base_model 'R', run b 'B'"):
        run_query(store, "accuracy", run="x", base="b")


def test_recovery_is_of_the_same_problem_set(store, build):
    write_run(store, "b", graded(build, "b", "0100"), program="base", problem_set="easy")
    write_run(store, "g", graded(build, "g", "0111"), problem_set="hard")
    with pytest.raises(UsageError, match="run g has 2 of hard, run b 2 of easy"):
        run_query(store, "accuracy", run=["b", "g"], base="b")
    write_run(store, "r", graded(build, "r", "1111"), problem_set="easy")
    write_run(store, "few", graded(build, "few", "01"), problem_set="easy")  # not on all of its problems
    write_run(store, "hot", graded(build, "hot", "0111"), problem_set="easy", temperature=2.0)
    for named in ({"base": "b"}, {"base": "b", "reasoning": "r"}):
        assert {row["run_id"] for row in run_query(store, "accuracy", **named).to_pylist()} == {"b", "r"}
        assert {row["run_id"] for row in everything(store, "accuracy", **named).to_pylist()} == {"b", "r"}
    assert [row["run_id"] for row in everything(store, "flips", base="b").to_pylist()] == ["few", "r"]
    with pytest.raises(UsageError, match=r"hot has temperature 2\.0"):
        run_query(store, "accuracy", run=["b", "hot"], base="b")
    assert {row["run_id"] for row in run_query(store, "accuracy").to_pylist()} >= {"b", "g", "r"}
