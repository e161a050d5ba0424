"""What tokens of the other model do to a text, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT


@dataclass(frozen=True, slots=True)
class Direction:
    """One model's text with tokens of the other.

    Args:
        writes: whose text it is, "base" or "reasoning".
        alone: accuracy of that model alone; None: it is not known.
        rows: runs with `rho_pooled`, `accuracy` and the ends of its interval.
        controls: likewise, each with `control`, the name of its kind.
    """

    writes: str
    alone: float | None
    rows: Sequence[Row]
    controls: Sequence[Row] = ()


def directions_figure(directions: Sequence[Direction], n_problems: int) -> Figure:
    """A curve for each direction, from the writer alone at 0, with its controls hollow beside it.

    The levels of both models alone are drawn through.

    Args:
        directions: one or two.
        n_problems: n.
    """
    rows = [row for direction in directions for row in (*direction.rows, *direction.controls)]
    places = [0.01, *(row["rho_pooled"] for row in rows)]
    right = 1.12 * max(places)
    kinds = list(dict.fromkeys(row["control"] for direction in directions for row in direction.controls))
    figure, axes = style.column_figure(2.9 if kinds else 2.5)
    for index, direction in enumerate(directions):
        colour, guest = style.SERIES[index], {"base": "reasoning", "reasoning": "base"}[direction.writes]
        points = sorted((row["rho_pooled"], row["accuracy"]) for row in direction.rows)
        if direction.alone is not None:
            style.level(axes, direction.alone, f"{direction.writes} alone", places)
            points.insert(0, (0.0, direction.alone))
        label = f"{direction.writes} writes, {guest} takes over"
        mark = {"color": colour, "marker": style.MARKERS[index], "markersize": 4.5, "linestyle": style.DASHES[index]}
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, clip_on=False, zorder=3, **mark)
        for row in direction.controls:
            axes.plot(row["rho_pooled"], row["accuracy"], color=colour, zorder=2.5, **_hollow(kinds.index(row["control"])))
        for row in (*direction.rows, *direction.controls):
            if row.get("accuracy_low") is not None:
                ends = [row["accuracy_low"], row["accuracy_high"]]
                width = 0.5 if "control" in row else 0.9
                axes.plot([row["rho_pooled"]] * 2, ends, color=colour, linewidth=width, zorder=2)
    accuracy = f"Accuracy (%), {COUNT.text(n_problems)} problems"
    style.share_axes(axes, right, "Tokens of the guest per token, ρ", accuracy)
    style.legend_above(axes, 1)
    if kinds:
        marks = [Line2D([], [], color=style.GREY, label=kind, **_hollow(index)) for index, kind in enumerate(kinds)]
        figure.legend(handles=marks, loc="outside lower left", ncols=2)
    return figure


def _hollow(kind: int) -> dict[str, Any]:
    marker = style.MARKERS[2 + kind % (len(style.MARKERS) - 2)]
    return {"marker": marker, "markersize": 3.5, "linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 0.8}
