"""What the site takes from outside of docs/: pages that lie elsewhere, the notebook, and the way to every other file.

Pages link to each other, and to files, as they lie in the repository. On the site a link leads to the page; to a file that
is no page, into the repository where pyproject.toml names one, and else it is text.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "rrti_sgl/tinypair/MODEL_CARD.md": "model-card.md",
    "docs/notebooks/first_look.ipynb": "notebooks/first_look.md",
}
_PLACES = {page: source for source, page in OUTSIDE.items()}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> None:
    """The repository's address, where there is one; a page that has no place stands at the end of the guide."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.repo_url = project["urls"].get("Repository")
    placed = str(config.nav)
    [guide] = [section["Guide"] for section in config.nav if "Guide" in section]
    guide += [page.name for page in sorted((ROOT / "docs").glob("*.md")) if f"'{page.name}'" not in placed]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages from elsewhere."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_notebook(text) if source.endswith(".ipynb") else text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository as links of the site."""
    own = page.file.src_uri
    folder = posixpath.dirname(_PLACES.get(own, f"docs/{own}"))

    def led(link: re.Match[str]) -> str:
        picture, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        place = posixpath.normpath(posixpath.join(folder, target))
        if not (ROOT / place).exists():
            return link[0]
        there = OUTSIDE.get(place, place.removeprefix("docs/"))
        if files.get_file_from_path(there):
            return f"{picture}[{text}]({os.path.relpath(there, posixpath.dirname(own) or '.')}{anchor})"
        return f"{picture}[{text}]({config.repo_url}/blob/main/{place}{anchor})" if config.repo_url else text

    return _LINK.sub(led, markdown)


def _notebook(text: str) -> str:
    """A notebook with what it shows, as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            shown = output.get("data", {"text/plain": output.get("text", "")})
            html, plain = ("".join(shown.get(kind, "")) for kind in ("text/html", "text/plain"))
            parts.append(
                f'<div class="shown" data-md-color-scheme="default">\n{html}\n</div>' if html else f"```text\n{plain}\n```"
            )
    return "\n\n".join(parts)
