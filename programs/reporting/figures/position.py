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
    """One run's and metric's density of top tokens over that of all tokens, in B bins of u = (t + 1/2) / T.

    Args:
        label: run and metric.
        edges: (B + 1,) bin edges from 0 to 1.
        ratio: (B,) density of the top-p tokens over that of all; NaN where there are no tokens.
        n_top: tokens in the top-p set.
    """

    label: str
    edges: FloatArray
    ratio: FloatArray
    n_top: int


def position_figure(densities: Sequence[PositionDensity], share: float) -> Figure:
    """The ratios as steps over the bins; 1, as frequent as anywhere, is dashed."""
    figure, axes = style.column_figure(2.3)
    for index, density in enumerate(densities):
        color = style.SERIES[index]
        label = f"{density.label}: top {LEVEL.text(share)}, n = {COUNT.text(density.n_top)}"
        axes.step(
            density.edges, _steps(density.ratio), where="post", color=color, linestyle=style.DASHES[index], label=label
        )
    axes.axhline(1, color=style.GREY, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set(xlim=(0, 1), xlabel="Normalised position u = (t + 1/2) / T", ylabel="Density over all tokens")
    axes.set_ylim(bottom=0)
    style.legend_above(axes, 1)
    return figure


def _steps(values: FloatArray) -> FloatArray:
    """(B + 1,) heights for `where="post"`."""
    return np.append(values, values[-1])
