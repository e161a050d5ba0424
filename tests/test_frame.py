"""What stands around the code says the same everywhere: how to cite, how to build, what it runs on."""

from __future__ import annotations

import re
import runpy
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import setuptools
import yaml

from rrti_sgl import __version__
from rrti_sgl.programs.reporting.published import load_published

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_paper_is_cited_alike_everywhere() -> None:
    cited = CITATION["preferred-citation"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in cited["authors"]]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [bibtex] = re.findall(r"author +=\s*\{(.*?)\}", readme)
    assert bibtex.split(" and ") == names
    families = [name.partition(",")[0] for name in names]
    said = f"{', '.join(families[:-1])} and {families[-1]}"
    assert load_published().source["authors"] == said
    for page in ("docs/index.md", "docs/method.md"):
        assert said in " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_one_version_and_one_date_everywhere() -> None:
    changes = re.findall(r"^## \[(\d[\d.]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changes[0] == (CITATION["version"], str(CITATION["date-released"]))
    assert CITATION["version"] == __version__


def test_the_repository_is_named_alike() -> None:
    """Where nobody knows its address yet, nothing says one."""
    assert CITATION.get("repository-code") == PROJECT["urls"].get("Repository")


@pytest.mark.parametrize("repository", [None, "https://code.example/rrti-sgl"])
def test_links_of_the_description_lead_somewhere(
    repository: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("setup.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    if repository:
        text = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
        text = text.replace("[project.urls]\n", f'[project.urls]\nRepository = "{repository}"\n')
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(tmp_path / "setup.py"))
    found = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", given["long_description"])
    assert [link for _, link in found if not link.startswith(("https://", "#"))] == []
    pictures = [link for picture, link in found if picture]
    if repository:
        assert ("", f"{repository}/blob/main/docs/howto.md#start-the-servers") in found
        assert len(pictures) == (ROOT / "README.md").read_text(encoding="utf-8").count("![")
        assert all(link.startswith(f"{repository}/raw/main/docs/") for link in pictures)
    else:
        assert pictures == []


def test_the_hosting_site_runs_what_the_readme_says() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
    tried = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tried[0] == PROJECT["requires-python"].removeprefix(">=")
    assert {f"Programming Language :: Python :: {version}" for version in tried} <= set(PROJECT["classifiers"])
    for template in (ROOT / ".github/ISSUE_TEMPLATE").iterdir():
        assert {"name", "description", "body"} <= set(yaml.safe_load(template.read_text(encoding="utf-8")))
