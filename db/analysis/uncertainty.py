"""Uncertainty: whether disagreement is just the base model's own entropy."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from rrti_sgl.db.analysis.agreement import Agreement
from rrti_sgl.db.analysis.intervals import table_of
from rrti_sgl.db.analysis.notes import WITHIN, constant_note, joined, top_note
from rrti_sgl.db.analysis.parameters import metrics, shares
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.store import Store

ABOUT = """\
Is disagreement just the base model's own uncertainty?
Definitions: over the tokens of a run that have both the metric and entropy_base.
  part overlap: the top-p set by a column is every token with value >= Q(1 - p), Q the linearly interpolated quantile
  less a relative 1e-12; ties at the threshold are all in. within: Q is that of all tokens of the run, or of those of the
  token's sample. iou: tokens in both top-p sets over tokens in either.
  iou_chance: the same for two independent sets of those sizes, with the expected intersection
  n_metric * n_entropy / n_tokens; p / (2 - p) where there are no ties.
  part rank_correlation: spearman is Spearman's coefficient of metric and entropy, Pearson's of the average ranks; NULL
  where one of them is the same for all tokens. note: what ties, or scores that are all the same, leave of it.
Paper: overlap (IoU) of the top-p % by disagreement with the top-p % by base entropy (diagnosis, uncertainty).
Parameters: $runs run ids; $metric columns of tokens; $ps shares of tokens
"""
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "part": pa.string(), "within": pa.string(), "p": pa.float64()},
        **dict.fromkeys(("n_tokens", "n_metric", "n_entropy", "n_both"), pa.int64()),
        **dict.fromkeys(("iou", "iou_chance", "spearman"), pa.float64()),
        "note": pa.string(),
    }
)


def _compute(store: Store, values: Values) -> pa.Table:
    rows: list[dict[str, Any]] = []
    pair = (values["metric"], "entropy_base")
    for run in values["runs"]:
        tokens = values["reader"].read(run, pair).complete(*pair)
        if not len(tokens):
            continue
        agreement = Agreement(tokens, pair, values)
        about = {"run_id": run, "n_tokens": len(tokens)}
        for within, overlaps in zip(WITHIN, (agreement.overlaps, agreement.overlaps_in_samples), strict=True):
            for p, found in zip(values["ps"], overlaps(*pair, values["ps"]), strict=True):
                sizes = [found.pop("n_a"), found.pop("n_b")]
                note = joined(*(top_note(n, len(tokens), p, name, within) for n, name in zip(sizes, pair, strict=True)))
                sets = {"within": within, "n_metric": sizes[0], "n_entropy": sizes[1], "note": note}
                rows.append({**about, "part": "overlap", "p": p, **sets, **found})
        note = joined(*(constant_note(name, is_constant=agreement.is_constant(name)) for name in pair))
        rows.append({**about, "part": "rank_correlation", **agreement.spearman(*pair), "note": note})
    return table_of(rows, _SCHEMA, ("iou", "spearman"), values)


QUERY = Query(
    "uncertainty",
    {"metric": metrics("ce", "reverse_kl", "js"), "ps": shares(0.01, 0.05, 0.08, 0.1, 0.2)},
    needs=("metric", "entropy_base"),
    about=ABOUT,
    compute=_compute,
)
