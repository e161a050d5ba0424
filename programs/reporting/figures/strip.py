"""One sample as text: every token shaded by its score, takeovers framed, with what the base model had drawn above them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib import colormaps, ft2font
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.tables.numbers import SETTING
from rrti_sgl.science.metrics import unit_of

WIDTH_INCHES = 6.75
_FONT = FontProperties(family="DejaVu Sans Mono", size=7)
_CHARACTER_INCHES = 0.602 * 7 / 72
_LINE_INCHES = 0.27


@dataclass(frozen=True, slots=True)
class StripToken:
    """One token.

    Args:
        text: as emitted.
        score: in nats; None where it was not computed.
        taken: the gate fired and the reasoning model drew it.
        wanted: what the base model had drawn instead, where that differs.
    """

    text: str
    score: float | None
    taken: bool = False
    wanted: str | None = None


def strip_figure(tokens: Sequence[StripToken], metric: str, limit: int = 240) -> Figure:
    """The first `limit` tokens in lines of page width, and a scale of the shades."""
    placed = list(_place(tokens[:limit], int(WIDTH_INCHES / _CHARACTER_INCHES) - 1))
    n_lines = placed[-1][1] + 1
    height = n_lines * _LINE_INCHES + 0.52
    figure = Figure(figsize=(WIDTH_INCHES, height))
    axes = figure.add_axes((0, 0.5 / height, 1, n_lines * _LINE_INCHES / height))
    axes.set(xlim=(0, WIDTH_INCHES), ylim=(n_lines * _LINE_INCHES, 0))
    axes.axis("off")
    top = max([token.score for token in tokens if token.score is not None], default=1.0) or 1.0
    norm, shades = PowerNorm(0.5, 0, top), _shades()
    for token, line, column, word in placed:
        left, base = column * _CHARACTER_INCHES + 0.02, (line + 0.72) * _LINE_INCHES
        width = len(word) * _CHARACTER_INCHES
        color = shades(norm(token.score)) if token.score is not None else (1.0, 1.0, 1.0, 0.0)
        box = Rectangle((left - 0.012, base - 0.125), width + 0.024, 0.165, facecolor=color, linewidth=0)
        axes.add_patch(box)
        if token.taken:
            box.set(
                edgecolor=style.BLUE,
                linewidth=1.1 if token.wanted else 0.7,
                linestyle="-" if token.wanted else (0, (1.5, 1)),
            )
        axes.text(left, base, word, fontproperties=_FONT, va="baseline", weight="bold" if token.wanted else "normal")
        if token.wanted:
            small = _FONT.copy()
            small.set_size(5.2)
            axes.text(
                left, base - 0.145, _printable(token.wanted), fontproperties=small, va="baseline", color=style.VERMILLION
            )
    _scale(figure.add_axes((0.02, 0.27 / height, 0.22, 0.085 / height)), top, norm, shades)
    unit = unit_of(metric)
    figure.text(0.255, 0.28 / height, f"{metric} ({unit})" if unit else metric, va="bottom")
    figure.text(0.40, 0.28 / height, "framed: takeover; dotted frame: it drew the same token;", va="bottom")
    figure.text(0.40, 0.10 / height, "small above: what the base model had drawn", va="bottom", color=style.VERMILLION)
    return figure


def _place(tokens: Sequence[StripToken], room: int) -> Iterator[tuple[StripToken, int, int, str]]:
    """(token, line, column, word) with words broken over lines of `room` characters; blanks and line ends as in the text."""
    line = column = 0
    for token in tokens:
        lead = len(token.text) - len(token.text.lstrip(" "))
        word = _printable(token.text[lead:].rstrip(" ")) or "·"
        word = word if len(word) <= room else word[: room - 1] + "…"
        column += lead if column else 0
        if column + len(word) > room:
            line, column = line + 1, 0
        yield token, line, column, word
        # What stands above a changed token must not run into the next one's.
        column += max(len(word), round(0.75 * len(_printable(token.wanted or ""))))
        column += 0 if not token.text[lead:].endswith(" ") else 1
        if "\n" in token.text:
            line, column = line + 1, 0


def _printable(text: str) -> str:
    """The text in characters that the font has; line ends as ⏎, others as a box."""
    known = _characters()
    return "".join("⏎" if c == "\n" else c if ord(c) in known else "□" for c in text.strip(" "))


@cache
def _characters() -> frozenset[int]:
    return frozenset(ft2font.FT2Font(findfont(_FONT)).get_charmap())


def _shades() -> Colormap:
    """White to orange: dark text stays readable on every shade."""
    return ListedColormap(colormaps["Oranges"]([0.62 * i / 255 for i in range(256)]), "strip")


def _scale(axes: Axes, top: float, norm: PowerNorm, shades: Colormap) -> None:
    """A bar of the shades, even in shade and not in score, with ticks at round scores; drawn as vectors."""
    steps = 48
    for step in range(steps):
        axes.add_patch(Rectangle((step / steps, 0), 1.02 / steps, 1, facecolor=shades((step + 0.5) / steps), linewidth=0))
    marks = [mark for mark in MaxNLocator(4).tick_values(0, top) if 0 <= mark <= top]
    axes.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    axes.set_xticks([float(norm(mark)) for mark in marks], [SETTING.text(mark) for mark in marks])
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_linewidth(0.5)
