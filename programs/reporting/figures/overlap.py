"""How far the most divergent tokens are the most uncertain ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COUNT
from rrti_sgl.records import FloatArray


@dataclass(frozen=True, slots=True)
class OverlapCurve:
    """One run's overlap (IoU) of two top-p sets over L values of p.

    Args:
        label: the run.
        shares: (L,) values of p, ascending.
        iou: (L,) overlap.
        chance: (L,) overlap of independent sets of the same sizes.
        n_tokens: n.
        low, high: (L,) interval of `iou`, if there is one.
    """

    label: str
    shares: FloatArray
    iou: FloatArray
    chance: FloatArray
    n_tokens: int
    low: FloatArray | None = None
    high: FloatArray | None = None


def overlap_figure(curves: Sequence[OverlapCurve]) -> Figure:
    """The curves over p, with the overlap expected by chance."""
    figure, axes = style.column_figure(2.3)
    for index, curve in enumerate(curves):
        color = style.SERIES[index]
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.shares, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
        label = f"{curve.label}, n = {COUNT.text(curve.n_tokens)}"
        axes.plot(
            curve.shares, curve.iou, color=color, linestyle=style.DASHES[index], marker=style.MARKERS[index], label=label
        )
    chance = curves[0]
    axes.plot(
        chance.shares, chance.chance, color=style.GREY, linestyle=style.DASHES[2], linewidth=1.1, label="expected by chance"
    )
    axes.set(xlabel="p (%): top share by the metric and by base entropy", ylabel="Overlap (IoU)", ylim=(0, 1))
    axes.set_xlim(left=0)
    style.percent_axis(axes.xaxis)
    style.legend_above(axes, 1)
    return figure
