"""Intervals of budget, accuracy, pass@k and recovery, the same ones in every statistic; paired on the same problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.needs import IncomparableRunsError
from rrti_sgl.db.analysis.query import Row, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.estimates import pass_at_k
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap

Ends = tuple[float, float]
NONE: Ends = (float("nan"), float("nan"))


def common_k(coverage: Sequence[Row], asked: int | None) -> int:
    """The k of pass@k that every graded problem of every run allows.

    Raises:
        UsageError: a problem has fewer graded samples than were asked for.
    """
    fewest = min(coverage, key=lambda row: int(row["fewest_graded"]))
    if asked is not None and asked > fewest["fewest_graded"]:
        message = f"pass@{asked} needs {asked} graded samples of a problem; run {fewest['run_id']} has"
        raise UsageError(f"{message} a problem with {fewest['fewest_graded']}.", "Give a smaller k.")
    return int(asked or fewest["fewest_graded"])


def require_same_problems(coverage: Sequence[Row], purpose: str) -> None:
    """Runs that are compared must be graded on the same problems.

    Raises:
        IncomparableRunsError: naming two runs and how many problems each has.
    """
    for row in coverage[1:]:
        if (row["problem_set"], row["graded_problems"]) != (coverage[0]["problem_set"], coverage[0]["graded_problems"]):
            has = [
                f"run {each['run_id']} has {len(each['graded_problems'])} of {each['problem_set']}"
                for each in (row, coverage[0])
            ]
            raise IncomparableRunsError(
                f"{purpose} compares runs on the same problems; {', '.join(has)}.", "Name runs that belong together."
            )


def pass_at_ks(store: Store, runs: Sequence[str]) -> list[list[float]]:
    """For each run the mean over problems of pass@1, pass@2, ... as far as every graded problem allows: `$passed` of SQL."""
    found = []
    for columns in _by_problem(store, runs).values():
        graded = columns["n"] > 0
        n, c = columns["n"][graded], columns["c"][graded]
        found.append([float(pass_at_k(n, c, k).mean()) for k in range(1, int(n.min()) + 1)])
    return found


class Outcomes:
    """What the problems of one run add to its budget, accuracy and pass@k, and their replicates.

    Args:
        columns: of `_graded_by_problem.sql`, (P,) each.
        k: of pass@k.
        has_gate: a threshold decided on takeovers.
        values: `resamples` and `seed`.
    """

    def __init__(self, columns: Mapping[str, FloatArray], k: int, values: Values, *, has_gate: bool) -> None:
        self.columns, self.has_gate = columns, has_gate
        graded = columns["n"] > 0
        n, c = columns["n"][graded], columns["c"][graded]
        # Of each graded problem: the estimate, and what one trial of it is, a sample or a problem.
        self.by_problem = {"accuracy": c / n, "pass_at_k": pass_at_k(n, c, k)}
        self.trial = {"accuracy": 1 / float(n.mean()), "pass_at_k": 1.0}
        drawn = {"seed": values["seed"], "n": values["resamples"]}
        self.of_all = ProblemBootstrap(len(graded), **drawn)
        self.of_graded = ProblemBootstrap(len(n), **drawn)
        self.exact = ProblemBootstrap(len(n), **drawn, exact=True)

    @property
    def budget_is_given(self) -> bool:
        """The run takes over always, or never and without a threshold: a fact, which has no interval."""
        takeovers, tokens = self.columns["takeovers"].sum(), self.columns["tokens"].sum()
        return bool(takeovers == tokens or (takeovers == 0 and not self.has_gate))

    @cached_property
    def replicates(self) -> dict[str, Bounds]:
        """For each share replicates (B,) of its low and of its high end."""
        columns, tokens = self.columns, self.columns["tokens"]
        mean_length = tokens.sum() / columns["rho_samples"].sum()
        found = {
            "rho_mean": _pair(self.of_all, columns["rho_sum"], columns["rho_samples"], 1 / mean_length),
            "rho_pooled": _pair(self.of_all, columns["takeovers"], tokens),
            "changed": _pair(self.of_all, columns["changed"], tokens),
        }
        ones = np.ones(self.exact.n_problems)
        return found | {name: _pair(self.exact, values, ones) for name, values in self.by_problem.items()}

    @cached_property
    def plain(self) -> dict[str, FloatArray]:
        """Replicates (B,) without an imaginary trial."""
        found = {name: self.of_graded.sums(each) / len(each) for name, each in self.by_problem.items()}
        return found | {"rho": self.of_all.sums(self.columns["takeovers"]) / self.of_all.sums(self.columns["tokens"])}

    def one_more(self, column: str) -> FloatArray:
        """(B,) what one imaginary trial adds to an estimate."""
        n = self.of_graded.n_problems
        return self.of_graded.imaginary(np.ones((n, 1)))[:, 0] / n * self.trial[column]


def _pair(bootstrap: ProblemBootstrap, hits: FloatArray, trials: FloatArray, unit: float = 1.0) -> Bounds:
    low, high = bootstrap.share_replicates(hits[:, None], trials[:, None], unit=unit)
    return low[:, 0], high[:, 0]


def outcomes_of(store: Store, k_of: Mapping[str, int], values: Values) -> dict[str, Outcomes]:
    """The outcomes of each run."""
    return {
        run.run_id: Outcomes(columns, k_of[run.run_id], values, has_gate=run.tau is not None)
        for run, columns in zip(store.get_runs(list(k_of)), _by_problem(store, list(k_of)).values(), strict=True)
    }


def _by_problem(store: Store, runs: Sequence[str]) -> dict[str, dict[str, FloatArray]]:
    """The columns of `_graded_by_problem.sql` for each run, (P,) each."""
    table = run_sql(store, "_graded_by_problem", {"runs": list(runs)}).combine_chunks()
    found = {}
    for run in runs:
        rows = table.filter(pc.equal(table["run_id"], run)).drop_columns("run_id")
        found[run] = {name: np.asarray(rows[name].to_numpy(), dtype=np.float64) for name in rows.column_names}
    return found


def share_bounds(runs: Sequence[Outcomes]) -> dict[str, Ends]:
    """The ends of the shares of one run, or of their means over several, drawn apart.

    What takeovers changed is a part of them, and so are its ends.
    """
    found = {}
    for column in ("rho_mean", "rho_pooled", "changed", "accuracy", "pass_at_k"):
        lows, highs = (np.mean([run.replicates[column][end] for run in runs], axis=0) for end in (0, 1))
        few = min((run.exact if column in run.by_problem else run.of_all for run in runs), key=lambda each: each.n_problems)
        low, high = few.percentiles(lows, highs)
        found[column] = (float(low), float(high))
    found["changed"] = (min(found["changed"][0], found["rho_pooled"][0]), min(found["changed"][1], found["rho_pooled"][1]))
    if all(run.budget_is_given for run in runs):
        found |= dict.fromkeys(("rho_mean", "rho_pooled", "changed"), NONE)
    return found


def difference_bounds(run: Outcomes, other: Outcomes, column: str) -> Ends:
    """The ends of the mean difference of two runs graded on the same problems."""
    gains = (run.by_problem[column] - other.by_problem[column])[:, None]
    low, high = run.of_graded.differences(gains, np.ones_like(gains), unit=max(run.trial[column], other.trial[column]))
    return float(low[0]), float(high[0])


def recovery_bounds(runs: Sequence[tuple[Outcomes, Outcomes, Outcomes]], column: str) -> Ends:
    """The ends of (run - base) / (reasoning - base) of means over some sets of runs on the same problems."""
    gain, lead, one_more = (np.mean(each, axis=0) for each in zip(*(_lead(*each, column) for each in runs), strict=True))
    few = min((run.of_graded for run, *_ in runs), key=lambda each: each.n_problems)
    return few.parts_of_lead(gain, lead, one_more)


def _lead(run: Outcomes, base: Outcomes, reasoning: Outcomes, column: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    run_of, base_of, reasoning_of = (each.plain[column] for each in (run, base, reasoning))
    return run_of - base_of, reasoning_of - base_of, run.one_more(column)


def insert_ends(table: pa.Table, columns: Sequence[str], ends: Sequence[Mapping[str, Ends]]) -> pa.Table:
    """The table with intervals of some columns, from those of each row; a column that a row does not have gets NULL."""
    for column in columns:
        table = insert_interval(table, column, *zip(*(each.get(column, NONE) for each in ends), strict=True))
    return table
