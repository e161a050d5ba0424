"""How much more often planning words stand among chosen tokens than among all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT, RATIO, SHARE


def enrichment_figure(rows: Sequence[Row]) -> Figure:
    """Horizontal bars with intervals; enrichment, share and n are written beside them, 1 (no enrichment) is dashed.

    Args:
        rows: of the statistic `planning`, one for each set of tokens of a run, whose name is `set`: its `n_tokens`, the
            `share` of planning words in it, and `enrichment`, that over their share in the run, maybe with an interval.
    """
    kinds = dict.fromkeys(row["set"] for row in rows)
    colors = dict(zip(kinds, cycle(style.SERIES), strict=False))
    several = len({row["run"] for row in rows}) > 1
    figure, axes = style.column_figure(0.55 + (0.34 if several else 0.28) * len(rows))
    reach = max(row.get("enrichment_high") or row["enrichment"] for row in rows) or 1.0
    for place, row in enumerate(rows):
        end, low, high = row["enrichment"], row.get("enrichment_low"), row.get("enrichment_high")
        axes.barh(place, end, height=0.6, color=colors[row["set"]])
        text = f"{RATIO.text(end)}× ({SHARE.text(row['share'])}, n = {COUNT.text(row['n_tokens'])})"
        if low is not None and high is not None:
            end = high
            axes.plot([low, high], [place, place], color=style.INK, linewidth=0.9, marker="|", markersize=4)
        axes.annotate(text, (max(end, 1), place), (4, 0), textcoords="offset points", va="center", fontsize=7)
        below = (-4, -2) if several else (-4, 0)
        name: dict[str, Any] = {
            "ha": "right",
            "textcoords": "offset points",
            "xycoords": ("axes fraction", "data"),
            "annotation_clip": False,
        }
        axes.annotate(row["set"], (0, place), (-4, 0.5) if several else below, va="bottom" if several else "center", **name)
        if several:
            axes.annotate(row["run"], (0, place), (-4, -0.5), va="top", fontsize=6.5, color=style.GREY, **name)
    axes.axvline(1, color=style.INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlim=(0, 2.8 * reach), xlabel="Enrichment (share / share of all)")
    return figure
