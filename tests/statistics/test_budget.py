"""Budget: the points of a curve, its knee, and why a curve has none."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.analysis.budget import knee_support
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.estimates import pass_at_k
from tests.statistics.conftest import RESAMPLES, random_traces, rows, share_ends, write_run


def point(store, build, run_id, takeovers, right, *, samples=1, **changes):
    """A run of 10 problems of 10 tokens: so many takeovers in each, and right answers in so many problems."""
    fired = np.arange(10) < takeovers
    traces = [
        build["trace"](run_id, f"p{p}", s, np.ones(10), correct=p < right, tokens={"fired": fired})
        for p in range(10)
        for s in range(samples)
    ]
    write_run(store, run_id, traces, program="guided" if takeovers else "base", **changes)


def test_golden(store, build):
    for run_id, takeovers, right in (("b", 0, 2), ("g1", 1, 8), ("g2", 2, 9), ("g3", 3, 9), ("g4", 4, 9), ("g5", 5, 10)):
        point(store, build, run_id, takeovers, right)
    found = rows(store, "budget")
    assert [row["run_id"] for row in found] == ["b", "g1", "g2", "g3", "g4", "g5"]
    assert [row["rho"] for row in found] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert [row["accuracy"] for row in found] == pytest.approx([0.2, 0.8, 0.9, 0.9, 0.9, 1])
    # x = 0, 1/5, ..., 1 and y = 0, 3/4, 7/8, 7/8, 7/8, 1: the chord is the diagonal.
    assert [row["distance"] for row in found] == pytest.approx([0, 0.55, 0.475, 0.275, 0.075, 0])
    assert [row["knee"] for row in found] == [False, True, False, False, False, False]
    assert {row["knee_note"] for row in found} == {None}
    assert {row["curve"] for row in found} == {"guided, ce"}


@pytest.mark.parametrize(
    ("heights", "note"),
    [
        ([2, 8], "1 budget; a knee needs 5"),
        ([2, 8, 9, 9, 9], "4 budgets; a knee needs 5"),
        ([2, 2, 2, 2, 2, 2], "all points have the same rho or the same height"),
        ([2, 3, 4, 5, 6, 10], "no point lies above the chord"),
        ([0, 2, 4, 6, 8, 10], "no point lies above the chord"),
    ],
)
def test_a_curve_without_a_knee_says_why(store, build, heights, note):
    for takeovers, right in enumerate(heights):
        point(store, build, f"r{takeovers}", takeovers, right)
    found = rows(store, "budget")
    assert [row["knee_note"] for row in found] == [note] * len(heights)
    assert not any(row["knee"] for row in found)


def test_curves_are_kept_apart(store, build):
    point(store, build, "b", 0, 2)
    point(store, build, "g", 1, 5)
    point(store, build, "l", 2, 5, lambda_=2.0)
    point(store, build, "h", 1, 5, temperature=1.0)
    point(store, build, "o", 3, 5, problem_set="other")
    found = rows(store, "budget")
    curves = {}
    for row in found:
        curves.setdefault((row["curve"], row["problem_set"], row["temperature"]), []).append(row["run_id"])
    assert curves == {
        ("guided, ce", "tiny", 0.6): ["b", "g"],
        ("guided, ce, lambda, t<W: tau", "tiny", 0.6): ["b", "l"],
        ("guided, ce", "tiny", 1.0): ["h"],
        ("guided, ce", "other", 0.6): ["o"],
    }
    assert [row["run_id"] for row in rows(store, "budget", run="b")] == ["b"]


def test_a_curve_in_exchanged_roles_begins_with_the_other_direction(store, build):
    """What the model that writes reaches alone is known from `reasoning`; its own run without takeovers goes first."""
    here, there = ({"base_model": a, "reasoning_model": b} for a, b in (("x/B", "x/R"), ("x/R", "x/B")))
    for run_id, takeovers, right in (("b", 0, 2), ("g", 1, 6)):
        point(store, build, run_id, takeovers, right, **here)
    for run_id, takeovers, right in (("e1", 1, 8), ("e2", 2, 7), ("e3", 3, 6), ("e4", 4, 3), ("e5", 5, 1)):
        point(store, build, run_id, takeovers, right, **there)
    traces = [build["trace"]("t", f"p{p}", 0, np.ones(10), correct=p < 9, tokens={"fired": [True] * 10}) for p in range(10)]
    write_run(store, "t", traces, program="reasoning", **here)
    found = {}
    for row in run_query(store, "budget", resamples=RESAMPLES).to_pylist():
        found.setdefault(row["curve"], []).append((row["run_id"], row["rho"], row["accuracy"]))
        assert row["run_id"] != "t" or row["rho_low"] is None
    assert found["guided, ce, B + R"] == [("b", 0, 0.2), ("g", 0.1, 0.6)]
    assert [run for run, *_ in found["guided, ce, R + B"]] == ["t", "e1", "e2", "e3", "e4", "e5"]
    assert found["guided, ce, R + B"][0] == ("t", 0, 0.9)
    assert found["reasoning, ce, B + R"] == [("b", 0, 0.2), ("t", 1, 0.9)]
    point(store, build, "own", 0, 9, **there)
    assert next(row["run_id"] for row in rows(store, "budget") if row["curve"] == "guided, ce, R + B") == "own"


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_independent_computation(store, seed):
    rng = np.random.default_rng(seed)
    runs = {f"r{i}": random_traces(rng, f"r{i}", problems=6, fires=0.15 * i) for i in range(6)}
    for run_id, traces in runs.items():
        write_run(store, run_id, traces, program="guided" if run_id > "r0" else "base")
    found = run_query(store, "budget", k=2, resamples=RESAMPLES).to_pylist()
    for row in found:
        traces = [trace.sample for trace in runs[row["run_id"]]]
        by_problem = [[s for s in traces if s.problem_id == f"p{p}"] for p in range(6)]
        takeovers, tokens = (
            [sum(getattr(s, name) for s in group) for group in by_problem] for name in ("n_takeovers", "n_tokens")
        )
        assert row["rho"] == pytest.approx(sum(takeovers) / sum(tokens), abs=1e-9)
        assert [row["rho_low"], row["rho_high"]] == pytest.approx(share_ends(takeovers, tokens), abs=1e-9)
        right = [sum(s.correct for s in group) for group in by_problem]
        assert row["accuracy"] == pytest.approx(np.mean(right) / 3, abs=1e-9)
        assert row["pass_at_k"] == pytest.approx(pass_at_k([3] * 6, right, 2).mean(), abs=1e-9)
    x, y = (np.array([row[name] for row in found]) for name in ("rho", "pass_at_k"))
    if np.ptp(y) > 0:
        x, y = (x - x.min()) / np.ptp(x), (y - y.min()) / np.ptp(y)
        distance = y - np.interp(x, [x[0], x[-1]], [y[0], y[-1]])
        assert [row["distance"] for row in found] == pytest.approx(distance, abs=1e-9)
        if distance.max() > 1e-12:
            assert [row["knee"] for row in found].index(True) == int(np.argmax(np.round(distance, 12)))
    assert sum(row["knee_support"] for row in found) <= 1 + 1e-9


def test_knee_support_counts_resamples():
    rho = np.array([[0, 1, 2, 4], [0, 1, 2, 4], [0, 1, 2, 4], [0, 1, 2, 4]]) / 10
    height = np.array([[0, 3, 3.5, 4], [0, 1, 3.5, 4], [0, 1, 2, 4], [1, 1, 1, 1]])
    assert knee_support(rho, height) == pytest.approx([0, 0.25, 0.25, 0])


def test_what_cannot_be_answered_is_named(store, build):
    point(store, build, "b", 0, 2)
    with pytest.raises(UsageError, match="pass@3 needs 3 graded samples of a problem; run b has a problem with 1"):
        run_query(store, "budget", k=3)
    with pytest.raises(UsageError, match="'of' cannot be 'x'"):
        run_query(store, "budget", of="x")
