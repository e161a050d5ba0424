r"""Tables as LaTeX with booktabs: each a complete `tabular` for `\input`, and one document that shows them all.

A snippet needs `\usepackage{booktabs}` and nothing else. What pdfLaTeX cannot typeset without further packages (most
scripts, emoji) is written as its code point, `U+4E2D`, rather than left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.programs.tables import safe_text
from rrti_sgl.programs.tables.table import Table

_DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\newsavebox{\tablebox}
\newcommand{\fitted}[1]{\sbox{\tablebox}{#1}\ifdim\wd\tablebox>\linewidth\resizebox{\linewidth}{!}{\usebox{\tablebox}}%
  \else\usebox{\tablebox}\fi}
\setlength{\parindent}{0pt}
\begin{document}
"""


def tabular(table: Table) -> str:
    """The rows under their headings as one `tabular`; title and notes are comments above and below it."""
    lines = [f"% {safe_text.tex_comment(table.title)}", "% needs \\usepackage{booktabs}"]
    lines.append(rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in table.is_numeric)}}}")
    lines += [r"\toprule", _row(table.headings), r"\midrule"]
    for index, cells in enumerate(table.cells):
        lines += [r"\midrule"] if index in table.rules else []
        lines.append(_row(cells))
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {safe_text.tex_comment(note)}" for note in table.all_notes]
    return "\n".join(lines) + "\n"


def document(tables: Sequence[Table], title: str) -> str:
    """A document of its own that shows every table with its title and notes."""
    parts = [_DOCUMENT, rf"\section*{{{safe_text.tex(title)}}}", ""]
    for table in tables:
        notes = " ".join(table.all_notes)
        parts += [
            rf"\begin{{minipage}}{{\linewidth}}\textbf{{{safe_text.tex(table.title)}}}\par\smallskip",
            rf"\fitted{{%{chr(10)}{tabular(table).rstrip()}{chr(10)}}}",
            rf"\par\smallskip\footnotesize {safe_text.tex(notes)}\end{{minipage}}\par\bigskip",
            "",
        ]
    return "\n".join([*parts, r"\end{document}", ""])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(safe_text.tex, cells)) + r" \\"
