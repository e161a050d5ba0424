"""How a sample's tokens become the text that `rrti show` prints."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from rrti_sgl.programs.tables.sample_view import SampleView, solution_text
from rrti_sgl.records import SampleTrace
from tests.db.conftest import make_problem, make_run
from tests.statistics.conftest import random_trace

Token = tuple[str, str, str | None]  # its text, its source, what the base model drew where the reasoning model took over


def shown(*tokens: Token, plain: bool = True) -> str:
    columns = SimpleNamespace(
        token_text=[text for text, _, _ in tokens],
        source=[source for _, source, _ in tokens],
        token_id=np.arange(len(tokens)),
        base_token_id=np.asarray([t if wanted == text else 90 + t for t, (text, _, wanted) in enumerate(tokens)]),
        base_token_text=[wanted for _, _, wanted in tokens],
    )
    trace = cast(Any, SimpleNamespace(tokens=columns))
    return solution_text(trace, np.zeros(len(tokens)), None, plain=plain).plain


@pytest.mark.parametrize("pieces", [["a", "\n", "b"], [" a", " ", " b"], ["a.\n", "\n\n", "\tb \n"], ["", "", "🌊", " x"]])
@pytest.mark.parametrize("plain", [True, False])
def test_text_without_takeovers_is_the_text(pieces: list[str], plain: bool) -> None:
    assert shown(*[(piece, "base", piece) for piece in pieces], plain=plain) == "".join(pieces)


@pytest.mark.parametrize(
    ("token", "plain", "styled"),
    [
        ((" so", "reasoning", " but"), " [but -> so]", " but so"),
        ((" so", "reasoning", " so"), " [so]", " so"),
        (("so\n", "reasoning", "\n\n"), "[\\n\\n -> so]\n", "\\n\\n so\n"),
        (("\n", "reasoning", "."), "[. -> \\n]\n", ". \\n\n"),
        ((" ", "reasoning", " but"), "[but -> ·] ", "but · "),
        (("", "reasoning", "\ufffd"), "[\ufffd -> ·]", "\ufffd ·"),
        (("so", "reasoning", None), "[<91> -> so]", "<91> so"),
    ],
)
def test_takeovers_are_marked_and_lose_no_space(token: Token, plain: str, styled: str) -> None:
    assert shown(("x", "base", "x"), token) == f"x{plain}"
    assert shown(("x", "base", "x"), token, plain=False) == f"x{styled}"


def drawn(trace: SampleTrace, **options: Any) -> str:
    run, problem = make_run(), make_problem()
    console = Console(file=io.StringIO(), width=80, **options)
    console.print(SampleView(run, problem, trace))
    return cast(io.StringIO, console.file).getvalue()


def test_without_colours_takeovers_stand_in_brackets_and_the_legend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = random_trace(np.random.default_rng(3), "r1", "p1", 0)
    terminal = {"force_terminal": True, "color_system": "truecolor"}
    coloured = drawn(trace, **terminal)
    assert "what base drew" in coloured
    assert "->" not in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    for options in (terminal, {}, {"force_terminal": True, "color_system": None}):
        plain = drawn(trace, **options)
        assert "[drawn by base -> takeover]" in plain
        assert " nats " not in plain
        assert "what base drew" not in plain


def test_a_legend_names_no_mark_that_is_not_there() -> None:
    trace = random_trace(np.random.default_rng(3), "r1", "p1", 0)
    of_base = replace(trace, tokens=replace(trace.tokens, source=["base"] * trace.sample.n_tokens))
    assert "takeover]" not in drawn(of_base)
    coloured = drawn(of_base, force_terminal=True, color_system="truecolor").splitlines()[-1]
    assert "takeover" not in coloured
    assert "ce" in coloured
