"""Cells of a terminal's table that nobody reads to their end."""

from __future__ import annotations

import io

from rich.console import Console

from rrti_sgl.programs.tables.table import rows_table
from rrti_sgl.programs.tables.terminal import parts


def shown(text: str) -> str:
    output = io.StringIO()
    console = Console(file=output, width=100)
    for part in parts(rows_table("", [{"run_id": text}]), 100):
        console.print(part)
    return output.getvalue()


def test_a_text_of_millions_of_characters_is_cut_and_says_so() -> None:
    assert "(3000000 characters)" in shown("x" * 3_000_000).replace("\n", "")
    assert "characters)" not in shown("x" * 100_000)
