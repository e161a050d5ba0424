"""The report as one HTML page: styles and figures are inside it, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrti_sgl.programs.tables.safe_text import html as escape

# Nothing is fetched and nothing runs, whatever a store holds; figures bring styles of their own.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --dim: #5c5c5c; --line: #d8d8d8; --accent: #0072b2; --warn: #fff6e0; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: var(--ink); background: #fff;
  max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .3rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0; }
.question, .notes, figcaption, nav { color: var(--dim); }
.question { font-style: italic; }
nav { font-size: .9rem; margin: 1.2rem 0; columns: 3 14rem; }
nav a { display: block; color: var(--accent); text-decoration: none; }
.missing { background: var(--warn); border-left: 4px solid #e69f00; padding: .6rem .9rem; margin: .8rem 0;
  max-width: 46rem; }
.table { overflow-x: auto; margin: 1.2rem 0 .4rem; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { text-align: left; padding: .22rem 1rem .22rem 0; vertical-align: top; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
th { max-width: 9rem; }
thead th { border-top: 2px solid var(--ink); border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; }
tr.rule td { border-top: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 2px solid var(--ink); }
.notes { font-size: .82rem; margin: 0 0 1.4rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.2rem 2.2rem; align-items: flex-start; margin: 1.2rem 0; }
figure { margin: 0; flex: 0 1 27rem; min-width: 16rem; }
figure.wide { flex-basis: 100%; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; margin-top: .4rem; }
code { font: .88em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
@media print { body { max-width: none; padding: 0; } h2, figure, table { break-inside: avoid; } }
""".strip()


def figure_block(name: str, svg: str, caption: str, *, wide: bool) -> str:
    """A drawing inside the page, with its caption; ids in the drawing are made unique by `name`."""
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}>{inline_svg(svg, name, caption)}<figcaption>{escape(caption)}</figcaption></figure>"


def paragraph(text: str, style: str = "") -> str:
    """A paragraph that may hold `code`."""
    body = "".join(f"<code>{escape(piece)}</code>" if i % 2 else escape(piece) for i, piece in enumerate(text.split("`")))
    return f'<p class="{style}">{body}</p>' if style else f"<p>{body}</p>"


def heading(name: str, title: str, question: str) -> str:
    """The head of a section: its title and the question it answers."""
    asked = f'<p class="question">{escape(question)} <code>{escape(name)}</code></p>'
    return f'<h2 id="{escape(name)}">{escape(title)}</h2>\n{asked}'


def navigation(sections: Sequence[tuple[str, str]]) -> str:
    """Links to sections of (id, title)."""
    links = [f'<a href="#{escape(name)}">{escape(title)}</a>' for name, title in sections]
    return f"<nav>{''.join(links)}</nav>"


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """The `<svg>` element alone, without document type and metadata, its ids prefixed, with a label for screen readers."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1).strip()


def page(title: str, body: str) -> str:
    """A whole page around a body."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
