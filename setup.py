"""The README as a package index shows it, where a link into the repository leads nowhere. All else is in pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def absolute(link: re.Match[str]) -> str:
    """The link into the repository that pyproject.toml names; without one its text, and of a picture nothing."""
    picture, text, path = link.groups()
    if repository := PROJECT["urls"].get("Repository"):
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/main/{path})"
    return "" if picture else text


README = (ROOT / "README.md").read_text(encoding="utf-8")
setup(long_description=LINK.sub(absolute, README), long_description_content_type="text/markdown")
