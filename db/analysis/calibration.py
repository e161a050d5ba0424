"""Calibration: how stable the gate's thresholds are, and how much the budget varies between problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.intervals import bootstrap_of, insert_interval
from rrti_sgl.db.analysis.parameters import count, metric, share, shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import run_by_problem
from rrti_sgl.db.analysis.subset_thresholds import SubsetThresholds, subset_thresholds
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.resampling import Bounds

ABOUT = """\
How stable are the gate's thresholds, and how much does the budget vary between problems?
Definitions: for spike ratio r and N scores of base rollouts: tau is the (m + 1)-th largest score, m the largest whole
  number with m / N <= r; lambda = E[s | s > tau] / E[s]. tau is in the unit of the metric, lambda a factor.
  part stored: the calibrations taken from these runs, as they are stored, of any metric and ratio.
  part recomputed: of runs without takeovers, on subsets of their samples: of n samples the first ceil(share n) in an
  order drawn by md5(sample_id, seed), so that the subsets of a seed are nested; seeds 1 to $seeds, share 1 once. value:
  mean over n_values seeds (those with a score above tau).
  part rho: of runs with takeovers, over n_values problems: takeovers per token of each problem; value: their mean.
  sd: sample standard deviation over the values (NULL of one value); smallest, q25, median, q75, largest: of the values,
  quantiles linearly interpolated. n_samples, n_tokens: size of the subsets (tokens: the mean, rounded), or all of the
  run.
  Intervals of tau and lambda are those of share 1.
Paper: tau keeps its order of magnitude across benchmarks; rho varies little between problems (intervention).
Parameters: $runs run ids; $metric column of tokens; $spike_ratio r; $shares of the samples; $seeds number of seeds
"""
# Parameters of the SQL: what subsets of samples gave, one entry a subset.
_SUBSETS = tuple(f"subset_{name}" for name in ("run", "share", "samples", "tokens", "tau", "lambda"))


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
    return {**values, "runs": usable, "scored": [run for run in usable if sources[run]["scored"]]}


def _compute(store: Store, values: Values) -> pa.Table:
    found: dict[str, list[Any]] = {name: [] for name in _SUBSETS}
    for run in values["scored"]:
        for each in _of_subsets(store, run, values):
            of_subset = (run, each.share, each.n_samples, each.n_tokens, each.tau, each.lambda_)
            for column, value in zip(found.values(), of_subset, strict=True):
                column.append(value)
    table = run_sql(store, "_calibration_described", {**values, **found})
    return _add_intervals(store, table, values) if values["resamples"] else table


def _of_subsets(store: Store, run: str, values: Values) -> Iterator[SubsetThresholds]:
    """Of a run's subsets of each seed; the whole once."""
    tokens = values["reader"].read(run, [values["metric"]]).complete(values["metric"])
    samples = run_sql(store, "_calibration_orders", {"run": run, "seeds": values["seeds"]})["sample"].to_numpy()
    orders = samples.reshape(values["seeds"], -1)
    shares = sorted(set(values["shares"]))
    found = subset_thresholds(tokens, values["metric"], orders, [*shares, 1.0], values["spike_ratio"])
    return (each for number, of_order in enumerate(found) for each in of_order if each.share < 1 or not number)


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    lows, highs = np.full((2, len(table)), np.nan)
    rows = table.select(["part", "run_id", "quantity", "share", "n_tokens"]).to_pylist()
    by_problem = run_by_problem(store, "_calibration_described", {**values, **{key: [] for key in _SUBSETS}})
    for at, row in enumerate(rows):
        if row["part"] == "rho":
            cells = by_problem.filter(pc.equal(by_problem["run_id"], row["run_id"])).sort_by("problem_id")
            bootstrap = bootstrap_of(len(cells), values)
            if bootstrap is not None:
                # The trial is a token, of which a problem has so many.
                interval = bootstrap.share(cells["rho"].to_numpy(), 1.0, unit=len(cells) / row["n_tokens"])
                lows[at], highs[at] = interval.low, interval.high
    whole = [at for at, row in enumerate(rows) if row["part"] == "recomputed" and row["share"] == 1]
    for run in dict.fromkeys(rows[at]["run_id"] for at in whole):
        found = _thresholds(values["reader"].read(run, [values["metric"]]).complete(values["metric"]), values)
        for at in whole:
            if rows[at]["run_id"] == run:
                lows[at], highs[at] = found[rows[at]["quantity"]]
    return insert_interval(table, "value", lows, highs)


def _thresholds(tokens: TokenValues, values: Values) -> dict[str, Bounds]:
    """The intervals of tau and lambda of a run."""
    bootstrap = bootstrap_of(tokens.n_problems, values)
    assert bootstrap is not None  # intervals are asked for
    scores = tokens.resampled(values["metric"], bootstrap)
    top = scores.top(values["spike_ratio"])
    every = ((problem, each, np.zeros(len(each), np.int64), each) for problem, each in scores.scan())
    mass_above = top.having(every, 1)[:, 0]
    mass, n = (bootstrap.sums(each.sum(axis=1)) for each in (scores.masses, scores.counts))
    return {
        "tau": bootstrap.percentiles(top.threshold),
        "lambda": bootstrap.percentiles(mass_above / top.n / (mass / n)),
    }


QUERY = Query(
    "calibration",
    {
        "metric": metric(),
        "spike_ratio": share(0.08),
        "shares": shares(0.125, 0.25, 0.5),
        "seeds": count(5),
    },
    about=ABOUT,
    prepare=_check_sources,
    compute=_compute,
)
