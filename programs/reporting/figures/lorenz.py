"""Lorenz curve of the disagreement: how much of it the most divergent tokens carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COEFFICIENT, COUNT, LEVEL, SHARE
from rrti_sgl.records import FloatArray


@dataclass(frozen=True, slots=True)
class LorenzCurve:
    """One run's curve.

    Args:
        label: the run.
        tokens: (L,) shares of tokens, the largest scores first, ascending.
        carried: (L,) share of the total score that they carry.
        gini: the Gini coefficient.
        n_tokens: n.
    """

    label: str
    tokens: FloatArray
    carried: FloatArray
    gini: float
    n_tokens: int


def lorenz_figure(curves: Sequence[LorenzCurve], metric: str, marked: float = 0.08) -> Figure:
    """The curves with the diagonal of equal scores; `marked` is the share of tokens that is read off the first curve."""
    figure, axes = style.column_figure(2.5)
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate("equal scores", (0.3, 0.3), (-0.4, 0.4), textcoords="offset fontsize", ha="right", color=style.GREY)
    for index, curve in enumerate(curves):
        x, y = [0.0, *(1 - curve.tokens[::-1]), 1.0], [0.0, *(1 - curve.carried[::-1]), 1.0]
        label = f"{curve.label}: Gini {COEFFICIENT.text(curve.gini)}, n = {COUNT.text(curve.n_tokens)}"
        axes.plot(x, y, color=style.SERIES[index], linestyle=style.DASHES[index], label=label, clip_on=False, zorder=3)
    first = curves[0]
    share = float(first.carried[first.tokens.searchsorted(marked)])
    axes.plot([1 - marked] * 2, [1 - share, 1], color=style.BLUE, linewidth=0.8, marker="_", markersize=4)
    axes.annotate(
        f"top {LEVEL.text(marked)} of tokens\ncarry {SHARE.text(share)}",
        (1 - marked, max(0.2, 0.45 - share / 4)),
        (-0.6, 0),
        textcoords="offset fontsize",
        ha="right",
        va="center",
        color=style.BLUE,
    )
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="Share of tokens, smallest score first (%)", ylabel=f"Share of total {metric} (%)"
    )
    style.legend_above(axes, 1)
    return figure
