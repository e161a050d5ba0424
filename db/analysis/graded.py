"""Resamples of budget, accuracy and pass@k of a run, paired between runs on the same problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.query import Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import at_the_ends, bootstrap_of, bounds
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.estimates import pass_at_k
from rrti_sgl.statistics.resampling import LEVEL

Replicates = dict[str, FloatArray]


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
        UsageError: naming two runs and how many problems each has.
    """
    for row in coverage[1:]:
        if (row["problem_set"], row["graded_problems"]) != (coverage[0]["problem_set"], coverage[0]["graded_problems"]):
            has = [
                f"run {each['run_id']} has {len(each['graded_problems'])} of {each['problem_set']}"
                for each in (row, coverage[0])
            ]
            raise UsageError(
                f"{purpose} compares runs on the same problems; {', '.join(has)}.", "Name runs that belong together."
            )


def replicates_of(store: Store, k_of: Mapping[str, int], values: Values) -> dict[str, Replicates]:
    """For each run its resampled `rho`, `changed`, `accuracy` and `pass_at_k`, each (B,); empty with a single problem."""
    table = run_sql(store, "_graded_by_problem", {"runs": list(k_of)}).combine_chunks()
    return {run: _of_run(table.filter(pc.equal(table["run_id"], run)), k, values) for run, k in k_of.items()}


def _of_run(table: pa.Table, k: int, values: Values) -> Replicates:
    columns = {name: table[name].to_numpy().astype(np.float64) for name in ("tokens", "takeovers", "changed", "n", "c")}
    graded = columns["n"] > 0
    n, c = columns["n"][graded], columns["c"][graded]
    if len(n) < 2:
        return {}
    tokens, takeovers, changed = np.moveaxis(
        bootstrap_of(len(graded), values).sums(
            np.stack([columns[name] for name in ("tokens", "takeovers", "changed")], axis=1)
        ),
        -1,
        0,
    )
    right = bootstrap_of(len(n), values).sums(np.stack([c / n, pass_at_k(n, c, k)], axis=1)) / len(n)
    return {"rho": takeovers / tokens, "changed": changed / tokens, "accuracy": right[:, 0], "pass_at_k": right[:, 1]}


def shares_of_lead(gains: FloatArray, leads: FloatArray) -> FloatArray:
    """(B,) resampled gains over leads; NaN throughout where the sign of the lead is not certain at the interval's level."""
    uncertain = min(np.mean(leads <= 0), np.mean(leads >= 0)) > (1 - LEVEL) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.full_like(gains, np.nan) if uncertain else gains / leads


def insert_replicate_intervals(table: pa.Table, columns: Sequence[str], replicates: Sequence[Replicates]) -> pa.Table:
    """The table, one of whose columns is `n_problems`, with intervals of some columns.

    Args:
        table: of point estimates.
        columns: what gets an interval.
        replicates: for each row the resampled values (B,) by column; a column that a row does not have gets NULL.
    """
    n_problems = table["n_problems"].to_numpy()
    for column in columns:
        pairs = [bounds(each[column]) if column in each else (np.nan, np.nan) for each in replicates]
        low, high = np.array(pairs, dtype=np.float64).T
        if column in ("accuracy", "pass_at_k"):
            low, high = at_the_ends(low, high, n_problems)
        low[table[column].is_null().to_numpy()] = high[table[column].is_null().to_numpy()] = np.nan
        table = insert_interval(table, column, low, high)
    return table
