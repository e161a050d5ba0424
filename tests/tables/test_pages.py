"""Pages: hostile text is shown as it is, wide tables fit."""

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
from rrti_sgl.programs.tables.table import Column, Table, plain_table, rows_table
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


def test_a_document_breaks_tables_that_no_page_holds() -> None:
    """Long ones go on under their headings, in type that fits; too wide ones are cut, each part with its key."""
    wide = rows_table("w", [{"run": f"run {i}", **{f"quantity number {n}": n / 7 for n in range(40)}} for i in range(3)])
    text = latex.document([wide], "T", ["first"], {"w": ["a note"]})
    assert text.count(r"\begin{longtable}") == 1, "in the command that the tables use"
    parts = [line for line in text.splitlines() if line.startswith(r"\fitted{w}{")]
    assert len(parts) > 2
    for part in parts:
        heading = part.split("{", 3)[3]
        assert heading.startswith("run & quantity number")
        assert len(heading.split(r"\\")[0].replace("&", " ")) <= latex.LINE
    assert text.index("first") < text.index("a note")
    assert re.findall(r"p\{0\.27", latex.document([rows_table("l", [{"text": "word " * 30}])], "T"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX engine")
def test_nothing_is_set_beyond_the_page(tmp_path: Path) -> None:
    long = rows_table(
        "long", [{"run": f"run {i}", **{f"q{n} [95 %]": "30.5% [21.9, 39.7]" for n in range(9)}} for i in range(150)]
    )
    wide = rows_table("wide", [{"run": f"run {i}", **{f"number {n}": n / 7 for n in range(60)}} for i in range(3)])
    (tmp_path / "all.tex").write_text(latex.document([long, wide], "T"))
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout


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


@pytest.mark.parametrize(("numbers", "stacked"), [(6, False), (10, True)])
def test_where_a_page_is_too_narrow_intervals_stand_under_their_numbers(numbers: int, stacked: bool) -> None:
    row = {"run": "a name that is broken over several lines", "n": 3}
    row |= {f"share_{i}{end}": value for i in range(numbers) for end, value in (("", 0.5), ("_low", 0.25), ("_high", 0.75))}
    [table] = re.findall(r"<table [^>]*>", html.table_block(plain_table("wide", pa.Table.from_pylist([row]))))
    assert ('class="stacked"' in table) == stacked
