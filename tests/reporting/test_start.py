"""What a command does not load: a question about a store is answered before one looks up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ASK = """
import sys
from rrti_sgl.cli.main import main
sys.argv = ["rrti", *sys.argv[1:]]
try:
    main()
except SystemExit:
    print(*(name for name, module in sys.modules.items() if module is not None))
"""
_SLOW = {
    *("torch", "sglang", "transformers", "pandas", "polars", "scipy", "sklearn", "matplotlib", "sqlalchemy", "tabulate"),
    *("httpx", "asyncio"),
}


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (["sql", "SELECT 6 * 7 AS answer"], "42"),
        (["stats", "accuracy"], "guided"),
        (["runs"], "guided-1"),
        (["samples", "--wrong"], "guided"),
    ],
    ids=["sql", "stats", "runs", "samples"],
)
def test_a_question_loads_no_more_than_it_needs(tiny_path: Path, typed: list[str], answer: str) -> None:
    command = [sys.executable, "-c", _ASK, *typed, "--db", str(tiny_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = done.stdout.split()
    assert answer in said
    loaded = set(said)
    assert "duckdb" in loaded
    assert not loaded & _SLOW
    if typed[0] == "sql":
        assert "pyarrow.compute" not in loaded
