"""Receiver operating characteristic of predicting a wrong answer from a sample's largest scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COEFFICIENT, COUNT
from rrti_sgl.records import FloatArray


@dataclass(frozen=True, slots=True)
class RocCurve:
    """One predictor.

    Args:
        label: the predictor, and the run where there are several.
        false_positive_rate: (T,) share of right samples flagged, ascending from 0 to 1.
        true_positive_rate: (T,) share of wrong samples flagged.
        auroc: area under it, ties counting half.
        low, high: its interval, if there is one.
    """

    label: str
    false_positive_rate: FloatArray
    true_positive_rate: FloatArray
    auroc: float
    low: float | None = None
    high: float | None = None


def roc_figure(curves: Sequence[RocCurve], n_wrong: int, n_right: int) -> Figure:
    """The curves with the diagonal of chance."""
    figure, axes = style.column_figure(2.9 + 0.13 * len(curves))  # the legend's lines
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate("chance", (0.55, 0.55), (0.3, -0.4), textcoords="offset fontsize", va="top", color=style.GREY)
    for index, curve in enumerate(curves):
        axes.plot(
            curve.false_positive_rate,
            curve.true_positive_rate,
            color=style.SERIES[index],
            linestyle=style.DASHES[index],
            label=f"{curve.label}: AUROC {COEFFICIENT.interval(curve.auroc, curve.low, curve.high)}",
            clip_on=False,
            zorder=3,
        )
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        xlabel=f"Right answers flagged (%), n = {COUNT.text(n_right)}",
        ylabel=f"Wrong answers flagged (%), n = {COUNT.text(n_wrong)}",
    )
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)
    style.legend_above(axes, 1)
    return figure
