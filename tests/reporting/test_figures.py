"""Figures show the numbers they are given, at any size of input and with any text."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.programs.reporting.figures.budget import BudgetPoint, budget_figure
from rrti_sgl.programs.reporting.figures.enrichment import EnrichmentBar, enrichment_figure
from rrti_sgl.programs.reporting.figures.flips import Flips, flips_figure
from rrti_sgl.programs.reporting.figures.lorenz import LorenzCurve, lorenz_figure
from rrti_sgl.programs.reporting.figures.strip import StripToken, strip_figure


def test_the_lorenz_curve_is_the_complement_of_what_the_top_carries() -> None:
    curve = LorenzCurve("run", np.array([0.08, 0.5]), np.array([0.9, 0.99]), 0.8, 100)
    axes = lorenz_figure([curve], "ce").axes[0]
    [line] = [line for line in axes.lines if str(line.get_label()).startswith("run")]
    assert np.allclose(line.get_xydata(), [[0, 0], [0.5, 0.01], [0.92, 0.1], [1, 1]])


def test_flips_add_up() -> None:
    axes = flips_figure([Flips("a", 3, 2, 1, 4), Flips("b", 0, 0, 0, 10)], "base").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [3, 2, 1, 4, 0, 0, 0, 10]
    assert axes.get_xlim() == (0, 10)


def test_sampled_runs_show_problems_that_rose_and_fell() -> None:
    axes = flips_figure([Flips("a", None, 2, 1, 7)], "base").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2, 1, 7]
    assert axes.get_legend_handles_labels()[1] == ["accuracy rose", "accuracy fell", "unchanged"]


@pytest.mark.parametrize("low", [None, 0.2])
def test_budget_marks_levels_and_knee(low: float | None) -> None:
    points = [BudgetPoint("guided", 0.04, 0.5, low, 0.7), BudgetPoint("unheard-of", 0.25, 0.3)]
    axes = budget_figure(points, "Accuracy", 10, base=0.1, reasoning=0.9, knee=0.04).axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert texts == {"base alone", "reasoning alone", "knee 0.040"}


def test_kinds_of_a_program_are_told_apart_where_there_are_several() -> None:
    kinds = [BudgetPoint("matched", 0.1, 0.2, kind=f"matched by {what}") for what in ("token", "position")]
    labels = lambda *points: budget_figure(points, "Accuracy", 10).axes[0].get_legend_handles_labels()  # noqa: E731
    assert labels(kinds[0])[1] == ["matched"]
    handles, names = labels(BudgetPoint("guided", 0.1, 0.5), *kinds)
    assert names == ["guided", "matched by position", "matched by token"]
    assert len({(mark.get_marker(), str(mark.get_markerfacecolor())) for mark in handles}) == 3


@pytest.mark.parametrize("programs", [["guided"], ["guided", "entropy", "random", "matched"], ["oracle", "x" * 24, "relay"]])
def test_a_legend_is_no_wider_than_its_figure(programs: list[str]) -> None:
    figure = budget_figure([BudgetPoint(name, 0.1, 0.5) for name in programs], "Accuracy", 10)
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
    bars = [EnrichmentBar("top", "a", 0.5, 2.5, 10, 2.0, 3.0), EnrichmentBar("takeovers", "b", 0.0, 0.0, 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = style.draw("enrichment", "", lambda: enrichment_figure(bars))
    assert drawing.files["svg"] == style.draw("enrichment", "", lambda: enrichment_figure(bars)).files["svg"]
