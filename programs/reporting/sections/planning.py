"""Planning words among divergent, uncertain and taken-over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rrti_sgl.programs.reporting.context import MAX_SERIES, Content, ReportContext, Section, with_column
from rrti_sgl.programs.reporting.figures.enrichment import enrichment_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.published import HEADING
from rrti_sgl.programs.tables.numbers import LEVEL, RATIO, SHARE
from rrti_sgl.programs.tables.table import Column, Table

METRIC = "ce"
PLANNING_SHARES = (0.01, 0.08)
MAX_BARS = 8


def _planning(context: ReportContext) -> Content:
    rows: list[Mapping[str, Any]] = []
    words: list[Mapping[str, Any]] = []
    missing: list[str] = []
    for share in PLANNING_SHARES:
        found = context.each("planning", context.selection.rollouts, p=share)
        missing += found.missing
        # Base entropy has the same rows beside each metric.
        chosen = list({(row["run"], row["part"], row["label"], _set_name(row, share)): row for row in found.rows}.values())
        named = [{**row, "set": _set_name(row, share)} for row in chosen if row["within"] is not None]
        rows += [row for row in named if row["part"] == "planning"]
        words += [row for row in named if row["part"] != "planning" and row["within"] == "run"]
        everything = [row for row in chosen if row["part"] == "planning" and row["tokens"] == "all"]
    guided = context.selection.of_programs("guided")
    taken = context.each("planning", guided, metric=METRIC, p=PLANNING_SHARES[0]).rows if guided else []
    taken = [{**row, "set": "takeovers"} for row in taken if row["tokens"] == "takeovers" and row["n_tokens"]]
    rows = [
        *({**row, "set": "all tokens"} for row in everything),
        *rows,
        *(row for row in taken if row["part"] == "planning"),
    ]
    drawn = [row for row in rows if row["within"] == "run"][:MAX_BARS] + [row for row in rows if row["set"] == "takeovers"]
    return Content(
        [_planning_table(context, rows), _words_table(words)],
        [_enrichment(drawn[: MAX_BARS + MAX_SERIES])],
        list(dict.fromkeys(missing)),
    )


def _set_name(row: Mapping[str, Any], share: float) -> str:
    """What a set of tokens is called."""
    if row["within"] is None:
        return str(row["tokens"])
    score = row["metric"] if row["tokens"] == "top_metric" else "base entropy"
    return f"top {LEVEL.text(share)} by {score}" + (", of each sample" if row["within"] == "sample" else "")


def _published_odds(context: ReportContext, tokens: str) -> float | None:
    """The odds of a planning word in a set over those among all tokens, from the shares that the paper publishes."""
    share, whole = (context.published.value(f"planning.share.{name}") for name in (tokens, "all"))
    return None if share is None or whole is None or tokens == "all" else share / (1 - share) / (whole / (1 - whole))


def _planning_table(context: ReportContext, rows: Sequence[Mapping[str, Any]]) -> Table:
    data = pa.Table.from_pylist(list(rows))
    # The paper's score is ce: no published number stands beside another metric, or a set within samples.
    like = [row["within"] != "sample" and (row["tokens"] != "top_metric" or row["metric"] == METRIC) for row in rows]
    names = [str(row["tokens"]) if each else "" for row, each in zip(rows, like, strict=True)]
    data = with_column(data, "published_share", [context.published.value(f"planning.share.{name}") for name in names])
    data = with_column(data, "published_odds", [_published_odds(context, name) for name in names])
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
            Column("odds_over_all", "odds over all"),
            Column("published_odds", HEADING, RATIO),
            Column("odds_ratio", "odds ratio"),
            Column("enrichment"),
        ],
        [
            "odds over all: odds of a planning word in the set over those among all tokens of the same run, the paper's "
            "from its two shares. odds ratio: over those in the rest of the run. enrichment: share over share among all; it "
            "cannot exceed 1 / share among all, so that runs of unlike shares do not compare in it. Shares depend on the "
            "word lists: they compare between runs of this package, not with the paper's. Our digest of the paper does not "
            "say which top share its numbers are of; they stand beside both of ours.",
            *context.published.notes("planning.share.top_metric", "planning.share.top_entropy", "planning.share.takeovers"),
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
    caption = (
        "Planning words in sets of tokens, as a multiple of their share among all tokens of the run (dashed line), with "
        "95 % intervals. Beside the bars: enrichment, share of planning words in the set, and its size."
    )
    return draw("enrichment", caption, lambda: enrichment_figure(rows))


SECTIONS = (Section("planning", "Planning words", _planning),)
