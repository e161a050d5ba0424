"""Transfer: thresholds that were calibrated on one problem set, used on the tokens of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.needs import SCORE_COLUMNS
from rrti_sgl.db.analysis.parameters import metric, shares
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.analysis.ratios import problems_of
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.science.calibration import most_above
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap

ABOUT = """\
Does a threshold that was calibrated on one problem set keep its budget on another?
Definitions: a row for each run, for each run of the same models and scores that a threshold can be taken from, and for each
  spike ratio. from_run_id: the run that the threshold is taken from, one without takeovers; run_id: the run on whose tokens
  it is used; of a run with itself, its own calibration. tau: threshold of spike_ratio by the scores of from_run_id, in the
  unit of the metric. rate: share of the tokens of run_id above it. Of base rollouts that is the budget of a gate without
  lambda in which no takeover has an effect on what follows; of a run that this very threshold gated, it is its budget.
  orders: log10 of tau over the threshold that the scores of run_id give themselves, orders of magnitude; NULL where run_id
  has takeovers, or a threshold is not positive.
  Intervals are over the problems of both runs: those of from_run_id move the threshold, those of run_id what it meets. They
  have the same weights in a resample where the runs have the same problems, and independent ones otherwise.
Paper: tau keeps its order of magnitude across benchmarks (intervention).
Parameters: $runs run ids; $metric column of tokens; $spike_ratios r
"""
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "problem_set": pa.string()},
        **{"from_run_id": pa.string(), "from_problem_set": pa.string()},
        **{"spike_ratio": pa.float64(), "n_tokens": pa.int64()},
        **dict.fromkeys(("tau", "rate", "orders"), pa.float64()),
    }
)


@dataclass(frozen=True, slots=True)
class _Thresholds:
    """tau of each spike ratio that has one, and of each (B,) what it is in the resamples; nothing without intervals."""

    tau: dict[float, float]
    resampled: dict[float, FloatArray]

    @classmethod
    def of(cls, tokens: TokenValues, values: Values, bootstrap: ProblemBootstrap | None) -> _Thresholds:
        """By the scores of a run."""
        metric, taus = values["metric"], {}
        scored = tokens.ranking(metric)
        for ratio in values["spike_ratios"] if scored.n else ():
            tau = scored.at(scored.n - 1 - most_above(scored.n, ratio))
            if tau < scored.at(scored.n - 1):  # else there are too few scores for the ratio, or equal ones
                taus[ratio] = tau
        scores = None if bootstrap is None else tokens.resampled(metric, bootstrap)
        return cls(taus, {} if scores is None else {ratio: scores.top(ratio).threshold for ratio in taus})


def _prepare(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """What is known of each run, its problems too."""
    problems = problems_of(store, values["runs"])
    return {**values, "about": {row["run_id"]: {**row, "problems": problems[row["run_id"]]} for row in coverage}}


def _compute(store: Store, values: Values) -> pa.Table:
    about, rows = values["about"], []

    def read(run: str) -> TokenValues:
        found: TokenValues = values["reader"].read(run, [values["metric"]]).complete(values["metric"])
        return found

    taken: dict[str, _Thresholds] = {}
    for run in values["runs"]:
        if not about[run]["takeovers"]:
            tokens = read(run)
            taken[run] = _Thresholds.of(tokens, values, bootstrap_of(tokens.n_problems, values))
    for run in values["runs"]:
        target = _Target(read(run), values, calibrated=run in taken)
        for source, thresholds in taken.items():
            if any(about[source][name] != about[run][name] for name in SCORE_COLUMNS):
                continue
            same = about[source]["problems"].equals(about[run]["problems"])
            names = {"run_id": run, "problem_set": about[run]["problem_set"]}
            names |= {"from_run_id": source, "from_problem_set": about[source]["problem_set"]}
            for ratio in thresholds.tau:
                rows.append({**names, **target.row(thresholds, ratio, paired=same, itself=run == source)})
    return table_of(rows, _SCHEMA, ("tau", "rate", "orders"), values)


class _Target:
    """The tokens of a run on which thresholds are used."""

    def __init__(self, tokens: TokenValues, values: Values, *, calibrated: bool) -> None:
        self._tokens, self._values, self._calibrated = tokens, values, calibrated
        self._own: dict[bool, tuple[ProblemBootstrap | None, _Thresholds]] = {}

    def row(self, thresholds: _Thresholds, ratio: float, *, paired: bool, itself: bool) -> dict[str, Any]:
        """What a threshold takes of the tokens, and how far it is from their own."""
        bootstrap, own = self._resampled(paired)
        tokens, tau = self._tokens, thresholds.tau[ratio]
        above = self._by_threshold(np.array([tau]))
        found = {"spike_ratio": ratio, "n_tokens": len(tokens), "tau": tau, "rate": float(above.sum() / len(tokens))}
        comparable = min(tau, own.tau.get(ratio, 0.0)) > 0
        if comparable:
            found["orders"] = float(np.log10(tau / own.tau[ratio]))
        if bootstrap is None:
            return found
        taus = thresholds.resampled[ratio]
        found |= named("tau", _as_columns(bootstrap.percentiles(taus)))
        if itself:
            return found  # its rate is the spike ratio in every resample
        trials = self._by_threshold(np.array([-np.inf]))
        resampled = self._weight_above(taus, bootstrap)[:, None], bootstrap.sums(trials)
        found |= named("rate", bootstrap.shares(above, trials, resampled=resampled))
        if comparable:
            with np.errstate(divide="ignore", invalid="ignore"):
                replicates = np.log10(taus / own.resampled[ratio])
            found |= named("orders", _as_columns(bootstrap.percentiles(replicates)))
        return found

    def _resampled(self, paired: bool) -> tuple[ProblemBootstrap | None, _Thresholds]:
        """The resamples, and the run's own thresholds. Those of one seed are alike for as many problems: of other problems
        than those of the threshold they are drawn by the next seed."""
        if paired not in self._own:
            values = self._values if paired else {**self._values, "seed": self._values["seed"] + 1}
            bootstrap = bootstrap_of(self._tokens.n_problems, values)
            own = _Thresholds.of(self._tokens, values, bootstrap) if self._calibrated else _Thresholds({}, {})
            self._own[paired] = bootstrap, own
        return self._own[paired]

    def _weight_above(self, thresholds: FloatArray, bootstrap: ProblemBootstrap) -> FloatArray:
        """(B,) weight of the tokens above the threshold (B,) of each resample."""
        order = np.argsort(thresholds)
        weights = np.empty(len(thresholds))
        weights[order] = np.einsum("bp,pb->b", bootstrap.weights[order], self._by_threshold(thresholds[order]))
        return weights

    def _by_threshold(self, ascending: FloatArray) -> FloatArray:
        """(P, B) tokens of each problem above each of B thresholds."""
        metric = self._values["metric"]
        # By how many thresholds a score is above.
        counts = self._tokens.sums(
            len(ascending) + 1, lambda block: (np.searchsorted(ascending, block[metric]), None), metric
        )
        return counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]


def _as_columns(bounds: Bounds) -> Bounds:
    return np.atleast_1d(bounds[0]), np.atleast_1d(bounds[1])


QUERY = Query(
    "transfer",
    {"metric": metric(), "spike_ratios": shares(0.04, 0.08, 0.13)},
    needs=("metric",),
    about=ABOUT,
    prepare=_prepare,
    compute=_compute,
)
