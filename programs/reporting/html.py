"""The report as one HTML page: styles, script and figures are inside it, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrti_sgl.programs.tables.safe_text import html as escape

_HERE = Path(__file__).parent
STYLE = (_HERE / "page.css").read_text(encoding="utf-8").strip()
SCRIPT = f"\n{(_HERE / 'page.js').read_text(encoding='utf-8').strip()}\n"
# Nothing is fetched and nothing runs but this script, whatever a store holds; figures bring styles of their own.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)


def figure_block(name: str, svg: str, caption: str, *, wide: bool, files: Mapping[str, str]) -> str:
    """A drawing inside the page, with its caption, which names it; ids in the drawing are made unique by `name`.

    Args:
        name: of the drawing.
        svg: the drawing.
        caption: what is seen.
        wide: it needs the width of the page.
        files: where the drawing lies in each format.
    """
    kind = ' class="wide"' if wide else ""
    label = f"figure-{escape(name)}"
    linked = f'<span class="files">This figure as{_links(files)}</span>'
    return (
        f'<figure{kind}><div class="drawing">{inline_svg(svg, name, label)}</div>'
        f'<figcaption><span id="{label}">{escape(caption)}</span>{linked}</figcaption></figure>'
    )


def file_line(files: Mapping[str, str]) -> str:
    """Links to a table's files, by the name of their format."""
    return f'<p class="files">This table as{_links(files)}</p>'


def paragraph(text: str, style: str = "") -> str:
    """A paragraph that may hold `code`."""
    return f'<p class="{style}">{_prose(text)}</p>' if style else f"<p>{_prose(text)}</p>"


def listed(texts: Sequence[str], style: str) -> str:
    """A list of sentences that may hold `code`."""
    return f'<ul class="{style}">{"".join(f"<li>{_prose(text)}</li>" for text in texts)}</ul>'


def heading(name: str, title: str, question: str) -> str:
    """The head of a section: its title and the question it answers."""
    asked = f'<p class="question">{escape(question)} <code>{escape(name)}</code></p>'
    return f'<h2 id="{escape(name)}">{escape(title)}</h2>\n{asked}'


def navigation(sections: Sequence[tuple[str, str]]) -> str:
    """Links to sections of (id, title)."""
    links = [f'<a href="#{escape(name)}">{escape(title)}</a>' for name, title in sections]
    return f'<nav aria-label="Sections">{"".join(links)}</nav>'


def inline_svg(svg: str, prefix: str, label: str) -> str:
    """The `<svg>` element alone, without document type and metadata, its ids prefixed; `label`: id of what names it."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    return body.replace("<svg", f'<svg role="img" aria-labelledby="{label}"', 1).strip()


def page(title: str, body: str) -> str:
    """A whole page around a body."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _prose(text: str) -> str:
    return "".join(f"<code>{escape(piece)}</code>" if i % 2 else escape(piece) for i, piece in enumerate(text.split("`")))


def _links(files: Mapping[str, str]) -> str:
    return "".join(f' <a href="{escape(path)}">{escape(kind)}</a>' for kind, path in files.items())
