"""Planning words among divergent, uncertain and taken-over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rrti_sgl.programs.reporting.context import MAX_SERIES, Content, ReportContext, Section, with_column
from rrti_sgl.programs.reporting.figures.enrichment import EnrichmentBar, enrichment_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.published import HEADING
from rrti_sgl.programs.tables.numbers import LEVEL, SETTING, SHARE
from rrti_sgl.programs.tables.table import Column, Table

METRIC = "ce"
PLANNING_SHARES = (0.01, 0.08)


def _planning(context: ReportContext) -> Content:
    rows: list[Mapping[str, Any]] = []
    words: list[Mapping[str, Any]] = []
    missing: list[str] = []
    for share in PLANNING_SHARES:
        found = context.each("planning", context.selection.rollouts, metric=METRIC, p=share)
        missing += found.left_out.values()
        top = f"top {LEVEL.text(share)} by"
        names = {"top_metric": f"{top} {METRIC}", "top_entropy": f"{top} base entropy"}
        chosen = [row for row in found.rows if row["tokens"] in names]
        rows += [{**row, "set": names[row["tokens"]]} for row in chosen if row["part"] == "planning"]
        words += [{**row, "set": names[row["tokens"]]} for row in chosen if row["part"] != "planning"]
        everything = [row for row in found.rows if row["part"] == "planning" and row["tokens"] == "all"]
    guided = context.selection.of_programs("guided")
    taken = context.each("planning", guided, metric=METRIC, p=PLANNING_SHARES[0]).rows if guided else []
    taken = [{**row, "set": "takeovers"} for row in taken if row["tokens"] == "takeovers" and row["n_tokens"]]
    rows = [
        *({**row, "set": "all tokens"} for row in everything),
        *rows,
        *(row for row in taken if row["part"] == "planning"),
    ]
    return Content(
        [_planning_table(context, rows), _words_table(words)],
        [_enrichment([row for row in rows if row["tokens"] != "all"][: 2 * len(PLANNING_SHARES) + MAX_SERIES])],
        list(dict.fromkeys(missing)),
    )


def _planning_table(context: ReportContext, rows: Sequence[Mapping[str, Any]]) -> Table:
    data = pa.Table.from_pylist(list(rows))
    for quantity in ("share", "enrichment"):
        values = [context.published.value(f"planning.{quantity}.{row['tokens']}") for row in rows]
        data = with_column(data, f"published_{quantity}", values)
    return Table(
        "planning",
        "Planning words among divergent, uncertain and taken-over tokens",
        data,
        [
            Column("set", "tokens"),
            Column("run"),
            Column("n_tokens", "n"),
            Column("share", "planning words"),
            Column("published_share", HEADING, SHARE),
            Column("enrichment"),
            Column("published_enrichment", HEADING, SETTING),
            Column("odds_ratio"),
        ],
        [
            "Enrichment: share in the set over share among all tokens of the same run. Shares depend on the word lists: "
            "they compare between runs of this package, not with the paper's. Our digest of the paper does not say which "
            "top share its numbers are of; they stand beside both of ours.",
            context.published.note("planning.share.top_metric", "planning.share.top_entropy", "planning.share.takeovers"),
        ],
    )


def _words_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        "planning-words",
        "Categories of planning words, and the most over-represented words",
        pa.Table.from_pylist(sorted(rows, key=lambda row: (row["set"], row["run"], row["part"]))),
        [
            Column("set", "tokens"),
            Column("run"),
            Column("part"),
            Column("label"),
            Column("n_matching", "n"),
            Column("share", "share of the set"),
            Column("enrichment"),
        ],
        ["Words by Dunning's log-likelihood ratio. The paper publishes no numbers of this."],
        rule_by="set",
    )


def _enrichment(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    bars = [
        EnrichmentBar(
            row["set"],
            row["run"],
            row["share"],
            row["enrichment"],
            row["n_tokens"],
            row.get("enrichment_low"),
            row.get("enrichment_high"),
        )
        for row in rows
    ]
    caption = (
        "Planning words in sets of tokens, as a multiple of their share among all tokens of the run (dashed line), with "
        "95 % intervals. Beside the bars: enrichment, share of planning words in the set, and its size."
    )
    return draw("enrichment", caption, lambda: enrichment_figure(bars))


SECTIONS = (Section("planning", "Planning words", _planning),)
