"""Tables show numbers as asked, and hostile text as it is, in every kind of page."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from rrti_sgl.programs.reporting import html, latex, markdown
from rrti_sgl.programs.reporting.table import Column, Table, plain_table
from tests.reporting.test_formats import HOSTILE


@pytest.mark.parametrize(
    ("value", "column", "shown"),
    [
        (0.12345, Column("x"), "0.123"),
        (12.345, Column("x"), "12.3"),
        (12345.6, Column("x"), "12,346"),
        (12345, Column("x"), "12,345"),
        (0.1234, Column("x", unit="%", digits=1), "12.3"),
        (-0.05, Column("x", unit="%", digits=1), "−5.0"),
        (0.05, Column("x", unit="%", digits=1, signed=True), "+5.0"),
        (3e-9, Column("x"), "3.00e−09"),
        (0.0, Column("x"), "0"),
        (None, Column("x"), "–"),
        (float("nan"), Column("x"), "–"),
        (float("inf"), Column("x"), "∞"),
    ],
)
def test_numbers(value: float | None, column: Column, shown: str) -> None:
    assert column.format(value) == shown


def test_intervals_stand_behind_their_number_with_its_decimals() -> None:
    data = pa.table({"x": [0.5, 0.25], "x_low": [0.41, None], "x_high": [0.6321, None]})
    table = plain_table("t", data)
    assert table.cells == [["0.500 [0.410, 0.632]"], ["0.250"]]
    assert any("95 % intervals" in note for note in table.all_notes)


def test_rules_and_missing_values() -> None:
    data = pa.table({"source": ["measured", "measured", "published"], "x": [1.0, None, 2.0]})
    table = Table("t", "T", data, [Column("x")], rule_by="source")
    assert table.rules == [2]
    assert table.all_notes == ["–: not defined, or not published."]


@pytest.fixture
def hostile() -> Table:
    data = pa.table({HOSTILE: [HOSTILE, "x → y ± 1", None], "n": [1.5, -2.0, None]})
    return Table("hostile", HOSTILE, data, [Column(HOSTILE), Column("n", "ρ", "%")], [HOSTILE])


def test_latex_escapes_what_is_special() -> None:
    assert latex.escape(r"_ % & # { } $") == r"\_ \% \& \# \{ \} \$"
    assert latex.escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert latex.escape("中\n") == r"\texttt{U+4E2D} "


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
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
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
