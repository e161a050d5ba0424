"""Diagnosis on base rollouts: sparsity, position and uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import (
    MAX_SERIES,
    Content,
    ReportContext,
    Section,
    curves_of,
    wide,
    with_column,
)
from rrti_sgl.programs.reporting.figures.lorenz import lorenz_figure
from rrti_sgl.programs.reporting.figures.overlap import overlap_figure
from rrti_sgl.programs.reporting.figures.position import position_figure
from rrti_sgl.programs.reporting.figures.style import draw
from rrti_sgl.programs.reporting.published import HEADING
from rrti_sgl.programs.tables.numbers import COEFFICIENT, LEVEL, RATIO, SETTING, SHARE
from rrti_sgl.programs.tables.table import Column, Table

METRIC = "ce"
LORENZ_GRID = sorted({*np.geomspace(0.001, 0.1, 25).round(5), 0.08, *np.linspace(0.1, 0.99, 60).round(5)})
OVERLAP_GRID = [0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3]
TOP_SHARE = 0.01


def _sparsity(context: ReportContext) -> Content:
    rows: list[Mapping[str, Any]] = []
    missing: list[str] = []
    for metric in (METRIC, "reverse_kl", "entropy_base"):
        try:
            found = context.each("sparsity", context.selection.rollouts, metric=metric, carried=[0.5, 0.8], top=[0.01, 0.08])
        except UsageError as error:
            if metric == METRIC:
                raise
            missing.append(str(error))
            continue
        rows += [{**row, "metric": metric} for row in found.rows if row["statistic"] != "lorenz"]
        missing += found.missing
    key = "sparsity.gini"
    data = wide(rows, ["run", "run_id", "metric", "n_tokens"], _sparsity_column)
    data = with_column(
        data, "published", [context.published.value(key) if m == METRIC else None for m in data["metric"].to_pylist()]
    )
    shares = [
        Column(name, label, SHARE)
        for name, label in (
            ("carrying_50", "tokens carrying half"),
            ("carrying_80", "tokens carrying 80 %"),
            ("top_1", "carried by top 1 %"),
            ("top_8", "carried by top 8 %"),
        )
    ]
    columns = [Column("run"), Column("metric"), Column("n_tokens", "tokens"), Column("gini", "Gini")]
    table = Table(
        "sparsity",
        "Concentration of the disagreement on few tokens",
        data,
        [*columns, Column("published", f"Gini, {HEADING}", COEFFICIENT), *shares],
        [
            "ce: CE(p_b, p_r), the paper's score. reverse_kl: ce less the base model's entropy. All in nats.",
            *context.published.notes(key),
        ],
    )
    runs = list(dict.fromkeys(data["run_id"].to_pylist()))[:MAX_SERIES]
    curves = [context.points("sparsity", [run], metric=METRIC, carried=[0.5], top=LORENZ_GRID).to_pylist() for run in runs]
    caption = (
        f"Lorenz curve of the disagreement ({METRIC}, nats) over the tokens of base rollouts: share of the total that the "
        "tokens of smallest score carry. The further below the diagonal, the fewer tokens carry the disagreement."
    )
    return Content([table], [draw("lorenz", caption, lambda: lorenz_figure(curves, METRIC))], missing)


def _sparsity_column(row: Mapping[str, Any]) -> str:
    if row["statistic"] == "gini":
        return "gini"
    return f"{'carrying' if row['statistic'] == 'tokens_carrying' else 'top'}_{row['level'] * 100:.3g}"


def _position(context: ReportContext) -> Content:
    found = context.each("position", context.selection.rollouts, p=TOP_SHARE)
    summary = found.data.filter(pc.not_equal(found.data["part"], "density"))
    is_peak = [row["part"] == "peak" and row["metric"] == METRIC for row in summary.to_pylist()]
    summary = with_column(
        summary, "published", [context.published.value("position.peak") if peak else None for peak in is_peak]
    )
    top = f"top {LEVEL.text(TOP_SHARE)}"
    where = [Column("run"), Column("u_low", "u from"), Column("u_high", "to")]
    position = Table(
        "position",
        f"Where the {top} of tokens by disagreement stand in a solution",
        summary,
        [
            where[0],
            Column("metric"),
            Column("within", "top of"),
            Column("part"),
            *where[1:],
            Column("middle"),
            Column("published", f"peak at, {HEADING}", SETTING),
            Column("n_top", f"{top}, n"),
            Column("density_ratio", "density over all"),
            Column("share_top", f"share of {top}"),
            Column("share_all", "share of all tokens"),
            Column("share_first", "first of a sample"),
        ],
        [
            "u = (t + 1/2) / T, the middle of a token over the length of its solution. top of: the top tokens are those of "
            "the whole run, or of each sample. density over all: density of the top tokens over that of all tokens, 1 where "
            "they are as frequent as anywhere. peak: the bin where it is highest. within: tokens in the first part of "
            "solutions. beyond: tokens after it. first of a sample: of the first such tokens of samples.",
            *context.published.notes("position.peak"),
        ],
        rule_by="run",
    )
    bins = [row for row in found.rows if row["part"] == "density" and row["within"] == "run"]
    of_metrics = list(dict.fromkeys(row["metric"] for row in bins))
    density = Table(
        "position-density",
        f"Density of the {top} of tokens over that of all tokens, by position in a solution",
        wide(bins, ["run", "u_low", "u_high", "n_all"], lambda row: str(row["metric"]), "density_ratio", ()),
        [*where, Column("n_all", "tokens"), *(Column(metric, f"by {metric}", RATIO) for metric in of_metrics)],
        ["Top tokens of the whole run. The paper shows this as a figure, without numbers to set beside ours."],
        rule_by="run",
    )
    curves = curves_of(bins)
    caption = (
        f"Density of the {top} of tokens by disagreement over that of all tokens, by normalised position, base rollouts. "
        "Above 1, top tokens are more frequent than anywhere."
    )
    drawing = draw("position", caption, lambda: position_figure(curves, TOP_SHARE))
    return Content([position, density], [drawing], found.missing)


def _uncertainty(context: ReportContext) -> Content:
    found = context.each("uncertainty", context.selection.rollouts, ps=OVERLAP_GRID)
    overlap, ranks = (found.data.filter(pc.equal(found.data["part"], part)) for part in ("overlap", "rank_correlation"))
    curves = curves_of([row for row in overlap.to_pylist() if row["within"] == "run"])
    columns = [
        Column("run"),
        Column("metric"),
        Column("within", "top of"),
        Column("p"),
        Column("n_metric", "top by metric"),
        Column("n_entropy", "top by entropy"),
        Column("n_both", "in both"),
        Column("iou", "IoU"),
        Column("iou_chance", "IoU by chance"),
    ]
    table = Table(
        "uncertainty",
        "Overlap of the most divergent with the most uncertain tokens",
        overlap,
        columns,
        [
            "IoU: tokens in both top-p sets over tokens in either; ties at a threshold are all in. top of: top-p of the "
            "whole run, or of each sample. By chance: of two independent sets of these sizes. The paper shows this overlap "
            "as a figure, without numbers to set beside ours."
        ],
        rule_by="run",
    )
    caption = (
        "Overlap (IoU) of the top p % of tokens by disagreement with the top p % by base entropy, base rollouts. ce "
        "contains the base entropy, reverse_kl is what is left of it without."
    )
    correlation = Table(
        "uncertainty-ranks",
        "Rank correlation of disagreement and base entropy",
        ranks,
        [Column("run"), Column("metric"), Column("n_tokens", "tokens"), Column("spearman", "Spearman's ρ")],
        ["Over all tokens, ties at average ranks. The paper publishes no number of this."],
    )
    return Content([table, correlation], [draw("overlap", caption, lambda: overlap_figure(curves))], found.missing)


SECTIONS = (
    Section("sparsity", "Sparsity", _sparsity),
    Section("position", "Position in the solution", _position),
    Section("uncertainty", "Disagreement and uncertainty", _uncertainty),
)
