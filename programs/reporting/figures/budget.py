"""What a larger budget of takeovers buys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COUNT, RATE

_KNOWN = {"guided": 0, "entropy": 1, "random": 2, "early": 3, "oracle": 4, "relay": 5, "matched": 6, "deferral": 7}


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """One run: its realised budget rho (takeovers per token) and what it reached, with an interval if there is one.

    `kind` tells it from runs of the same program that are no other budget of the same curve.
    """

    program: str
    rho: float
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = ""


def budget_figure(
    points: Sequence[BudgetPoint],
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
        points: the runs.
        quantity: what `value` is.
        n_problems: n.
        base: level of the base model alone; in exchanged roles of the model that writes.
        reasoning: level of the reasoning model alone; in exchanged roles of its guest.
        knee: rho of the knee.
        exchanged: the reasoning model writes.
    """
    figure, axes = style.column_figure(2.5)
    right = 1.12 * max(point.rho for point in points)
    for level, name in zip((base, reasoning), ("reasoning", "base") if exchanged else ("base", "reasoning"), strict=True):
        if level is not None:
            axes.axhline(level, color=style.GREY, linewidth=0.9, linestyle=style.DASHES[2])
            above = name == "reasoning"
            place: dict[str, Any] = {
                "xytext": (0, 2 if above else -2),
                "textcoords": "offset points",
                "va": "bottom" if above else "top",
            }
            axes.annotate(f"{name} alone", (right, level), ha="right", color=style.GREY, **place)
    for index, number, label, own in _series(points):
        if own[0].program == "guided" and base is not None:
            axes.plot([0, own[0].rho], [base, own[0].value], color=style.SERIES[index], linewidth=0.9, alpha=0.6)
        axes.plot(
            [point.rho for point in own],
            [point.value for point in own],
            color=style.SERIES[index],
            marker=style.MARKERS[index],
            markersize=4.5,
            markerfacecolor="none" if number else style.SERIES[index],
            linestyle="-" if own[0].program == "guided" else "",
            label=label,
            zorder=3,
        )
        for point in own:
            if point.low is not None and point.high is not None:
                axes.plot([point.rho] * 2, [point.low, point.high], color=style.SERIES[index], linewidth=0.9, zorder=2)
    if knee is not None:
        axes.axvline(knee, color=style.INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        axes.annotate(
            f"knee {RATE.text(knee)}", (knee, 0.02), (2, 0), xycoords=("data", "axes fraction"), textcoords="offset points"
        )
    axes.set(
        xlim=(0, right),
        xlabel="Realised budget ρ (takeovers per token)",
        ylabel=f"{quantity} (%), {COUNT.text(n_problems)} problems",
    )
    axes.set_ylim(0, 1.06)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    style.percent_axis(axes.yaxis)
    style.legend_above(axes, 4)
    return figure


def _series(points: Sequence[BudgetPoint]) -> Iterator[tuple[int, int, str, list[BudgetPoint]]]:
    """Style, number among the kinds of its program, label and points of each series, by rho; one kind needs no name."""
    last = len(_KNOWN)
    for program in sorted({point.program for point in points}, key=lambda name: (_KNOWN.get(name, last), name)):
        kinds = sorted({point.kind for point in points if point.program == program})
        for number, kind in enumerate(kinds):
            own = sorted((p for p in points if (p.program, p.kind) == (program, kind)), key=lambda point: point.rho)
            yield min(_KNOWN.get(program, last), last - 1), number, kind if len(kinds) > 1 else program, own
