"""Calibration: how stable the gate's thresholds are, and how much the budget varies between problems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.intervals import bootstrap_of, insert_interval
from rrti_sgl.db.analysis.parameters import count, metric, share, shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import problem_matrix, problems_of, run_by_problem
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.resampling import ProblemBootstrap

_CLASSES_PER_E = 2000  # classes of scores in a factor of e: 0.05 % wide


def _check_sources(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Every run has something to say: a calibration, scores of base rollouts, or takeovers."""
    sources = {row["run_id"]: row for row in run_sql(store, "_calibration_sources", values).to_pylist()}
    usable = [run for run in values["runs"] if any(sources[run][name] for name in ("calibrations", "scored", "takeovers"))]
    if not usable:
        raise UsageError(
            f"There is nothing to calibrate from in {', '.join(values['runs'])}: no calibration, no takeover, and "
            f"{values['metric']} is NULL for every token.",
            "Name a run of `diagnose`, or another metric.",
        )
    return {**values, "runs": usable}


def resampled_thresholds(n: FloatArray, totals: FloatArray, spike_ratio: float) -> tuple[FloatArray, FloatArray]:
    """Class of tau (B,) and lambda (B,) of scores in classes, smallest first.

    Args:
        n: (B, C) scores in each class.
        totals: (B, C) their sums.
        spike_ratio: share of scores above tau.
    """
    above = n.sum(axis=1, keepdims=True) - np.cumsum(n, axis=1)
    tau = np.argmax(above <= spike_ratio * n.sum(axis=1, keepdims=True) * (1 + 1e-12), axis=1)
    higher = np.arange(n.shape[1]) > tau[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_spike = (totals * higher).sum(axis=1) / (n * higher).sum(axis=1)
        return tau, mean_spike / (totals.sum(axis=1) / n.sum(axis=1))


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    by_problem = run_by_problem(store, "calibration", values)
    lows, highs = np.full((2, len(table)), np.nan)
    rows = table.select(["part", "run_id", "quantity", "share", "n_samples", "n_tokens"]).to_pylist()
    for run, problems in problems_of(store, table["run_id"].unique().to_pylist()).items():
        cells = by_problem.filter(pc.equal(by_problem["run_id"], run))
        bootstrap = bootstrap_of(len(problems), values)
        if bootstrap is None or not len(cells):
            continue
        own = [(at, row) for at, row in enumerate(rows) if row["run_id"] == run and row["share"] == 1]
        if cells["quantity"][0].as_py() == "rho":
            columns = np.zeros(len(cells), dtype=np.int64)
            rho, there = (problem_matrix(cells, problems, columns, name, 1) for name in ("total", "n"))
            [(at, row)] = [(at, row) for at, row in own if row["part"] == "rho"]
            # The trial is a token, of which a problem has so many.
            unit = len(cells) / row["n_tokens"]
            lows[[at]], highs[[at]] = bootstrap.shares(rho, there, unit=unit)
            continue
        replicates = _thresholds(cells, problems, bootstrap, values["spike_ratio"])
        for at, row in own:
            if row["part"] == "recomputed":
                lows[at], highs[at] = bootstrap.percentiles(replicates[row["quantity"]])
    return insert_interval(table, "value", lows, highs)


def _thresholds(
    cells: pa.Table, problems: pa.Array, bootstrap: ProblemBootstrap, spike_ratio: float
) -> dict[str, FloatArray]:
    """The resampled thresholds (B,) of a run, by name."""
    classes, columns = np.unique(cells["class"].to_numpy(), return_inverse=True)
    n, totals = (bootstrap.sums(problem_matrix(cells, problems, columns, name, len(classes))) for name in ("n", "total"))
    tau, lambda_ = resampled_thresholds(n, totals, spike_ratio)
    return {"tau": cells["tau"][0].as_py() * np.exp((classes[tau] + 0.5) / _CLASSES_PER_E), "lambda": lambda_}


QUERY = Query(
    "calibration",
    {
        "metric": metric(),
        "spike_ratio": share(0.08),
        "shares": shares(0.125, 0.25, 0.5),
        "seeds": count(5),
    },
    prepare=_check_sources,
    intervals=_add_intervals,
)
