"""Metrics: whether the metrics of disagreement agree with each other, and truncated scores with stored or exact ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.comparison import require_same_settings
from rrti_sgl.db.analysis.intervals import insert_interval
from rrti_sgl.db.analysis.parameters import count, counts, one_run, share
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import bootstrap_of, bounds, problems_of
from rrti_sgl.db.analysis.token_values import TokenValues, read_token_values
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.ranking import Ranking, top_threshold

_METRICS = ("ce", "kl", "reverse_kl", "js", "tv", "entropy_base")
_ESTIMATES = ("pearson", "spearman", "iou", "decisions_changed")
_CONSTANT = 1e-12  # a variance this small beside the mean square is rounding


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the tokens of B weightings (problems of a run, all of them, or resamples), of M metrics.

    Attributes:
        n: (B,) tokens.
        values, ranks: (B, M) sums of the values less the smallest, and of the ranks less their mean, over n.
        value_products, rank_products: (B, M, M) sums of products of those.
        n_both: (B, M, M) tokens in the top-p sets of both metrics.
    """

    n: FloatArray
    values: FloatArray
    value_products: FloatArray
    ranks: FloatArray
    rank_products: FloatArray
    n_both: FloatArray

    def weighted(self, sums: Callable[[FloatArray], FloatArray]) -> Sums:
        """Each field (P, ...) under other weightings: (B, ...)."""
        return Sums(*(sums(getattr(self, name)) for name in self.__dataclass_fields__))

    def estimates(self, a: int, b: int) -> dict[str, FloatArray]:
        """(B,) of each estimate for a pair of metrics; NaN where it is undefined."""
        in_a, in_b, in_both = self.n_both[:, a, a], self.n_both[:, b, b], self.n_both[:, a, b]
        with np.errstate(divide="ignore", invalid="ignore"):
            by_chance = in_a * in_b / self.n
            return {
                "pearson": _correlation(self.n, self.values, self.value_products, a, b),
                "spearman": _correlation(self.n, self.ranks, self.rank_products, a, b),
                "iou": in_both / (in_a + in_b - in_both),
                "iou_chance": by_chance / (in_a + in_b - by_chance),
                "decisions_changed": (in_a + in_b - 2 * in_both) / self.n,
            }


def _correlation(n: FloatArray, sums: FloatArray, products: FloatArray, a: int, b: int) -> FloatArray:
    """(B,) Pearson correlations from sums and sums of products; NaN where one side does not vary."""
    covariance = n * products[:, a, b] - sums[:, a] * sums[:, b]
    variances = []
    for side in (a, b):
        square = n * products[:, side, side]
        variance = square - sums[:, side] ** 2
        variances.append(np.where(variance > _CONSTANT * square, variance, np.nan))
    return np.asarray(covariance / np.sqrt(variances[0]) / np.sqrt(variances[1]))


def _check_exact(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """A run with exact scores is compared with runs of the same models on the same problems."""
    if values["exact"] is not None:
        settings = ("problem_set", "base_model", "reasoning_model", "tokenizer_hash")
        require_same_settings(store, values["runs"], settings, "Scores are compared on the same rollouts")
    return {**values, "pairs": True}


def _compute(store: Store, values: Values) -> tuple[pa.Table, dict[str, Any]]:
    rest = run_sql(store, "metrics", {**values, "pairs": False})
    rows: list[dict[str, Any]] = []
    sums_of: dict[str, Sums] = {}
    for run, problems in problems_of(store, values["runs"]).items():
        tokens = read_token_values(store, run, _METRICS).complete(*_METRICS)
        if not len(tokens.problem):
            continue
        sums_of[run] = by_problem = _sums(tokens, len(problems), values["p"])
        whole = by_problem.weighted(lambda each: each.sum(axis=0)[None])
        for a, b in combinations(range(len(_METRICS)), 2):
            found = {name: float(value[0]) for name, value in whole.estimates(a, b).items()}
            pair = {"metric_a": _METRICS[a], "metric_b": _METRICS[b], "n_tokens": len(tokens.problem), "p": values["p"]}
            defined = {name: value for name, value in found.items() if not np.isnan(value)}
            rows.append({"part": "metrics", "run_id": run, **pair, **defined})
    table = pa.concat_tables([pa.Table.from_pylist(rows, rest.schema), rest])
    return table, {**values, "sums": sums_of}


def _sums(tokens: TokenValues, n_problems: int, p: float) -> Sums:
    """(P, ...) sums of each problem."""
    order = np.argsort(tokens.problem, kind="stable")
    n = np.bincount(tokens.problem, minlength=n_problems)
    ends = np.cumsum(n)[:-1]
    values, ranks = (np.empty((len(order), len(_METRICS))) for _ in range(2))
    top = np.empty((len(order), len(_METRICS)), dtype=np.bool_)
    for column, name in enumerate(_METRICS):
        ranking, found = Ranking.of(tokens.columns[name]), tokens.columns[name][order]
        values[:, column] = found - ranking.ordered[0]
        ranks[:, column] = (ranking.average_ranks()[order] - (len(order) + 1) / 2) / len(order)
        top[:, column] = found >= top_threshold(ranking.ordered, p)

    def products(columns: Any) -> FloatArray:
        blocks = (block.astype(np.float64, copy=False) for block in np.split(columns, ends))
        return np.array([block.T @ block for block in blocks])

    def totals(columns: FloatArray) -> FloatArray:
        return np.array([block.sum(axis=0) for block in np.split(columns, ends)])

    return Sums(n.astype(np.float64), totals(values), products(values), totals(ranks), products(ranks), products(top))


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    resamples = {
        run: sums.weighted(bootstrap_of(len(sums.n), values).sums) for run, sums in values["sums"].items() if len(sums.n) > 1
    }
    found = {column: np.full((len(table), 2), np.nan) for column in _ESTIMATES}
    for place, row in enumerate(table.to_pylist()):
        if row["part"] == "metrics" and row["run_id"] in resamples:
            pair = (_METRICS.index(row["metric_a"]), _METRICS.index(row["metric_b"]))
            replicates = resamples[row["run_id"]].estimates(*pair)
            for column in _ESTIMATES:
                if row[column] is not None:
                    found[column][place] = np.stack(bounds(replicates[column]))
    for column in _ESTIMATES:
        table = insert_interval(table, column, found[column][:, 0], found[column][:, 1])
    return table


QUERY = Query(
    "metrics",
    {"p": share(0.05), "ks": counts(5, 10, 20), "tokens": count(20_000), "exact": one_run()},
    needs=_METRICS,
    prepare=_check_exact,
    compute=_compute,
    intervals=_add_intervals,
)
