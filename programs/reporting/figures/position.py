"""Where in the solution the most divergent tokens are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT, LEVEL


def position_figure(curves: Mapping[str, Sequence[Row]], share: float) -> Figure:
    """The ratios as steps over the bins; 1, as frequent as anywhere, is dashed.

    Args:
        curves: by run and metric the rows of the statistic `position`, one for each bin of u = (t + 1/2) / T, ascending:
            `density_ratio`, density of the top tokens over that of all, None where there are no tokens, and `n_top`.
        share: of the tokens that are top ones.
    """
    figure, axes = style.column_figure(2.3)
    for index, (name, rows) in enumerate(curves.items()):
        label = f"{name}: top {LEVEL.text(share)}, n = {COUNT.text(sum(row['n_top'] for row in rows))}"
        edges, ratios = [*style.values(rows, "u_low"), rows[-1]["u_high"]], style.values(rows, "density_ratio")
        heights = [*ratios, ratios[-1]]  # the last bin's at its end as well
        axes.step(edges, heights, where="post", color=style.SERIES[index], linestyle=style.DASHES[index], label=label)
    axes.axhline(1, color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set(xlim=(0, 1), xlabel="Normalised position u = (t + 1/2) / T", ylabel="Density over all tokens")
    axes.set_ylim(bottom=0)
    style.legend_above(axes, 1)
    return figure
