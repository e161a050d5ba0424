"""Accuracy, pass@k and recovery: by hand, against all subsets, and intervals against resampled problems."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rrti_sgl.cli.summaries import print_run_summary
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import RESAMPLES, percentiles, random_traces, rows, write_run

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
    assert (got["accuracy_low"], got["accuracy_high"]) == pytest.approx(percentiles(right["guided"], [1] * 9))
    takeovers, tokens = (
        np.sum(by_problem("guided", lambda t, name=name: getattr(t.sample, name)), axis=1)
        for name in ("n_takeovers", "n_tokens")
    )
    assert (got["rho_pooled_low"], got["rho_pooled_high"]) == pytest.approx(percentiles(takeovers, tokens))
    shares = by_problem("guided", lambda t: t.sample.n_takeovers / t.sample.n_tokens)
    assert (got["rho_mean_low"], got["rho_mean_high"]) == pytest.approx(percentiles(np.mean(shares, axis=1), [1] * 9))
    leads, gains = (ProblemBootstrap(9, n=RESAMPLES).sums(right[run] - right["base"]) for run in ("think", "guided"))
    assert got["recovery_accuracy"] == pytest.approx(
        (right["guided"] - right["base"]).sum() / (right["think"] - right["base"]).sum(), abs=1e-9
    )
    if min((leads <= 0).mean(), (leads >= 0).mean()) > 0.025:
        assert (got["recovery_accuracy_low"], got["recovery_accuracy_high"]) == (None, None)
    else:
        expected = np.quantile(gains / leads, [0.025, 0.975])
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
    assert (got["t"]["accuracy_low"], got["t"]["accuracy_high"]) == pytest.approx((0.025**0.5, 1.0))
    assert (got["t"]["rho_pooled"], got["t"]["rho_pooled_high"]) == pytest.approx((0.0, 1 - 0.025**0.5))


def test_a_model_alone_has_an_exact_budget(store, build):
    write_run(store, "b", graded(build, "b", "0100"), program="base", tau=None)
    [got] = run_query(store, "accuracy").to_pylist()
    assert (got["rho_pooled_low"], got["rho_pooled_high"]) == (0.0, 0.0)


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
    draws = [ProblemBootstrap(2, seed=0).sums([0.5, 1.0]) / 2, ProblemBootstrap(3, seed=1).sums([1.0, 0.0, 0.0]) / 3]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    assert (guided["accuracy_low"], guided["accuracy_high"]) == pytest.approx((low, high))


def test_two_runs_on_one_problem_set_have_no_average(store, build):
    for run_id, problem_set in (("g1", "easy"), ("g2", "easy"), ("g3", "hard")):
        write_run(store, run_id, graded(build, run_id, "0111"), problem_set=problem_set)
    assert {row["part"] for row in rows(store, "accuracy")} == {"run"}
    assert [row["part"] for row in rows(store, "accuracy", run=["g2", "g3"])] == ["run", "run", "average"]


def test_recovery_is_of_the_same_problem_set(store, build):
    write_run(store, "b", graded(build, "b", "0100"), program="base", problem_set="easy")
    write_run(store, "g", graded(build, "g", "0111"), problem_set="hard")
    with pytest.raises(UsageError, match="run g has 2 of hard, run b 2 of easy"):
        run_query(store, "accuracy", base="b")
