"""Sparsity: how concentrated the disagreement is on a few tokens.

Intervals come from tokens and mass of each problem in bins of the score's ranks. The replicates are shifted by the
difference of the exact and the binned estimate, which for the Gini coefficient is below 0.001 and nothing where each bin
holds one distinct value (`rrti_sgl.statistics.lorenz`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.needs import SCORE_COLUMNS, require_same
from rrti_sgl.db.analysis.parameters import choice, metrics, shares
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import problems_of
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.records import FloatArray, IntArray, RunRecord
from rrti_sgl.statistics.lorenz import LorenzBins, LorenzCurve
from rrti_sgl.statistics.ranking import Ranking
from rrti_sgl.statistics.top_sets import ResampledScores

ABOUT = """\
How concentrated is the disagreement on a few tokens?
Definitions: over all n tokens of a unit that have the metric (x, sorted; x_1 the largest). A unit is a run, a benchmark
  (the runs of one program on one problem set, pooled) or a sample; run_id and sample_id are NULL where they are pooled;
  a sample whose values are all 0 has no rows.
  gini: Gini coefficient of x, 2 sum((n + 1 - j) x_j) / (n sum(x)) - (n + 1) / n.
  tokens_carrying (level c): share of tokens m / n, with m the smallest number of tokens whose sum reaches c of the
    total (to a relative 1e-12).
  carried_by_top (level p): share of the total that the top-p set carries. The top-p set is every token with
    x >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12; ties at the threshold are all in.
  lorenz (level g): share of the total that the largest tokens carry, g their share of all tokens, linear between whole
    numbers of tokens. The Lorenz curve of the paper counts from the smallest: it is 1 - value at 1 - g.
  level and value are shares from 0 to 1.
Paper: Lorenz curve and Gini coefficient of the disagreement (diagnosis, sparsity).
Parameters: $runs run ids; $metric columns of tokens; $by run, benchmark or sample; $carried shares c; $top shares p;
  $grid shares g
