"""Hostile text is shown as it is in every kind of page."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from rrti_sgl.programs.tables import html, latex, markdown, safe_text
from rrti_sgl.programs.tables.numbers import SHARE
from rrti_sgl.programs.tables.table import Column, Table, rows_table
from tests.tables.test_formats import HOSTILE


@pytest.fixture
def hostile() -> Table:
    data = pa.table({HOSTILE: [HOSTILE, "x → y ± 1", None], "n": [1.5, -2.0, None]})
    return Table("hostile", HOSTILE, data, [Column(HOSTILE), Column("n", "ρ", SHARE)], [HOSTILE])


def test_latex_escapes_what_is_special() -> None:
    assert safe_text.tex(r"_ % & # { } $") == r"\_ \% \& \# \{ \} \$"
    assert safe_text.tex("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert safe_text.tex("中\n") == r"\texttt{U+4E2D} "


def test_latex_has_one_cell_a_column(hostile: Table) -> None:
    text = latex.tabular(hostile)
    assert text.count(r"\begin{tabular}{lr}") == text.count(r"\end{tabular}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 4
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 1
        assert not re.search(r"(?<!\\)[%#_]", row)
        assert row.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_latex_compiles(hostile: Table, tmp_path: Path) -> None:
    (tmp_path / "snippet.tex").write_text(latex.tabular(hostile))
    plain = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{snippet}\\end{document}"
    for name, text in (("plain", plain), ("all", latex.document([hostile, hostile], HOSTILE))):
        (tmp_path / f"{name}.tex").write_text(text)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1500:]


class Cells(HTMLParser):
    """The texts of table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag in ("td", "th")
        self.found += [""] if self.inside else []

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def test_html_and_markdown_show_the_same_cells(hostile: Table) -> None:
    expected = [*hostile.headings, *(cell for row in hostile.cells for cell in row)]
    for page in (html.table_block(hostile), MarkdownIt("gfm-like", {"linkify": False}).render(markdown.table_body(hostile))):
        cells = Cells()
        cells.feed(page)
        assert cells.found == expected


def test_markdown_keeps_the_blanks_that_a_cell_begins_with() -> None:
    body = markdown.table_body(rows_table("t", [{"run": "  lambda", "n": 1}]))
    assert "| &nbsp;&nbsp;lambda |" in body


def test_a_notebook_shows_the_table() -> None:
    table = rows_table("T", [{"accuracy": 0.5}])
    assert table._repr_html_() == html.table_block(table)
