"""The page that ships is what its sources build, and asks nobody for anything."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

EXPLORER = Path(__file__).resolve().parents[2] / "programs" / "explorer"
FRONT, PAGE = EXPLORER / "front", EXPLORER / "page"
BUILT = ("explorer.js", "explorer.css", "LICENSES.txt")


def test_built_from_these_sources() -> None:
    digest = hashlib.sha256()
    for path in (FRONT / "build.mjs", FRONT / "package-lock.json", *sorted((FRONT / "source").iterdir())):
        digest.update(path.read_bytes())
    for name in ("explorer.js", "explorer.css"):
        assert f"from sources {digest.hexdigest()[:16]}." in (PAGE / name).read_text("utf-8"), "run `make page`"


@pytest.mark.skipif(not (FRONT / "node_modules").is_dir() or shutil.which("node") is None, reason="needs `make page`, once")
def test_built_again(tmp_path: Path) -> None:
    subprocess.run(["node", "build.mjs", "--out", str(tmp_path)], cwd=FRONT, check=True)
    for name in BUILT:
        assert (tmp_path / name).read_bytes() == (PAGE / name).read_bytes(), f"{name}: run `make page`"


def test_fetched_from_nowhere() -> None:
    for name in ("explorer.js", "explorer.css"):
        found = re.findall(r"https?://[\w.-]+", (PAGE / name).read_text("utf-8"))
        assert set(found) <= {"http://www.w3.org"}, "names of namespaces apart, the page knows no address"


def test_locked() -> None:
    text = (FRONT / "package-lock.json").read_text("utf-8")
    assert "resolved" not in text
    assert not re.search(r"https?://(?!github\.com|opencollective\.com|paypal\.me)", text)
    asked = json.loads((FRONT / "package.json").read_text("utf-8"))
    assert all(
        re.fullmatch(r"\d+\.\d+\.\d+", version)
        for kind in ("dependencies", "devDependencies")
        for version in asked[kind].values()
    )
    licences = (PAGE / "LICENSES.txt").read_text("utf-8")
    assert all(f"{name} {version} (" in licences for name, version in asked["dependencies"].items())


def test_size() -> None:
    assert (PAGE / "explorer.js").stat().st_size < 120_000
