"""Flips: counts, McNemar's test against the binomial distribution, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from tests.statistics.conftest import RESAMPLES, rows, share_ends, write_run


def graded(build, run_id, outcomes, samples=1):
    """One trace for each outcome ("1" right, "0" wrong, "-" not graded), `samples` a problem."""
    right = {"1": True, "0": False, "-": None}
    return [
        build["trace"](run_id, f"p{i // samples:02d}", i % samples, correct=right[outcome])
        for i, outcome in enumerate(outcomes)
    ]


def test_golden(store, build):
    # Four wrong to right, one right to wrong: p = 2 (C(5,0) + C(5,1)) / 32.
    write_run(store, "a", graded(build, "a", "00001100-"), program="base")
    write_run(store, "b", graded(build, "b", "111101--1"))
    (row,) = rows(store, "flips", run=["a", "b"])
    assert (row["base_run_id"], row["run_id"], row["program"]) == ("a", "b", "guided")
    assert [
        row[name] for name in ("n_problems", "wrong_right", "right_wrong", "both_right", "both_wrong", "n_unshared")
    ] == [*(6, 4, 1, 1, 0, 3)]
    assert (row["rose"], row["fell"]) == (4, 1)
    assert row["difference"] == pytest.approx(0.5)
    assert (row["p_exact"], row["p_mid"], row["note"]) == (pytest.approx(12 / 32), pytest.approx(12 / 32 - 5 / 32), None)


def test_sampled_runs_have_no_pairs_of_samples(store, build):
    """Sample 0 of one run is no pair of sample 0 of another: problems rise and fall, and there is no McNemar test."""
    write_run(store, "a", graded(build, "a", "1100000011111000", 4))
    write_run(store, "b", graded(build, "b", "0011001001111110", 4))
    (row,) = rows(store, "flips", run=["a", "b"])
    assert (row["n_problems"], row["rose"], row["fell"]) == (4, 2, 1), "the first problem has two of four right in both"
    assert row["difference"] == pytest.approx((0 + 1 / 4 - 1 / 4 + 2 / 4) / 4)
    paired = ("wrong_right", "right_wrong", "both_right", "both_wrong", "p_exact", "p_mid")
    assert [row[name] for name in paired] == [None] * 6
    assert "several samples a problem" in row["note"]


def test_runs_that_agree_leave_nothing_to_test(store, build):
    """The mid-p of no discordant pair was 0.5."""
    for run_id in "ab":
        write_run(store, run_id, graded(build, run_id, "1100"))
    (row,) = rows(store, "flips", run=["a", "b"])
    assert (row["wrong_right"], row["right_wrong"], row["p_exact"], row["p_mid"]) == (0, 0, None, None)
    assert "nothing to test" in row["note"]


def test_the_paper_counts(store, build):
    write_run(store, "a", graded(build, "a", "0" * 152 + "1" * 3 + "1" * 200 + "0" * 45))
    write_run(store, "b", graded(build, "b", "1" * 152 + "0" * 3 + "1" * 200 + "0" * 45))
    (row,) = rows(store, "flips", run=["a", "b"])
    assert row["difference"] == pytest.approx(149 / 400)
    assert row["p_exact"] == pytest.approx(binomtest(3, 155).pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_an_independent_computation(store, build, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 60))
    a, b = (rng.random(n) < share for share in rng.random(2))
    for run_id, outcomes in (("a", a), ("b", b)):
        write_run(store, run_id, graded(build, run_id, ["01"[int(right)] for right in outcomes]))
    row = run_query(store, "flips", run=["a", "b"], resamples=RESAMPLES).to_pylist()[0]
    up, down = int((~a & b).sum()), int((a & ~b).sum())
    assert (row["wrong_right"], row["right_wrong"], row["both_right"]) == (up, down, int((a & b).sum()))
    m, trials = min(up, down), up + down
    assert trials
    exact = binomtest(m, trials).pvalue
    assert row["p_exact"] == pytest.approx(exact, abs=1e-9)
    mid = 1 - binom.pmf(m, trials, 0.5) / 2 if up == down else exact - binom.pmf(m, trials, 0.5)
    assert row["p_mid"] == pytest.approx(mid, abs=1e-9)
    ends = [2 * end - 1 for end in share_ends((b.astype(int) - a.astype(int) + 1) / 2, np.ones(n))]
    assert [row["difference_low"], row["difference_high"]] == pytest.approx(ends, abs=1e-9)


def test_ten_agreeing_problems_may_yet_differ(store, build):
    """It was 0 [0, 0]."""
    for run_id in "ab":
        write_run(store, run_id, graded(build, run_id, "1110000111"))
    (row,) = run_query(store, "flips", run=["a", "b"]).to_pylist()
    bound = 1 - 0.025 ** (1 / 10)
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx((0, -bound, bound), rel=1e-3)


def test_the_gain_in_accuracy_has_the_interval_of_the_ablation(store, build):
    outcomes = {"a": "110001001100", "b": "111111001110"}
    for run_id, right in outcomes.items():
        write_run(store, run_id, graded(build, run_id, right, 2), program={"a": "base", "b": "guided"}[run_id])
    (flips,) = run_query(store, "flips", run=["a", "b"]).to_pylist()
    ablation = run_query(store, "ablation").to_pylist()[1]
    for end in ("", "_low", "_high"):
        assert flips[f"difference{end}"] == pytest.approx(ablation[f"accuracy_over_base{end}"])


def test_the_base_run_is_the_reference(store, build):
    for run_id, program in (("a", "base"), ("b", "guided"), ("c", "random")):
        write_run(store, run_id, graded(build, run_id, "01"), program=program)
    found = rows(store, "flips", base="base", run=["c", "b"])
    assert [(row["base_run_id"], row["run_id"]) for row in found] == [("a", "c"), ("a", "b")]


@pytest.mark.parametrize(
    ("changes", "outcomes", "message"),
    [
        (None, "", "a alone"),
        ({"problem_set": "other"}, "01", "run b has problem_set 'other', run a 'tiny'"),
        ({"base_model": "other"}, "01", "base_model 'other'"),
        ({"grader": "other"}, "01", "grader 'other'"),
        ({"temperature": 0.0}, "01", "decode alike: run b has temperature 0.0, run a 0.6"),
        ({}, "--01", "share no graded problem of tiny: the one has 2, the other 2"),
        ({}, "--", "run b: no sample is graded"),
    ],
)
def test_what_cannot_be_compared_is_named(store, build, changes, outcomes, message):
    write_run(store, "a", graded(build, "a", "01"))
    if changes is not None:
        write_run(store, "b", graded(build, "b", outcomes), **changes)
    with pytest.raises(UsageError, match=message):
        run_query(store, "flips", run=["a"] if changes is None else ["a", "b"])


def test_runs_of_unlike_numbers_of_samples_are_compared_by_problem(store, build):
    write_run(store, "a", [build["trace"]("a", "p1", 0, correct=True), build["trace"]("a", "p2", 0, correct=False)])
    right = {"p1": (True, False), "p2": (True, True)}
    traces = [build["trace"]("b", p, i, correct=each) for p, pair in right.items() for i, each in enumerate(pair)]
    write_run(store, "b", traces)
    (row,) = rows(store, "flips", run=["a", "b"])
    assert (row["rose"], row["fell"], row["difference"], row["p_exact"]) == (1, 1, pytest.approx(0.25), None)
