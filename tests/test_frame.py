"""What stands around the code says the same everywhere: how to cite, how to build, what it runs on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from rrti_sgl.programs.reporting.published import load_published

ROOT = Path(__file__).resolve().parents[1]


def test_the_paper_is_cited_alike_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in cited["authors"]]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [bibtex] = re.findall(r"author +=\s*\{(.*?)\}", readme)
    assert bibtex.split(" and ") == names
    families = [name.partition(",")[0] for name in names]
    said = f"{', '.join(families[:-1])} and {families[-1]}"
    assert load_published().source["authors"] == said
    for page in ("docs/index.md", "docs/method.md"):
        assert said in " ".join((ROOT / page).read_text(encoding="utf-8").split())


def test_the_hosting_site_runs_what_the_readme_says() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec make test")
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    assert least in workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    for template in (ROOT / ".github/ISSUE_TEMPLATE").iterdir():
        assert {"name", "description", "body"} <= set(yaml.safe_load(template.read_text(encoding="utf-8")))
