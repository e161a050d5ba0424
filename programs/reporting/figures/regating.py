"""Budget against coverage: how much of the total disagreement a gate's takeovers would meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import SETTING


@dataclass(frozen=True, slots=True)
class GatePoint:
    """One gate, shares from 0 to 1.

    Args:
        budget: share of the positions at which it fires.
        coverage: share of the total disagreement there, with its interval `low` to `high`.
        best: what as many positions of largest disagreement carry.
        spike_ratio: the ratio that its tau is calibrated for.
    """

    budget: float
    coverage: float
    low: float
    high: float
    best: float
    spike_ratio: float | None


MARKED = (0.04, 0.08, 0.13, 0.25)


def regating_figure(points: Sequence[GatePoint], label: str, disagreement: str) -> Figure:
    """The sweep as a curve with its band, the best that any choice of as many positions covers, and chance."""
    figure, axes = style.column_figure(2.5)
    points = sorted(points, key=lambda point: point.budget)
    budgets = [0.0, *(point.budget for point in points)]
    reach = min(1.0, 1.05 * budgets[-1])
    axes.plot([0, reach], [0, reach], color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)), label="positions at random")
    axes.plot(
        budgets,
        [0.0, *(point.best for point in points)],
        color=style.ORANGE,
        linestyle=style.DASHES[1],
        label="largest disagreement first",
    )
    lows, highs = [0.0, *(point.low for point in points)], [0.0, *(point.high for point in points)]
    axes.fill_between(budgets, lows, highs, color=style.BLUE, alpha=0.2, linewidth=0)
    covered = [0.0, *(point.coverage for point in points)]
    axes.plot(budgets, covered, color=style.BLUE, marker="o", markersize=3, label=label, zorder=3)
    for point in points:
        if point.spike_ratio in MARKED:
            axes.annotate(
                f"r = {SETTING.text(point.spike_ratio)}",
                (point.budget, point.coverage),
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
