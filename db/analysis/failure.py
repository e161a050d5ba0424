"""Failure: whether large disagreement predicts that the final answer is wrong. A resample weights problems, all samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, named, table_of
from rrti_sgl.db.analysis.notes import constant_note
from rrti_sgl.db.analysis.parameters import counts, metrics
from rrti_sgl.db.analysis.query import Query, Values, run_sql
from rrti_sgl.db.analysis.token_values import TokenReader, TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap, group_sums
from rrti_sgl.statistics.roc import quality_bounds, ranking_quality
from rrti_sgl.statistics.top_sets import Codes

ABOUT = """\
Does large disagreement predict that the final answer is wrong?
Definitions: a sample's predictor is the mean of its K largest values (of all, when it has fewer), in nats for ce, kl and
  entropies; predictor length is its number of tokens, top_k NULL. auroc: probability that a wrong sample has a larger
  predictor than a right one, ties counting half (Mann-Whitney, average ranks). average_precision: area under the
  precision-recall curve for wrong samples, sum (R_i - R_(i-1)) P_i over the distinct values in descending order; a
  predictor that says nothing has n_wrong / n_samples. Samples without a grade or without a value are left out.
Paper: mean of a sample's 100 largest scores predicts failure; the same with base entropy (diagnosis, failure).
Parameters: $runs run ids; $metric columns of tokens; $top_k the values of K above
"""
_ESTIMATES = ("auroc", "average_precision")
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "predictor": pa.string(), "top_k": pa.int32()},
        **{"with_k": pa.float64(), "n_samples": pa.int64(), "n_wrong": pa.int64()},
        **dict.fromkeys(_ESTIMATES, pa.float64()),
        "note": pa.string(),
    }
)
# Weights of some resamples at a time: all of them at once would be several arrays of B times the number of samples.
_BLOCK = 1 << 20


def _compute(store: Store, values: Values) -> pa.Table:
    reader, rows = values["reader"], []
    for run in values["runs"]:
        samples = _Graded.of(store, run)
        bootstrap = bootstrap_of(int(samples.problem.max()) + 1, values)
        for predictor, k, found, with_k in _predictors(reader, run, samples, values):
            there = ~np.isnan(found)
            if there.any():
                about: dict[str, Any] = {"run_id": run, "predictor": predictor, "top_k": k}
                about["with_k"] = None if with_k is None else float(np.mean(with_k[there]))
                rows.append({**about, **_quality(found[there], samples.problem[there], samples.wrong[there], bootstrap)})
    return table_of(rows, _SCHEMA, _ESTIMATES, values)


@dataclass(frozen=True, slots=True, eq=False)
class _Graded:
    """The n graded samples of a run: (n,) numbers of each and of its problem, its tokens, and whether it is wrong."""

    sample: Codes
    problem: Codes
    n_tokens: Codes
    wrong: BoolArray

    @classmethod
    def of(cls, store: Store, run: str) -> _Graded:
        samples = run_sql(store, "_run_samples", {"run": run})
        graded = samples.filter(samples["correct"].is_valid())
        problem = np.unique(graded["problem"].to_numpy(), return_inverse=True)[1]
        wrong = ~graded["correct"].to_numpy().astype(np.bool_)
        return cls(np.flatnonzero(samples["correct"].is_valid()), problem, graded["n_tokens"].to_numpy(), wrong)


def flagged(reader: TokenReader, run: str, predictor: str, k: int) -> tuple[Codes, Codes]:
    """(C,) graded samples that are wrong, and (C,) that are right, whose predictor is at least each of its C values.

    Args:
        reader: of the store.
        run: its id.
        predictor: a column of tokens; the mean of a sample's k largest values.
        k: how many.
    """
    samples = _Graded.of(reader.store, run)
    values = largest_means(reader.read(run, [predictor]), predictor, [k])[0][0, samples.sample]
    order = np.argsort(-values)[: np.count_nonzero(~np.isnan(values))]
    last = np.flatnonzero(np.diff(values[order], append=-np.inf))
    n_wrong = np.cumsum(samples.wrong[order], dtype=np.int64)[last]
    return n_wrong, last + 1 - n_wrong


def _predictors(
    reader: TokenReader, run: str, samples: _Graded, values: Values
) -> Iterator[tuple[str, int | None, FloatArray, BoolArray | None]]:
    """Each predictor of a run and its K, what it is of each sample (n,), NaN where it has no value, and who has K values."""
    names = list(dict.fromkeys((values["metric"], "entropy_base")))
    tokens = reader.read(run, names)
    for name in names:
        means, n_values = largest_means(tokens, name, values["top_k"])
        for k, of_k in zip(values["top_k"], means, strict=True):
            yield name, k, of_k[samples.sample], n_values[samples.sample] >= k
    yield "length", None, samples.n_tokens.astype(np.float64), None


def largest_means(tokens: TokenValues, name: str, ks: Sequence[int]) -> tuple[FloatArray, Codes]:
    """(K, S) means of each sample's k largest values, or of all, NaN where it has none, and (S,) how many it has."""
    n_values = np.zeros(len(tokens.problems), dtype=np.int64)
    means: FloatArray = np.full((len(ks), len(n_values)), np.nan)
    for whole in tokens.blocks(name):
        block = whole.take(~np.isnan(whole[name]))
        if not len(block):
            continue
        order, first = block.in_samples(name), int(block.sample.min())
        sizes = order.sizes
        n_values[first : first + len(sizes)] += sizes
        falling = np.r_[order.ordered[::-1], 0.0]
        of, n = first + np.flatnonzero(sizes)[::-1], sizes[sizes > 0][::-1]
        starts = np.cumsum(n) - n
        for row, k in zip(means, ks, strict=True):
            taken = np.minimum(n, k)
            # Equal samples have equal sums, to the last bit: each is summed by itself, in one order.
            row[of] = np.add.reduceat(falling, np.stack([starts, starts + taken], axis=1).ravel())[::2] / taken
    return means, n_values


