"""Several seeds as one group: means, their spread, the runs that each is compared with, and what their intervals contain."""

from __future__ import annotations

import re
import statistics

import numpy as np
import pytest

from rrti_sgl.db.analysis.accuracy import seed_groups
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.report import make_report
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.db.conftest import make_run
from tests.statistics.conftest import RESAMPLES, random_traces, rows, share_ends, write_run

PROBLEMS = 8


def write_seeds(store, program, seeds, **changes):
    """Runs of a program that differ in their seed; the traces by run."""
    written = {}
    for seed in seeds:
        run_id = f"{program}-s{seed}"
        config = {"samples": 3, "seed": seed, "gate": {"budget": 0.25}}
        traces = random_traces(np.random.default_rng([seed, len(program)]), run_id, problems=PROBLEMS)
        write_run(store, run_id, traces, program=program, seed=seed, config=config, n_problems=PROBLEMS, **changes)
        written[run_id] = traces
    return written


def accuracy(traces):
    return [np.mean([t.sample.correct for t in traces if t.sample.problem_id == f"p{i}"]) for i in range(PROBLEMS)]


def test_a_group_has_the_mean_over_its_seeds_their_spread_and_the_interval_over_problems(store):
    written = write_seeds(store, "guided", [0, 1, 2])
    by_run = {row["run_id"]: row for row in rows(store, "accuracy") if row["part"] == "run"}
    table = run_query(store, "accuracy", resamples=RESAMPLES).to_pylist()
    assert [row["part"] for row in table] == ["run"] * 3 + ["seeds"]
    group = table[-1]
    assert (group["n_seeds"], group["n_problems"], group["n_samples"], group["program"]) == (3, PROBLEMS, 72, "guided")
    assert group["group_id"].startswith("guided-")
    for column, sd in (("accuracy", "accuracy_sd"), ("pass_at_k", "pass_at_k_sd"), ("rho_pooled", "rho_sd")):
        values = [row[column] for row in by_run.values()]
        assert group[column] == pytest.approx(statistics.mean(values))
        assert group[sd] == pytest.approx(statistics.stdev(values))
        assert all(row[sd] is None for row in table[:3])
    # All samples of a problem together, resampled by problem.
    of_problems = np.mean([accuracy(traces) for traces in written.values()], axis=0)
    ends = share_ends(of_problems, np.ones(PROBLEMS), exact=True)
    assert [group["accuracy_low"], group["accuracy_high"]] == pytest.approx(ends)
    widths = [row["accuracy_high"] - row["accuracy_low"] for row in table]
    assert widths[-1] < np.mean(widths[:3])  # fewer draws of chance in each problem


def test_recovery_is_from_the_runs_of_the_same_seed(store):
    for program in ("base", "reasoning", "guided"):
        write_seeds(store, program, [0, 1])
    got = rows(store, "accuracy", base="base", reasoning="reasoning")
    by_run = {row["run_id"]: row for row in got if row["part"] == "run"}
    means = {p: np.mean([by_run[f"{p}-s{seed}"]["accuracy"] for seed in (0, 1)]) for p in ("base", "reasoning", "guided")}
    for seed in (0, 1):
        base, upper, run = (by_run[f"{program}-s{seed}"]["accuracy"] for program in ("base", "reasoning", "guided"))
        assert by_run[f"guided-s{seed}"]["recovery_accuracy"] == pytest.approx((run - base) / (upper - base))
    [group] = [row for row in got if row["part"] == "seeds" and row["program"] == "guided"]
    lead = means["reasoning"] - means["base"]
    assert group["recovery_accuracy"] == pytest.approx((means["guided"] - means["base"]) / lead)
    write_seeds(store, "guided", [2])
    with pytest.raises(UsageError, match=r"No base run of tiny has the seed 2 of run guided-s2, and there are several"):
        rows(store, "accuracy", base="base", reasoning="reasoning")


@pytest.mark.usefixtures("drawn_once")
def test_a_report_shows_the_group_and_recovers_within_each_seed(store):
    for program in ("base", "reasoning", "guided"):
        write_seeds(store, program, [0, 1, 2])
    sections = {finished.section.name: finished.content for finished in make_report(store).sections}
    shown = {row["run"]: row for row in sections["accuracy"].tables[0].data.to_pylist()}
    groups = {name.partition(",")[0]: row for name, row in shown.items() if "mean of 3 seeds" in name}
    assert {name: row["recovery_accuracy"] for name, row in groups.items() if name != "guided"} == {
        "base": 0,
        "reasoning": 1,
    }
    assert groups["guided"]["accuracy_sd"] > 0
    by_label = {name: row["recovery_accuracy"] for name, row in shown.items() if ", seed " in name}
    assert [value for name, value in by_label.items() if name.startswith("base")] == [0, 0, 0]
    # Two pairs of tokens that read the same are two rows, told apart by their ids.
    pairs = [row["label"] for row in sections["takeovers"].tables[0].data.to_pylist() if row["part"] == "pair"]
    assert len(pairs) == len(set(pairs))
    assert any(re.fullmatch(r"t\d+ -> t\d+ \(ids \d+ -> \d+\)", label) for label in pairs)


def test_what_makes_a_group():
    def run(run_id, seed, like=None, **changes):
        gate = {"budget": 0.25} | ({"like": like} if like else {})
        return make_run(run_id, seed=seed, config={"seed": seed, "gate": gate, "k": 4, **changes})

    assert seed_groups([run("a", 0)]) == [None]
    first, second, other = seed_groups([run("a", 0), run("b", 1), run("c", 1, k=8)])
    assert first == second is not None
    assert other is None
    assert seed_groups([run("a", 0), run("b", 0)]) == [None, None]  # repeated: which of them counts is not known
    one, two, three = seed_groups([run("a", 0, "g0"), run("b", 1, "g1"), run("c", 2)])
    assert one == two != three  # like runs of their own seeds; c is like none


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_intervals_over_problems_contain_the_draws(samples):
    """Problems drawn from a population, and a few samples of each: the mean of the population is covered as it should be.

    The variance of that mean is 1/12 between problems and 1/6 over the samples within them, so that two thirds to a third
    of it are draws. What differs between resampled problems holds them; resampled within problems they would count twice.
    """
    rng = np.random.default_rng(7)
    problems, repeats = 60, 600
    held = wider = 0
    for _ in range(repeats):
        right = rng.binomial(samples, rng.uniform(size=problems)) / samples
        drawn = ProblemBootstrap(problems, n=200, seed=int(rng.integers(1 << 30)), exact=True)
        found = drawn.share(right, 1.0)
        held += found.low <= 0.5 <= found.high
        again = rng.binomial(samples, right, drawn.weights.shape) / samples
        low, high = np.quantile((drawn.weights * again).mean(axis=1), [0.025, 0.975])
        wider += low <= 0.5 <= high
    assert 0.93 < held / repeats < 0.975
    if samples > 1:  # a single sample has no spread to resample
        assert wider / repeats > held / repeats
        assert wider / repeats > 0.96
