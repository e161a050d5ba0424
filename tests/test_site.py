"""The documentation builds as a site, every link of it leads somewhere, and it fetches nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed; `make site` and `make test` do")

ROOT = Path(__file__).resolve().parents[1]
FETCHED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "object": "data", "use": "href"}
FETCHED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch"}


class Page(HTMLParser):
    """What a page links to, what it fetches, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and FETCHED_LINKS & set(given.get("rel", "").split()):
            self.fetched.append(given["href"])
        if FETCHED.get(tag) in given:
            self.fetched.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages of the site, built so that a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run([*command, "--config-file", "docs/site/mkdocs.yml"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in folder.rglob("*.html")}


def test_every_page_is_on_it(site: dict[Path, Page]) -> None:
    names = {path.stem for path in site}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= names
    assert {"readme", "security", "contributing", "changelog", "model-card", "first_look"} <= names


def test_no_code_is_on_it(site: dict[Path, Page]) -> None:
    [root] = {path.parent for path in site if path.name == "404.html"}
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert not {name for name in files if name.endswith((".py", ".pyc", ".yml", ".lock", ".ipynb"))}
    assert {"site/site.css", "figures/report.png"} <= files


def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    checked, broken = 0, []
    for page in site.values():
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data") or page.path.stem == "404":
                continue
            checked += 1
            there = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            there = there / "index.html" if there.is_dir() else there
            if not there.is_file() or (there in site and unquote(parts.fragment) not in site[there].anchors):
                broken.append(f"{page.path.name}: {link}")
    assert broken == []
    assert checked > 1000


def test_it_fetches_nothing_from_elsewhere(site: dict[Path, Page]) -> None:
    fetched = {link for page in site.values() for link in page.fetched}
    assert any(link.endswith(".css") for link in fetched)
    assert {link for link in fetched if urlsplit(link).scheme in ("http", "https") or link.startswith("//")} == set()


def test_the_extra_has_the_locked_versions() -> None:
    lock = (ROOT / "docs/site/requirements.lock").read_text().splitlines()
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["docs"]
    assert set(extra) <= set(lock)