"""
GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("run_id", "program", "problem_set", "sample_id", "statistic"), pa.string()),
        **{"level": pa.float64(), "value": pa.float64(), "n_tokens": pa.int64()},
    }
)
_MEASURES: dict[str, Callable[[LorenzBins | LorenzCurve, Any], FloatArray]] = {
    "gini": lambda bins, level: bins.gini(),
    "tokens_carrying": lambda bins, level: bins.tokens_carrying(level),
    "carried_by_top": lambda bins, level: bins.carried_by_top(level),
    "lorenz": lambda bins, level: bins.carried(level),
}
_LEVELS = {"tokens_carrying": "carried", "carried_by_top": "top", "lorenz": "grid"}


def _check_runs(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """Pooled runs need scores of one kind."""
    if values["by"] == "benchmark":
        for unit in dict.fromkeys((row["program"], row["problem_set"]) for row in coverage):
            pooled = [row for row in coverage if (row["program"], row["problem_set"]) == unit]
            require_same(pooled, SCORE_COLUMNS, f"Runs of {unit[0]} on {unit[1]} cannot be pooled")
    return values


def _compute(store: Store, values: Values) -> pa.Table:
    runs = store.get_runs(values["runs"])
    units: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        key = (run.program, run.problem_set) if values["by"] == "benchmark" else (run.run_id,)
        units.setdefault(key, []).append(run)
    rows: list[dict[str, Any]] = []
    for of_unit in units.values():
        about = {"program": of_unit[0].program, "problem_set": of_unit[0].problem_set}
        if values["by"] != "benchmark":
            about["run_id"] = of_unit[0].run_id
        if values["by"] == "sample":
            rows += [{**about, **row} for row in _of_samples(store, of_unit[0].run_id, values)]
        else:
            found = _of_unit(*_pooled(store, [run.run_id for run in of_unit], values), values)
            rows += [{**about, **row} for row in found]
    return table_of(rows, _SCHEMA, ["value"], values)


def _read(run: str, values: Values) -> TokenValues:
    """The tokens of a run that have the metric: none is negative, they are shares of a total."""
    metric = values["metric"]
    tokens: TokenValues = values["reader"].read(run, [metric]).complete(metric)
    if negative := sum(int((block[metric] < 0).sum()) for block in tokens.blocks(metric)):
        raise UsageError(
            f"Run {run} has {negative} tokens whose {metric} is negative: they carry no share of a total.",
            f"Choose a divergence or an entropy: {argument('metric')}.",
        )
    return tokens


def _pooled(store: Store, runs: Sequence[str], values: Values) -> tuple[Ranking, Callable[..., ResampledScores], int]:
    """Of the tokens of some runs that have the metric: their ranking, how to resample them, and how many problems there are
    in all of the runs.
    """
    metric = values["metric"]
    read = [_read(run, values) for run in runs]
    if len(runs) == 1:
        return read[0].ranking(metric), partial(read[0].resampled, metric), read[0].n_problems
    problems = problems_of(store, runs)
    union = pc.unique(pa.concat_arrays(list(problems.values()))).sort()
    places = [pc.index_in(problems[run], union).to_numpy() for run in runs]

    def scan() -> Iterator[tuple[IntArray, FloatArray]]:
        for place, tokens in zip(places, read, strict=True):
            yield from ((place[block.problem], block[metric]) for block in tokens.blocks(metric))

    ranking = Ranking.of_parts(np.sort(scores) for _, scores in scan())
    return ranking, partial(ResampledScores, ranking, scan), len(union)


def _of_samples(store: Store, run: str, values: Values) -> Iterator[dict[str, Any]]:
    """The rows of each sample of a run, without intervals."""
    metric = values["metric"]
    tokens = _read(run, values)
    ids = run_sql(store, "_run_samples", {"run": run})["sample_id"].to_pylist()
    found = {}
    for block in tokens.blocks(metric):
        starts = np.flatnonzero(np.diff(block.sample, prepend=-1))
        for start, scores in zip(starts, np.split(block[metric], starts[1:]), strict=True):
            if scores.any():
                found[int(block.sample[start])] = _rows(LorenzBins.of(scores), len(scores), values)
    return ({**row, "sample_id": ids[sample]} for sample in sorted(found) for row in found[sample])


def _of_unit(
    ranking: Ranking, resample: Callable[..., ResampledScores], n_problems: int, values: Values
) -> list[dict[str, Any]]:
    """The rows of the pooled tokens (N,) of a unit."""
    if ranking.is_constant and not ranking.at(0):
        return [{"statistic": "gini", "n_tokens": ranking.n}]
    rows = _rows(LorenzCurve(ranking), ranking.n, values)
    bootstrap = bootstrap_of(n_problems, values)
    if bootstrap is None:
        return rows
    resampled = resample(bootstrap)
    counts, masses, bins = resampled.counts, resampled.masses, resampled.bins
    ends = (bins.lows, bins.highs, bins.tied, ranking.n)
    binned = LorenzBins(counts.sum(axis=0)[None], masses.sum(axis=0)[None], *ends, whole=True)
    of_resamples = LorenzBins(bootstrap.sums(counts), bootstrap.sums(masses), *ends)
    exact = np.array([row["value"] for row in rows])
    measured = [
        np.stack([_MEASURES[row["statistic"]](of, row["level"]) for row in rows], axis=1) for of in (of_resamples, binned)
    ]
    found = np.clip(measured[0] + exact - measured[1], 0.0, 1.0)
    rows[0] |= named("value", bootstrap.percentiles(found[:, :1]))
    # What the shares are of, in tokens: all tokens, or their mass in units of a token's mean.
    of_tokens = np.array([row["statistic"] == "tokens_carrying" for row in rows[1:]])
    whole = np.where(of_tokens, counts.sum(axis=1)[:, None], masses.sum(axis=1)[:, None] * (ranking.n / masses.sum()))
    of_whole = bootstrap.sums(whole)
    bounds = bootstrap.shares(exact[1:] * whole, whole, resampled=(found[:, 1:] * of_whole, of_whole))
    for place, row in enumerate(rows[1:]):
        row |= named("value", bounds, place)
    return rows


def _rows(bins: LorenzBins | LorenzCurve, n_tokens: int, values: Values) -> list[dict[str, Any]]:
    """The rows of one weighting of tokens, the Gini coefficient first."""
    levels = [("gini", None), *((name, level) for name, which in _LEVELS.items() for level in values[which])]
    return [
        {"statistic": name, "level": level, "value": float(_MEASURES[name](bins, level)[0]), "n_tokens": n_tokens}
        for name, level in levels
    ]


QUERY = Query(
    "sparsity",
    {
        "metric": metrics("ce", "reverse_kl", "js"),
        "by": choice("run", "benchmark", "sample"),
        "carried": shares(0.5, 0.8, 0.9, 0.94),
        "top": shares(0.01, 0.05, 0.08, 0.1, 0.2),
        "grid": shares(*GRID),
    },
    needs=("metric",),
    undefined={"value": "it sums to 0"},
    about=ABOUT,
    prepare=_check_runs,
    compute=_compute,
)
