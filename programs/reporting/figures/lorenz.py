"""Lorenz curve of the disagreement: how much of it the most divergent tokens carry."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COEFFICIENT, COUNT, LEVEL, SHARE
from rrti_sgl.records import FloatArray

MARKED = 0.08  # share of tokens


def lorenz_figure(curves: Sequence[Sequence[Row]], metric: str) -> Figure:
    """The curves with the diagonal of equal scores; what the top `MARKED` of tokens carry is read off the first one.

    Args:
        curves: of each run the rows of the statistic `sparsity`: its Gini coefficient, and the share of the total score that
            each `level` of its tokens carries, ascending, the largest scores first.
        metric: the score.
    """
    figure, axes = style.column_figure(2.5)
    axes.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.annotate("equal scores", (0.3, 0.3), (-0.4, 0.4), textcoords="offset fontsize", ha="right", color=style.GREY)
    for index, rows in enumerate(curves):
        tokens, carried = _carried(rows)
        gini = next(row["value"] for row in rows if row["statistic"] == "gini")
        x, y = [0.0, *(1 - tokens[::-1]), 1.0], [0.0, *(1 - carried[::-1]), 1.0]
        label = f"{rows[0]['run']}: Gini {COEFFICIENT.text(gini)}, n = {COUNT.text(rows[0]['n_tokens'])}"
        axes.plot(x, y, color=style.SERIES[index], linestyle=style.DASHES[index], label=label, clip_on=False, zorder=3)
    tokens, carried = _carried(curves[0])
    share = float(carried[tokens.searchsorted(MARKED)])
    axes.plot([1 - MARKED] * 2, [1 - share, 1], color=style.BLUE, linewidth=0.8, marker="_", markersize=4)
    axes.annotate(  # above the diagonal, where no curve comes
        f"top {LEVEL.text(MARKED)} of tokens carry {SHARE.text(share)}",
        (1 - MARKED, 1),
        (-0.8, 0),
        textcoords="offset fontsize",
        ha="right",
        va="top",
        color=style.BLUE,
    )
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="Share of tokens, smallest score first (%)", ylabel=f"Share of total {metric} (%)"
    )
    style.legend_above(axes, 1)
    return figure


def _carried(rows: Sequence[Row]) -> tuple[FloatArray, FloatArray]:
    """(L,) shares of the tokens, and (L,) of the total score that they carry."""
    found = [row for row in rows if row["statistic"] == "carried_by_top"]
    return style.values(found, "level"), style.values(found, "value")