def _quality(values: FloatArray, problem: Any, wrong: BoolArray, bootstrap: ProblemBootstrap | None) -> dict[str, Any]:
    order = np.argsort(values)[::-1]
    wrong, problem = wrong[order], problem[order]
    starts = np.flatnonzero(np.diff(values[order], prepend=np.inf))
    found = ranking_quality(*(np.add.reduceat(each[None] * 1.0, starts, axis=1) for each in (np.ones(len(wrong)), wrong)))
    estimates = {name: None if np.isnan(each[0]) else float(each[0]) for name, each in zip(_ESTIMATES, found, strict=True)}
    row: dict[str, Any] = {"n_samples": len(wrong), "n_wrong": int(np.count_nonzero(wrong)), **estimates}
    row["note"] = constant_note("the predictor", is_constant=len(starts) == 1)
    if bootstrap is None or estimates["auroc"] is None:
        return row
    size = max(1, _BLOCK // len(order))
    parts = []
    for first in range(0, bootstrap.n, size):
        weights = bootstrap.weights[first : first + size, problem]
        parts.append(ranking_quality(*(np.add.reduceat(each, starts, axis=1) for each in (weights, weights * wrong))))
    auroc, average = (np.concatenate(each) for each in zip(*parts, strict=True))
    kinds = (group_sums(mask, problem, bootstrap.n_problems) for mask in (wrong, ~wrong))
    bounds: tuple[Bounds, Bounds] = quality_bounds(bootstrap, found, (auroc, average), *kinds)
    return row | named("auroc", bounds[0]) | named("average_precision", bounds[1])


QUERY = Query(
    "failure",
    {"metric": metrics("ce", "reverse_kl", "js"), "top_k": counts(100)},
    needs=("metric", "entropy_base", "both"),
    undefined={"auroc": "all samples with a value are right, or all are wrong"},
    about=ABOUT,
    compute=_compute,
)
