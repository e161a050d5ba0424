"""How a sample's tokens become the text that `rrti show` prints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from rrti_sgl.programs.tables.sample_view import solution_text

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
