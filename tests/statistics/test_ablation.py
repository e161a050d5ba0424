"""Ablation: every run beside base and guided, with paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.estimates import pass_at_k
from tests.statistics.conftest import RESAMPLES, random_traces, rows, share_ends, write_run

PROGRAMS = {"b": "base", "g": "guided", "r": "random", "t": "reasoning"}


def right_answers(store, build, run_id, outcomes, **changes):
    traces = [
        build["trace"](run_id, f"p{p}", s, correct=flag == "1")
        for p, group in enumerate(outcomes.split())
        for s, flag in enumerate(group)
    ]
    write_run(store, run_id, traces, **({"program": PROGRAMS.get(run_id, "early")} | changes))


def test_golden(store, build):
    for run_id, outcomes in (("b", "00 10"), ("g", "11 10"), ("r", "01 10"), ("t", "11 11")):
        right_answers(store, build, run_id, outcomes)
    found = {row["run_id"]: row for row in rows(store, "ablation")}
    assert [row["accuracy"] for row in found.values()] == pytest.approx([0.25, 0.75, 0.5, 1])
    assert [row["pass_at_k"] for row in found.values()] == pytest.approx([0.5, 1, 1, 1])
    assert {row["k"] for row in found.values()} == {2}
    assert [row["recovery_accuracy"] for row in found.values()] == pytest.approx([0, 2 / 3, 1 / 3, 1])
    assert [row["accuracy_over_base"] for row in found.values()] == pytest.approx([0, 0.5, 0.25, 0.75])
    assert [row["accuracy_over_guided"] for row in found.values()] == pytest.approx([-0.5, 0, -0.25, 0.25])
    assert [row["pass_over_guided"] for row in found.values()] == pytest.approx([-0.5, 0, 0, 0])


def test_without_guided_and_reasoning_their_columns_are_null(store, build):
    right_answers(store, build, "b", "00 10")
    right_answers(store, build, "r", "11 10")
    for row in run_query(store, "ablation", resamples=20).to_pylist():
        assert row["recovery_accuracy"] is row["accuracy_over_guided"] is row["accuracy_over_guided_low"] is None
        assert row["accuracy_over_base"] is not None


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_independent_computation(store, seed):
    rng = np.random.default_rng(seed)
    runs = {run_id: random_traces(rng, run_id, problems=6, fires=0.2 * i) for i, run_id in enumerate(PROGRAMS)}
    for run_id, traces in runs.items():
        write_run(store, run_id, traces, program=PROGRAMS[run_id])
    found = {row["run_id"]: row for row in run_query(store, "ablation", k=2, resamples=RESAMPLES).to_pylist()}
    right = {
        run_id: [sum(t.sample.correct for t in traces if t.sample.problem_id == f"p{p}") for p in range(6)]
        for run_id, traces in runs.items()
    }
    passed = {run_id: pass_at_k([3] * 6, counts, 2) for run_id, counts in right.items()}
    for run_id, row in found.items():
        tokens = sum(trace.sample.n_tokens for trace in runs[run_id])
        assert row["rho"] == pytest.approx(sum(trace.sample.n_takeovers for trace in runs[run_id]) / tokens, abs=1e-9)
        assert row["changed"] == pytest.approx(sum(trace.sample.n_changed for trace in runs[run_id]) / tokens, abs=1e-9)
        gains = (np.array(right[run_id]) - right["g"]) / 3
        assert row["accuracy_over_guided"] == pytest.approx(gains.mean(), abs=1e-9)
        if run_id == "g":
            assert row["accuracy_over_guided_low"] is None, "a run less itself is 0 by definition"
        else:
            # A share of the way from -1 to 1; one more trial is one of three samples.
            ends = share_ends((gains + 1) / 2, [1] * 6, unit=1 / 3)
            bounds = [row["accuracy_over_guided_low"], row["accuracy_over_guided_high"]]
            assert bounds == pytest.approx([2 * end - 1 for end in ends], abs=1e-9)
        assert row["pass_over_base"] == pytest.approx((passed[run_id] - passed["b"]).mean(), abs=1e-9)


def test_all_right_has_an_interval(store, build):
    right_answers(store, build, "b", "1 1 1 1")
    (row,) = run_query(store, "ablation").to_pylist()
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((0.025 ** (1 / 4), 1.0), rel=1e-3)


@pytest.mark.parametrize("changed", [0, 1, 4])
def test_what_takeovers_changed_ends_where_the_budget_does(store, build, changed):
    """Ten problems: `changed` ended at .31, the bound of ten problems, where rho, which contains it, ended at .16."""
    fired = np.arange(20) % 8 == 0
    for run_id in "bg":
        traces = [
            build["trace"](
                run_id, f"p{p:02d}", 0, np.ones(20), tokens={"fired": np.roll(fired, p % 3) & (run_id == "g")}, n_changed=n
            )
            for p, n in enumerate([run_id == "g" and p < changed for p in range(10)])
        ]
        write_run(store, run_id, traces, program=PROGRAMS[run_id])
    ablation = run_query(store, "ablation").to_pylist()[1]
    accuracy = next(row for row in run_query(store, "accuracy").to_pylist() if row["run_id"] == "g")
    assert ablation["changed_low"] <= ablation["changed"] == changed / 200 < ablation["changed_high"] <= ablation["rho_high"]
    for ours, theirs in (("rho", "rho_pooled"), ("changed", "changed"), ("accuracy", "accuracy")):
        for end in ("low", "high"):
            assert ablation[f"{ours}_{end}"] == accuracy[f"{theirs}_{end}"]


@pytest.mark.parametrize(
    ("changes", "outcomes", "message"),
    [
        ({"program": "base"}, "00 10", "The base run could be any of b, x"),
        ({"problem_set": "other"}, "00 10", "compares runs on the same problems; run x has 2 of other, run b has 2 of tiny"),
        ({}, "00", "run x has 1 of tiny, run b has 2 of tiny"),
        ({"temperature": 0.0}, "00 10", "decode alike: run x has temperature 0.0, run b 0.6"),
        ({"base_model": "other"}, "00 10", "base_model 'other'"),
    ],
)
def test_what_cannot_be_compared_is_named(store, build, changes, outcomes, message):
    right_answers(store, build, "b", "00 10")
    right_answers(store, build, "x", outcomes, **changes)
    with pytest.raises(UsageError, match=message):
        run_query(store, "ablation")


def test_a_base_run_is_needed(store, build):
    right_answers(store, build, "g", "00 10")
    with pytest.raises(UsageError, match=r"needs a base run; there is g \(guided\)"):
        run_query(store, "ablation")
