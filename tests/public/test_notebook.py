"""The notebook runs from its first cell to its last, on the real servers of the bundled pair, and is kept with outputs."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from rrti_sgl.serving.server import ServedPair

PATH = Path(__file__).resolve().parents[2] / "docs/notebooks/first_look.ipynb"


def outputs(notebook: Any) -> list[list[str]]:
    """Kinds of the outputs of each cell of code: no warnings of libraries, and printed text once in however many pieces."""
    cells = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = [[each["output_type"] for each in outputs if each.get("name") != "stderr"] for outputs in cells]
    return [[kind for kind, _ in groupby(kinds)] for kinds in shown]


def test_the_notebook_is_kept_with_what_it_shows() -> None:
    notebook = json.loads(PATH.read_text(encoding="utf-8"))
    nbformat.validate(nbformat.from_dict(notebook))
    shown = [
        each["data"]
        for cell in notebook["cells"]
        for each in cell.get("outputs", [])
        if each["output_type"] == "execute_result"
    ]
    assert sum("text/html" in data for data in shown) >= 5
    assert "line-through" in json.dumps(shown)


def check(notebook: Any, folder: Path) -> None:
    """Run again, its cells show what they are kept with."""
    kept = outputs(notebook)
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    assert outputs(notebook) == kept


@pytest.mark.server
@pytest.mark.filterwarnings("ignore")  # of the kernel's and the client's libraries
def test_the_notebook_runs(served_pair: ServedPair, tmp_path: Path) -> None:
    """On servers that run already: its first line of code starts some."""
    notebook = nbformat.read(PATH, as_version=4)
    urls = f"{served_pair.base.url!r}, {served_pair.reasoning.url!r}"
    found = f"import rrti_sgl\nrrti_sgl.serve = lambda models: rrti_sgl.connect({urls})"
    notebook["cells"].insert(0, nbformat.v4.new_code_cell(found))
    check(notebook, tmp_path)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_starts_its_servers(tmp_path: Path) -> None:
    check(nbformat.read(PATH, as_version=4), tmp_path)
