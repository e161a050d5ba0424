"""How every figure looks, and how it becomes the same bytes each time.

Column width of a two-column paper, 8-point text, the colours of Okabe and Ito (distinct with any colour vision) together
with line styles, no titles: captions stand beside the figure.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rrti_sgl.records import FloatArray

Row = Mapping[str, Any]  # of a statistic
COLUMN_INCHES = 3.3
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, GREY, LIGHT, BROWN = "#1a1a1a", "#767676", "#d8d8d8", "#7f4f24"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK, BROWN)
FORMATS = ("svg", "png", "pdf")
PNG_DPI = 300

_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.35,
    "axes.linewidth": 0.7,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.02,
    "savefig.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
}
# No dates and no names of programs: the same numbers give the same bytes.
_METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the report as files.

    Args:
        name: stem of its files.
        caption: what is seen, with n and units.
        files: its bytes by format.
        wide: it needs the width of the page.
        sample: run and sample that are seen, where it is one.
    """

    name: str
    caption: str
    files: dict[str, bytes]
    wide: bool = False
    sample: tuple[str, str] | None = None


def draw(name: str, caption: str, make: Callable[[], Figure], *, wide: bool = False) -> Drawing:
    """Make a figure in the house style and save it in every format.

    Args:
        name: stem of its files; also salts the ids inside the SVG.
        caption: what is seen.
        make: makes the figure, with `column_figure` or `Figure` itself.
        wide: it needs the width of the page.
    """
    with _house_style(name):
        figure = make()
        files = {}
        for kind in FORMATS:
            sink = io.BytesIO()
            figure.savefig(sink, format=kind, dpi=PNG_DPI, metadata=_METADATA[kind])
            files[kind] = sink.getvalue()
    return Drawing(name, caption, files, wide)


@contextmanager
def _house_style(salt: str) -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()
        settings: dict[Any, Any] = {**_STYLE, "svg.hashsalt": salt}
        mpl.rcParams.update(settings)
        yield


def column_figure(height: float) -> tuple[Figure, Axes]:
    """A figure of column width with one pair of axes; its height in inches."""
    figure = Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
    return figure, figure.add_subplot()


def values(rows: Sequence[Row], name: str) -> FloatArray:
    """(R,) numbers of one column; NaN where a row has none."""
    return np.array([row.get(name) for row in rows], dtype=np.float64)


def level(axes: Axes, height: float, name: str, taken: Iterable[float], *, above: bool = True) -> None:
    """A dashed line, named above or below it where most room is between what stands at the places `taken`, from 0 on."""
    axes.axhline(height, color=GREY, linewidth=0.9, linestyle=DASHES[2])
    left, right = max(pairwise(sorted((0.0, *taken))), key=lambda ends: ends[1] - ends[0])
    x, aside, aligned = ((left + right) / 2, 0, "center") if left > 0 else (0, 6, "left")  # never over the axis
    down, side = (2, "bottom") if above else (-2, "top")
    axes.annotate(name, (x, height), (aside, down), textcoords="offset points", ha=aligned, va=side, color=GREY)


def share_axes(axes: Axes, right: float, xlabel: str, ylabel: str) -> None:
    """From 0 to `right`, and a share of right answers in percent from 0 to all."""
    axes.set(xlim=(0, right), ylim=(0, 1.06), xlabel=xlabel, ylabel=ylabel)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    percent_axis(axes.yaxis)


def percent_axis(axis: Any) -> None:
    """Tick labels of an axis from 0 to 1 in percent, without the sign: the label of the axis names the unit."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")


def legend_above(axes: Axes, columns: int) -> None:
    """A legend above the axes, where no curve is, in as many columns as the figure is wide enough for."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    handles, labels = axes.get_legend_handles_labels()
    for ncols in range(columns, 0, -1):
        legend = figure.legend(handles, labels, loc="outside upper left", ncols=ncols, columnspacing=1.2)
        if ncols == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
