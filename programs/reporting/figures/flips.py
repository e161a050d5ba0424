"""Which answers a run puts right and which it spoils."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COUNT


@dataclass(frozen=True, slots=True)
class Flips:
    """Problems of one run against the same ones of another, in counts.

    Of runs with one sample a problem: answers put right and spoilt, right in both and wrong in both. Of sampled runs, where
    `both_right` is None: problems whose accuracy rose and fell, and the others in `both_wrong`.
    """

    label: str
    both_right: int | None
    put_right: int
    spoilt: int
    both_wrong: int


# Field, what it is of single answers and of sampled ones, colours.
_PARTS = (
    ("both_right", "right in both", "", style.LIGHT, "", style.INK),
    ("put_right", "wrong → right", "accuracy rose", style.BLUE, "", "white"),
    ("spoilt", "right → wrong", "accuracy fell", style.VERMILLION, "////", "white"),
    ("both_wrong", "wrong in both", "unchanged", style.GREY, "", "white"),
)


def flips_figure(rows: Sequence[Flips], reference: str) -> Figure:
    """One stacked bar a run; counts are written in the parts that are wide enough."""
    figure, axes = style.column_figure(0.85 + 0.32 * len(rows))
    total = max((row.both_right or 0) + row.put_right + row.spoilt + row.both_wrong for row in rows)
    for place, row in enumerate(rows):
        left = 0
        for name, single, sampled, color, hatch, ink in _PARTS:
            count = getattr(row, name)
            if count is None:
                continue
            label = (sampled if row.both_right is None else single) if place == 0 else "_nolegend_"
            axes.barh(
                place, count, left=left, height=0.62, color=color, hatch=hatch, edgecolor="white", linewidth=0.6, label=label
            )
            if count > 0.05 * total:
                box = {"facecolor": color, "edgecolor": "none", "pad": 0.8} if hatch else None
                axes.text(
                    left + count / 2, place, COUNT.text(count), ha="center", va="center", color=ink, fontsize=7, bbox=box
                )
            left += count
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set(xlim=(0, total), xlabel=f"Problems, compared with {reference}")
    style.legend_above(axes, 2)
    return figure
