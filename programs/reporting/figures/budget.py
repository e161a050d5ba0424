"""What a larger budget of takeovers buys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.style import Row
from rrti_sgl.programs.tables.numbers import COUNT, RATE

_KNOWN = {"guided": 0, "entropy": 1, "random": 2, "early": 3, "oracle": 4, "relay": 5, "matched": 6, "deferral": 7}


def budget_figure(
    points: Sequence[Row],
    value: str,
    quantity: str,
    n_problems: int,
    base: float | None = None,
    reasoning: float | None = None,
    knee: float | None = None,
    *,
    exchanged: bool = False,
) -> Figure:
    """Points by program, joined where a program ran at several budgets; base and reasoning as levels, the knee marked.

    Args:
        points: a row for each run: `program`, `rho` (takeovers per token), what it reached, with an interval if there is
            one, and `kind`, which tells it from runs of the same program that are no other budget of the same curve.
        value: the column of what it reached.
        quantity: what that is.
        n_problems: n.
        base: level of the base model alone; in exchanged roles of the model that writes.
        reasoning: level of the reasoning model alone; in exchanged roles of its guest.
        knee: rho of the knee.
        exchanged: the reasoning model writes.
    """
    figure, axes = style.column_figure(2.5)
    places = [point["rho"] for point in points]
    right = 1.12 * max(places)
    for height, name in zip((base, reasoning), ("reasoning", "base") if exchanged else ("base", "reasoning"), strict=True):
        if height is not None:
            style.level(axes, height, f"{name} alone", places, above=name == "reasoning")
    for index, number, label, own in _series(points):
        color, is_guided = style.SERIES[index], own[0]["program"] == "guided"
        if is_guided and base is not None:
            axes.plot([0, own[0]["rho"]], [base, own[0][value]], color=color, linewidth=0.9, alpha=0.6)
        axes.plot(
            [point["rho"] for point in own],
            [point[value] for point in own],
            color=color,
            marker=style.MARKERS[index],
            markersize=4.5,
            markerfacecolor="none" if number else color,
            linestyle="-" if is_guided else "",
            label=label,
            zorder=3,
        )
        for point in own:
            low, high = point.get(f"{value}_low"), point.get(f"{value}_high")
            if low is not None and high is not None:
                axes.plot([point["rho"]] * 2, [low, high], color=color, linewidth=0.9, zorder=2)
    if knee is not None:
        axes.axvline(knee, color=style.INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        axes.annotate(
            f"knee {RATE.text(knee)}", (knee, 0.02), (2, 0), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    reached = f"{quantity} (%), {COUNT.text(n_problems)} problems"
    style.share_axes(axes, right, "Realised budget ρ (takeovers per token)", reached)
    style.legend_above(axes, 4)
    return figure


def _series(points: Sequence[Row]) -> Iterator[tuple[int, int, str, list[Row]]]:
    """Style, number among the kinds of its program, label and points of each series, by rho; one kind needs no name."""
    last = len(_KNOWN)
    for program in sorted({point["program"] for point in points}, key=lambda name: (_KNOWN.get(name, last), name)):
        kinds = sorted({point["kind"] for point in points if point["program"] == program})
        for number, kind in enumerate(kinds):
            alike = [point for point in points if (point["program"], point["kind"]) == (program, kind)]
            own = sorted(alike, key=lambda point: point["rho"])
            yield min(_KNOWN.get(program, last), last - 1), number, kind if len(kinds) > 1 else program, own
