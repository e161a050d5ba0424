r"""Tables as LaTeX with booktabs: each a complete `tabular` for `\input`, and one document that shows them all.

A snippet needs `\usepackage{booktabs}` and nothing else. What pdfLaTeX cannot typeset without further packages (most
scripts, emoji) is written as its code point, `U+4E2D`, rather than left out. The document takes for each table the largest
type in which it is as narrow as the page, and goes on to the next page with a table that is longer; LaTeX knows the widths
of its columns in a second run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rrti_sgl.programs.tables import safe_text
from rrti_sgl.programs.tables.table import Table
from rrti_sgl.programs.tables.terminal import column_groups

# Characters that a line holds in the smallest type, wide ones among them; texts longer than LONGEST_TEXT are broken.
LINE, LONGEST_TEXT = 215, 60
_DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=15mm,footskip=9mm]{geometry}
\usepackage{array}
\usepackage{booktabs}
\usepackage{longtable}
\newsavebox{\tablebox}
\newlength{\tablewidth}
% \fitat{SIZE}{COLUMNS}{HEADING}{ROWS}: take this size, if the last one was too wide.
\newcommand{\fitat}[4]{\ifdim\tablewidth>\textwidth\def\chosensize{#1}%
  \sbox{\tablebox}{#1\setlength{\tabcolsep}{0.45em}\begin{tabular}{#2}#3#4\end{tabular}}%
  \setlength{\tablewidth}{\wd\tablebox}\fi}
% \titlerow{TITLE}{NUMBER OF COLUMNS}
\newcommand{\titlerow}[2]{\multicolumn{#2}{@{}l@{}}{%
  \makebox[0pt][l]{\parbox[b]{\textwidth}{\normalsize\bfseries #1}}}\\*[0.5ex]}
\newcommand{\notesrow}[2]{\multicolumn{#2}{@{}l@{}}{%
  \makebox[0pt][l]{\parbox[t]{\textwidth}{\rule{0pt}{2.4ex}\footnotesize\raggedright #1}}}\\}
% \fitted{TITLE}{COLUMNS}{HEADING}{ROWS}{NUMBER OF COLUMNS}{NOTES}
\newcommand{\fitted}[6]{\begingroup\setlength{\tablewidth}{\maxdimen}%
  \fitat{\normalsize}{#2}{#3}{#4}\fitat{\small}{#2}{#3}{#4}\fitat{\footnotesize}{#2}{#3}{#4}%
  \fitat{\scriptsize}{#2}{#3}{#4}\fitat{\tiny}{#2}{#3}{#4}%
  \chosensize\setlength{\tabcolsep}{0.45em}%
  \begin{longtable}[l]{#2}\titlerow{#1}{#5}\toprule#3\midrule\endfirsthead
  \titlerow{#1 (continued)}{#5}\toprule#3\midrule\endhead
  \bottomrule\endfoot\bottomrule\notesrow{#6}{#5}\endlastfoot#4\end{longtable}\endgroup}
\setlength{\parindent}{0pt}
\setlength{\LTpre}{0pt}
\setlength{\LTpost}{0pt}
\setcounter{LTchunksize}{10000}
\raggedright
\begin{document}
"""


def tabular(table: Table) -> str:
    """The rows under their headings as one `tabular`; title and notes are comments above and below it."""
    lines = [f"% {safe_text.tex_comment(table.title)}", "% needs \\usepackage{booktabs}"]
    lines.append(rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in table.is_numeric)}}}")
    lines += [r"\toprule", _row(table.headings), r"\midrule", *_rows(table), r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {safe_text.tex_comment(note)}" for note in table.all_notes]
    return "\n".join(lines) + "\n"


def document(
    tables: Sequence[Table], title: str, head: Sequence[str] = (), notes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """A document of its own that shows every table with its title and notes.

    Args:
        tables: what is shown, in order.
        title: of the document.
        head: paragraphs before the tables.
        notes: of each table by its name, in place of all that it has.
    """
    parts = [
        _DOCUMENT,
        rf"\section*{{{safe_text.tex(title)}}}",
        "",
        *(rf"{safe_text.tex(text)}\par\smallskip" for text in head),
    ]
    for table in tables:
        said = table.all_notes if notes is None else notes[table.name]
        for part in _narrow(table):
            rows = (_row(part.headings), "\n".join(_rows(part)))
            arguments = (
                safe_text.tex(part.title),
                _columns(part),
                *rows,
                str(len(part.columns)),
                safe_text.tex(" ".join(said)),
            )
            parts += [r"\bigskip", rf"\fitted{''.join(f'{{{text}}}' for text in arguments)}", ""]
    return "\n".join([*parts, r"\end{document}", ""])


def _narrow(table: Table) -> list[Table]:
    """The table, or where no type is small enough for all of its columns several, each with the first ones."""
    widths = [
        max(_width(heading), cell if number else min(cell, LONGEST_TEXT))
        for heading, cell, number in zip(table.headings, _longest(table), table.is_numeric, strict=True)
    ]
    return [replace(table, columns=[table.columns[i] for i in places]) for places in column_groups(table, widths, LINE)]


def _columns(table: Table) -> str:
    """The kind of each column: numbers to the right, texts to the left, long texts broken over lines."""
    broken = r">{\raggedright\arraybackslash}p{0.27\textwidth}"
    kinds = zip(table.is_numeric, _longest(table), strict=True)
    return "".join("r" if is_number else broken if longest > LONGEST_TEXT else "l" for is_number, longest in kinds)


def _longest(table: Table) -> list[int]:
    """Of each column, the width of its longest cell."""
    return [max(map(_width, texts), default=0) for texts in table.texts]


def _width(text: str) -> int:
    """Characters of a text as they are typeset; a code point takes six."""
    return sum(6 if rf"U+{ord(character):04X}" in safe_text.tex(character) else 1 for character in text)


def _rows(table: Table) -> list[str]:
    lines = []
    for index, cells in enumerate(table.cells):
        lines += [r"\midrule"] if index in table.rules else []
        lines.append(_row(cells))
    return lines


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(safe_text.tex, cells)) + r" \\"
