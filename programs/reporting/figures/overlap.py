"""How far the most divergent tokens are the most uncertain ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT


def overlap_figure(curves: Mapping[str, Sequence[Row]]) -> Figure:
    """The curves over p, with the overlap expected by chance.

    Args:
        curves: by label the rows of the statistic `uncertainty`, one for each `p`, ascending: `iou`, the overlap of the two
            top-p sets, maybe with an interval, and `iou_chance`, that of independent sets of the same sizes.
    """
    figure, axes = style.column_figure(2.3)
    for index, (name, rows) in enumerate(curves.items()):
        color, shares = style.SERIES[index], style.values(rows, "p")
        if "iou_low" in rows[0]:
            lows, highs = style.values(rows, "iou_low"), style.values(rows, "iou_high")
            axes.fill_between(shares, lows, highs, color=color, alpha=0.18, linewidth=0)
        look = {"color": color, "linestyle": style.DASHES[index], "marker": style.MARKERS[index]}
        axes.plot(shares, style.values(rows, "iou"), label=f"{name}, n = {COUNT.text(rows[0]['n_tokens'])}", **look)
    first = next(iter(curves.values()))
    chance = {"color": style.GREY, "linestyle": style.DASHES[2], "linewidth": 1.1, "label": "expected by chance"}
    axes.plot(style.values(first, "p"), style.values(first, "iou_chance"), **chance)
    axes.set(xlabel="p (%): top share by the metric and by base entropy", ylabel="Overlap (IoU)", ylim=(0, 1))
    axes.set_xlim(left=0)
    style.percent_axis(axes.xaxis)
    style.legend_above(axes, 1)
    return figure
