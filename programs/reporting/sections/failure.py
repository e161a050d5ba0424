"""Failure prediction: whether a sample's largest scores tell that its answer is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from rrti_sgl.db.analysis.failure import flagged
from rrti_sgl.programs.reporting.context import MAX_SERIES, Content, ReportContext, Section, with_column
from rrti_sgl.programs.reporting.figures.roc import RocCurve, roc_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.published import HEADING
from rrti_sgl.programs.tables.numbers import COEFFICIENT
from rrti_sgl.programs.tables.table import Column, Table

TOP_K = 100
LEAST_WITH_K = 0.5
_KEYS = {"ce": "failure.auroc.metric", "entropy_base": "failure.auroc.entropy"}


def _failure(context: ReportContext) -> Content:
    found = context.each("failure", context.selection.rollouts, top_k=TOP_K)
    # Of samples that are shorter than K the predictor is another one: no published number is like it.
    alike = [row["top_k"] == TOP_K and row["with_k"] >= LEAST_WITH_K for row in found.rows]
    keys = [_KEYS.get(row["predictor"], "") if each else "" for row, each in zip(found.rows, alike, strict=True)]
    data = with_column(found.data, "published", [context.published.value(key) for key in keys])
    published = [Column("published", HEADING, COEFFICIENT)] if any(keys) else []
    table = Table(
        "failure",
        "How well a sample's largest scores tell wrong answers from right ones",
        data,
        [
            Column("run"),
            Column("predictor"),
            Column("top_k", "K"),
            Column("with_k", "samples with K tokens"),
            Column("n_samples", "samples"),
            Column("n_wrong", "wrong"),
            Column("auroc", "AUROC"),
            *published,
        ],
        [
            "Predictor: mean of the K largest values of a sample (all, where it has fewer). AUROC: probability that a wrong "
            "sample has the larger predictor, ties counting half.",
            *(
                context.published.notes(*_KEYS.values())
                if published
                else [
                    f"The paper's AUROC is of the {TOP_K} largest and stands beside none of these: fewer than half of the "
                    "samples have so many tokens."
                ]
            ),
        ],
        rule_by="run",
    )
    runs = list(dict.fromkeys(data["run_id"].to_pylist()))[:MAX_SERIES]
    drawings = [
        _roc(context, run, found.rows, "roc" if place == 0 else f"roc-{place + 1}") for place, run in enumerate(runs)
    ]
    return Content([table], drawings, found.missing)


def _roc(context: ReportContext, run: str, rows: list[dict[str, Any]], name: str) -> Drawing:
    label = context.selection.labels[run]
    curves, totals = [], (0, 0)
    for row in rows:
        if row["run_id"] != run or row["top_k"] != TOP_K:
            continue
        wrong, right = flagged(context.reader, run, row["predictor"], TOP_K)
        totals = max(totals, (int(wrong[-1]), int(right[-1])))
        false, true = (np.concatenate([[0.0], counts / counts[-1]]) for counts in (right, wrong))
        predictor = "base entropy" if row["predictor"] == "entropy_base" else str(row["predictor"])
        curves.append(RocCurve(predictor, false, true, row["auroc"], row.get("auroc_low"), row.get("auroc_high")))
    caption = (
        f"Predicting a wrong answer from the mean of a sample's {TOP_K} largest scores, run {label}: share of wrong against "
        "share of right answers that each threshold flags."
    )
    return draw(name, caption, lambda: roc_figure(curves, *totals))


SECTIONS = (Section("failure", "Failure prediction", _failure),)
