"""Figures show the numbers they are given, at any size of input and with any text."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.budget import budget_figure
from rrti_sgl.programs.reporting.figures.enrichment import enrichment_figure
from rrti_sgl.programs.reporting.figures.flips import flips_figure
from rrti_sgl.programs.reporting.figures.lorenz import lorenz_figure
from rrti_sgl.programs.reporting.figures.strip import StripToken, strip_figure


def test_the_lorenz_curve_is_the_complement_of_what_the_top_carries() -> None:
    found = [("gini", None, 0.8), ("carried_by_top", 0.08, 0.9), ("carried_by_top", 0.5, 0.99)]
    rows = [
        {"run": "run", "n_tokens": 100, "statistic": statistic, "level": level, "value": value}
        for statistic, level, value in found
    ]
    axes = lorenz_figure([rows], "ce").axes[0]
    [line] = [line for line in axes.lines if str(line.get_label()).startswith("run")]
    assert np.allclose(line.get_xydata(), [[0, 0], [0.5, 0.01], [0.92, 0.1], [1, 1]])


@pytest.mark.parametrize("power", [1.2, 2, 4, 20])
def test_what_is_read_off_the_lorenz_curve_stands_beside_the_lines(power: float) -> None:
    """For scores that are nearly equal, and for a few that carry all."""
    rows = [{"run": "run", "n_tokens": 100, "statistic": "gini", "level": None, "value": 0.5}]
    rows += [
        {"run": "run", "n_tokens": 100, "statistic": "carried_by_top", "level": level, "value": 1 - (1 - level) ** power}
        for level in np.linspace(0.01, 0.99, 99).round(2)
    ]
    figure = lorenz_figure([rows], "ce")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    [said] = [text for text in axes.texts if text.get_text().startswith("top 8%")]
    box = said.get_window_extent()
    for line in axes.lines:
        assert not line.get_path().transformed(line.get_transform()).intersects_bbox(box, filled=False), line


def flips(run: str, both_right: int | None, rose: int, fell: int, both_wrong: int | None) -> style.Row:
    return {
        "run": run, "n_problems": 10, "rose": rose, "fell": fell,
        "both_right": both_right, "wrong_right": rose, "right_wrong": fell, "both_wrong": both_wrong,
    }  # fmt: skip


def test_flips_add_up() -> None:
    axes = flips_figure([flips("a", 3, 2, 1, 4), flips("b", 0, 0, 0, 10)], "base").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [3, 2, 1, 4, 0, 0, 0, 10]
    assert axes.get_xlim() == (0, 10)


def test_sampled_runs_show_problems_that_rose_and_fell() -> None:
    axes = flips_figure([flips("a", None, 2, 1, None)], "base").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2, 1, 7]
    assert axes.get_legend_handles_labels()[1] == ["accuracy rose", "accuracy fell", "unchanged"]


def point(program: str, rho: float, accuracy: float, kind: str = "", **ends: float | None) -> style.Row:
    return {"program": program, "kind": kind, "rho": rho, "accuracy": accuracy, **ends}


def budget(points: Sequence[style.Row], **levels: float) -> Figure:
    return budget_figure(points, "accuracy", "Accuracy", 10, **levels)


@pytest.mark.parametrize("low", [None, 0.2])
def test_budget_marks_levels_and_knee(low: float | None) -> None:
    points = [point("guided", 0.04, 0.5, accuracy_low=low, accuracy_high=0.7), point("unheard-of", 0.25, 0.3)]
    axes = budget(points, base=0.1, reasoning=0.9, knee=0.04).axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert texts == {"base alone", "reasoning alone", "knee 0.040"}


@pytest.mark.parametrize(
    ("places", "room"),
    [
        ((0.08, 0.25, 0.26), True),
        ((0.2, 0.25, 0.26), True),
        ((0.1, 0.11), True),
        ((0.01, 0.02, 0.03, 0.04), False),
    ],
)
def test_a_level_is_named_where_nothing_stands(places: tuple[float, ...], room: bool) -> None:
    figure = budget(
        [point("random", rho, 0.5, accuracy_low=0.0, accuracy_high=1.0) for rho in places], base=0.3, reasoning=0.9
    )
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for text in axes.texts:
        box = text.get_window_extent()
        assert axes.bbox.x0 <= box.x0
        assert box.x1 <= axes.bbox.x1
        hidden = [rho for rho in places if box.x0 <= axes.transData.transform((rho, 0))[0] <= box.x1]
        assert bool(hidden) is not room, text.get_text()


def test_kinds_of_a_program_are_told_apart_where_there_are_several() -> None:
    kinds = [point("matched", 0.1, 0.2, kind=f"matched by {what}") for what in ("token", "position")]
    labels = lambda *points: budget(points).axes[0].get_legend_handles_labels()  # noqa: E731
    assert labels(kinds[0])[1] == ["matched"]
    handles, names = labels(point("guided", 0.1, 0.5), *kinds)
    assert names == ["guided", "matched by position", "matched by token"]
    assert len({(mark.get_marker(), str(mark.get_markerfacecolor())) for mark in handles}) == 3


@pytest.mark.parametrize("programs", [["guided"], ["guided", "entropy", "random", "matched"], ["oracle", "x" * 24, "relay"]])
def test_a_legend_is_no_wider_than_its_figure(programs: list[str]) -> None:
    figure = budget([point(name, 0.1, 0.5) for name in programs])
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert {text.get_text() for text in legend.get_texts()} == {*programs}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "text", ["plain ", " $x_1$ \\frac{a}{b} ", "$\\nonsense{$", "中文\n", "😀", "", "x" * 300, "line\nline"]
)
def test_any_text_is_drawn_without_warnings(text: str) -> None:
    tokens = [StripToken(text, 0.5), StripToken(text, None, True, text), StripToken("end", 0.0)]
    drawing = style.draw("strip", "", lambda: strip_figure(tokens, "ce"))
    assert set(drawing.files) == {"svg", "png", "pdf"}


def test_bars_with_and_without_intervals() -> None:
    top: style.Row = {"set": "top", "run": "a", "share": 0.5, "enrichment": 2.5, "n_tokens": 10}
    taken: style.Row = {"set": "takeovers", "run": "b", "share": 0.0, "enrichment": 0.0, "n_tokens": 3}
    bars = [{**top, "enrichment_low": 2.0, "enrichment_high": 3.0}, taken]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = style.draw("enrichment", "", lambda: enrichment_figure(bars))
    assert drawing.files["svg"] == style.draw("enrichment", "", lambda: enrichment_figure(bars)).files["svg"]
