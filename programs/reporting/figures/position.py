"""Where in the solution the most divergent tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import COUNT, LEVEL
from rrti_sgl.records import FloatArray


@dataclass(frozen=True, slots=True)
class PositionDensity:
    """One run's densities over u = position / length, in B bins.

    Args:
        label: the run.
        edges: (B + 1,) bin edges from 0 to 1.
        top: (B,) density of the top-p tokens; 1 is uniform.
        all: (B,) density of all tokens.
        n_top, n_all: tokens in each.
        low, high: (B,) interval of `top`, if there is one.
    """

    label: str
    edges: FloatArray
    top: FloatArray
    all: FloatArray
    n_top: int
    n_all: int
    low: FloatArray | None = None
    high: FloatArray | None = None


def position_figure(densities: Sequence[PositionDensity], share: float, metric: str) -> Figure:
    """Density of the top-p tokens of each run against that of all tokens, as steps over the bins."""
    figure, axes = style.column_figure(2.3)
    for index, density in enumerate(densities):
        color = style.SERIES[index]
        prefix = f"{density.label}: " if len(densities) > 1 else ""
        label = f"{prefix}top {LEVEL.text(share)} by {metric}, n = {COUNT.text(density.n_top)}"
        if density.low is not None and density.high is not None:
            low, high = _steps(density.low), _steps(density.high)
            axes.fill_between(density.edges, low, high, step="post", color=color, alpha=0.18, linewidth=0)
        elif len(densities) == 1:
            axes.fill_between(density.edges, _steps(density.top), step="post", color=color, alpha=0.12, linewidth=0)
        axes.step(density.edges, _steps(density.top), where="post", color=color, linestyle=style.DASHES[index], label=label)
    first = densities[0]
    whose = "" if len(densities) == 1 else f" of {first.label}"
    label = f"all tokens{whose}, n = {COUNT.text(first.n_all)}"
    axes.step(
        first.edges, _steps(first.all), where="post", color=style.GREY, linewidth=1.1, linestyle=style.DASHES[2], label=label
    )
    axes.set(xlim=(0, 1), xlabel="Normalised position u = t / T", ylabel="Density (uniform = 1)")
    axes.set_ylim(bottom=0)
    style.legend_above(axes, 1)
    return figure


def _steps(values: FloatArray) -> FloatArray:
    """(B + 1,) heights for `where="post"`."""
    return np.append(values, values[-1])
