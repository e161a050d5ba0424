"""Which answers a run puts right and which it spoils."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT

# Name, colour, hatch and ink of each part.
_PAIRED = {
    "both_right": ("right in both", style.LIGHT, "", style.INK),
    "wrong_right": ("wrong → right", style.BLUE, "", "white"),
    "right_wrong": ("right → wrong", style.VERMILLION, "////", "white"),
    "both_wrong": ("wrong in both", style.GREY, "", "white"),
}
_SAMPLED = {
    "rose": ("accuracy rose", style.BLUE, "", "white"),
    "fell": ("accuracy fell", style.VERMILLION, "////", "white"),
    "unchanged": ("unchanged", style.GREY, "", "white"),
}


def flips_figure(rows: Sequence[Row], reference: str) -> Figure:
    """One stacked bar a run; counts are written in the parts that are wide enough.

    Args:
        rows: of the statistic `flips`, one a run. Where runs have several samples a problem, `both_right` is None, and
            counted are problems whose accuracy rose and fell.
        reference: what the run that they are compared with is called.
    """
    figure, axes = style.column_figure(0.85 + 0.32 * len(rows))
    rows = [{**row, "unchanged": row["n_problems"] - row["rose"] - row["fell"]} for row in rows]
    parts = _SAMPLED if rows[0]["both_right"] is None else _PAIRED
    total = max(sum(row[part] for part in parts) for row in rows)
    for place, row in enumerate(rows):
        left = 0
        for part, (name, color, hatch, ink) in parts.items():
            count = row[part]
            label = name if place == 0 else "_nolegend_"
            axes.barh(
                place, count, left=left, height=0.62, color=color, hatch=hatch, edgecolor="white", linewidth=0.6, label=label
            )
            if count > 0.05 * total:
                box = {"facecolor": color, "edgecolor": "none", "pad": 0.8} if hatch else None
                axes.text(
                    left + count / 2, place, COUNT.text(count), ha="center", va="center", color=ink, fontsize=7, bbox=box
                )
            left += count
    axes.set_yticks(range(len(rows)), [row["run"] for row in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlim=(0, total), xlabel=f"Problems, compared with {reference}")
    style.legend_above(axes, 2)
    return figure
