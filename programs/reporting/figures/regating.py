"""Budget against coverage: how much of the total disagreement a gate's takeovers would meet."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import SETTING

MARKED = (0.04, 0.08, 0.13, 0.25)


def regating_figure(rows: Sequence[Row], label: str, disagreement: str) -> Figure:
    """The sweep as a curve with its band, the best that any choice of as many positions covers, and chance.

    Args:
        rows: of `WhatIf`, one for each gate, whose coverage is known.
        label: of the curve.
        disagreement: the metric whose share is covered.
    """
    figure, axes = style.column_figure(2.5)
    points = sorted(rows, key=lambda row: row["budget"])

    def from_nothing(name: str, otherwise: str = "") -> list[float]:
        """A column of the gates, from one that never fires."""
        return [0.0, *(row[otherwise] if row[name] is None else row[name] for row in points)]

    budgets = from_nothing("budget")
    reach = min(1.0, 1.05 * budgets[-1])
    axes.plot([0, reach], [0, reach], color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)), label="positions at random")
    best = {"color": style.ORANGE, "linestyle": style.DASHES[1], "label": "largest disagreement first"}
    axes.plot(budgets, from_nothing("best_coverage"), **best)
    lows, highs = (from_nothing(f"coverage{end}", "coverage") for end in ("_low", "_high"))
    axes.fill_between(budgets, lows, highs, color=style.BLUE, alpha=0.2, linewidth=0)
    axes.plot(budgets, from_nothing("coverage"), color=style.BLUE, marker="o", markersize=3, label=label, zorder=3)
    for row in points:
        if row["spike_ratio"] in MARKED:
            axes.annotate(
                f"r = {SETTING.text(row['spike_ratio'])}",
                (row["budget"], row["coverage"]),
                (0.5, -0.9),
                textcoords="offset fontsize",
                color=style.BLUE,
                va="center",
            )
    style.percent_axis(axes.yaxis)
    axes.set(
        xlim=(0, reach),
        ylim=(0, 1.02),
        xlabel="Expected budget (takeovers per position)",
        ylabel=f"Share of total {disagreement} covered (%)",
    )
    style.legend_above(axes, 1)
    return figure
