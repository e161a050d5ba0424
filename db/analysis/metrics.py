"""Metrics: whether the metrics of disagreement agree with each other, and scores of truncated, rounded and exact lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.agreement import Agreement
from rrti_sgl.db.analysis.comparison import require_same_settings
from rrti_sgl.db.analysis.intervals import table_of
from rrti_sgl.db.analysis.notes import joined, top_note
from rrti_sgl.db.analysis.parameters import count, counts, one_run, share
from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.db.quantisation import CODES_PER_E
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray

ABOUT = """\
Do the metrics of disagreement agree with each other, and scores of truncated or rounded lists with those of whole ones?
Definitions: part metrics: over the tokens of a run that have all six metrics, for each pair of them. pearson: correlation
  of the values. spearman: correlation of their ranks, equal values having the mean of their ranks; both -1 to 1, NULL
  where a metric is constant. iou: tokens in both top-p sets over tokens in either; the top-p set is every token with
  value >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12 (ties at the threshold are all in).
  iou_chance: the same for two independent sets of those sizes. decisions_changed: share of tokens that are in exactly one
  of the two sets: two gates of budget p, one on each metric, decide differently there. Shares from 0 to 1.
  part truncated: what cutting lists does. metric_a is the ce of the stored lists, metric_b that of the lists cut to their
  first k entries (a base token that the reasoning list does not hold has at most that list's last probability); metric_b is
  at most metric_a on every token. Over whole samples in the order of md5(sample_id), the first and as many more as have at
  most $tokens tokens together. part rounded: what rounding does that the store keeps lists with: metric_a is the stored ce,
  metric_b that of the stored lists, of the same samples; of a run with top_k_mass below 1 also what that option cut.
  part exact: metric_a is the ce of the run $exact, metric_b that of the run, over samples of both with the same tokens.
  mean_difference, smallest_difference, largest_difference: of metric_a - metric_b, in nats. changed_at_tau: share of tokens
  decided differently when both are gated at metric_a's threshold, where decisions_changed gives each its own.
  note: what ties made of top sets. bound_excess: metric_b is taken once more with every number of the lists at the end of
  its rounding that makes it least;
  that is a lower bound of the stored ce, and this the largest of the bound less the stored ce: not above 0.
  Part metrics has intervals, but not of pearson: a few large scores decide it, and they are not in every draw.
Paper: choice of the divergence (method); the paper compares cross-entropy and reverse KL.
Parameters: $runs run ids; $p share of tokens; $ks list lengths; $tokens most tokens of parts truncated and rounded;
  $exact run id or NULL
"""
_METRICS = ("ce", "kl", "reverse_kl", "js", "tv", "entropy_base")
_INTERVALS = ("spearman", "iou", "decisions_changed")
# Half a code of the stored log-probabilities, and a little for the single precision in which they were made.
_ROUNDING = 0.501 / CODES_PER_E
_AT_ONCE = 1 << 14  # tokens whose products are summed together: they stay in the processor's cache
_CONSTANT = 1e-12  # a variance this small beside the mean square is rounding


def _check_exact(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """A run with exact scores is compared with runs of the same models on the same problems."""
    if values["exact"] is not None:
        settings = ("problem_set", "base_model", "reasoning_model", "tokenizer_hash")
        require_same_settings(store.get_runs(values["runs"]), settings, "Scores are compared on the same rollouts")
    return values


def _compute(store: Store, values: Values) -> pa.Table:
    compared = run_sql(store, "_metrics_compared", {**values, "rounding": _ROUNDING})
    rows: list[dict[str, Any]] = []
    for run in values["runs"]:
        tokens = values["reader"].read(run, _METRICS).complete(*_METRICS)
        if not len(tokens):
            continue
        agreement = Agreement(tokens, _METRICS, values)
        products = _products(tokens)
        for a, b in combinations(range(len(_METRICS)), 2):
            pair = (_METRICS[a], _METRICS[b])
            row = {"part": "metrics", "run_id": run, "metric_a": pair[0], "metric_b": pair[1], "n_tokens": len(tokens)}
            [found] = agreement.overlaps(*pair, [values["p"]])
            sizes = zip((found["n_a"], found["n_b"]), pair, strict=True)
            row["note"] = joined(*(top_note(n, len(tokens), values["p"], name) for n, name in sizes))
            row |= found | agreement.spearman(*pair) | {"p": values["p"]}
            rows.append(row | {"pearson": _pearson(products, a, b)})
    return table_of([*rows, *compared.to_pylist()], compared.schema, _INTERVALS, values)


def _products(tokens: TokenValues) -> FloatArray:
    """(M + 1, M + 1) sums of products of M metrics, each less its smallest value, and of 1, over the tokens."""
    smallest = [tokens.ranking(name).at(0) for name in _METRICS]
    columns, found = np.ones((len(_METRICS) + 1, _AT_ONCE)), np.zeros((len(_METRICS) + 1, len(_METRICS) + 1))
    for block in tokens.blocks(*_METRICS):
        for first in range(0, len(block), _AT_ONCE):
            some = columns[:, : len(block) - first]
            for column, name, least in zip(some, _METRICS, smallest, strict=False):
                np.subtract(block[name][first : first + _AT_ONCE], least, out=column)
            found += some @ some.T
    return found


def _pearson(products: FloatArray, a: int, b: int) -> float | None:
    """Pearson's correlation of two metrics from `_products`; None where one of them does not vary."""
    n = products[-1, -1]
    scales = []
    for side in (a, b):
        square = n * products[side, side]
        variance = square - products[side, -1] ** 2
        if variance <= _CONSTANT * square:
            return None
        scales.append(math.sqrt(variance))
    return float((n * products[a, b] - products[a, -1] * products[b, -1]) / scales[0] / scales[1])


QUERY = Query(
    "metrics",
    {"p": share(0.05), "ks": counts(5, 10, 20), "tokens": count(20_000), "exact": one_run()},
    needs=_METRICS,
    about=ABOUT,
    prepare=_check_exact,
    compute=_compute,
)
