"""How much more often planning words stand among chosen tokens than among all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COUNT, RATIO, SHARE


@dataclass(frozen=True, slots=True)
class EnrichmentBar:
    """Planning words in one set of tokens.

    Args:
        tokens: the set, such as "top 1 % by ce".
        run: whose tokens they are.
        share: share of planning words in the set.
        enrichment: that share over the share among all tokens of the run.
        n_tokens: size of the set.
        low, high: interval of the enrichment, if there is one.
    """

    tokens: str
    run: str
    share: float
    enrichment: float
    n_tokens: int
    low: float | None = None
    high: float | None = None


def enrichment_figure(bars: Sequence[EnrichmentBar]) -> Figure:
    """Horizontal bars with intervals; enrichment, share and n are written beside them, 1 (no enrichment) is dashed."""
    kinds = dict.fromkeys(bar.tokens for bar in bars)
    colors = dict(zip(kinds, cycle(style.SERIES), strict=False))
    several = len({bar.run for bar in bars}) > 1
    figure, axes = style.column_figure(0.55 + (0.34 if several else 0.28) * len(bars))
    reach = max(bar.high or bar.enrichment for bar in bars) or 1.0
    for place, bar in enumerate(bars):
        axes.barh(place, bar.enrichment, height=0.6, color=colors[bar.tokens])
        end = bar.enrichment
        if bar.low is not None and bar.high is not None:
            end = bar.high
            axes.plot([bar.low, bar.high], [place, place], color=style.INK, linewidth=0.9, marker="|", markersize=4)
        text = f"{RATIO.text(bar.enrichment)}× ({SHARE.text(bar.share)}, n = {COUNT.text(bar.n_tokens)})"
        axes.annotate(text, (max(end, 1), place), (4, 0), textcoords="offset points", va="center", fontsize=7)
        below = (-4, -2) if several else (-4, 0)
        name: dict[str, Any] = {
            "ha": "right",
            "textcoords": "offset points",
            "xycoords": ("axes fraction", "data"),
            "annotation_clip": False,
        }
        axes.annotate(bar.tokens, (0, place), (-4, 0.5) if several else below, va="bottom" if several else "center", **name)
        if several:
            axes.annotate(bar.run, (0, place), (-4, -0.5), va="top", fontsize=6.5, color=style.GREY, **name)
    axes.axvline(1, color=style.INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, 2.8 * reach), xlabel="Enrichment (share / share of all)")
    return figure
