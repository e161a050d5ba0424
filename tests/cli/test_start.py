"""What a command does not load: a question in SQL is answered before one looks up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rrti_sgl.db.store import Store

_ASK = """
import sys
from rrti_sgl.cli.main import app
sys.argv = ["rrti", "sql", "SELECT 6 * 7 AS answer", "--db", {path!r}]
try:
    app()
except SystemExit:
    print(*sys.modules)
"""


def test_sql_loads_no_more_than_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    Store.open(path).close()
    done = subprocess.run([sys.executable, "-c", _ASK.format(path=str(path))], check=True, capture_output=True, text=True)
    assert "42" in done.stdout.split()
    loaded = set(done.stdout.split())
    assert "duckdb" in loaded
    slow = {
        "torch",
        "sglang",
        "transformers",
        "pandas",
        "polars",
        "scipy",
        "sklearn",
        "matplotlib",
        "sqlalchemy",
        "tabulate",
    }
    assert not loaded & (slow | {"httpx", "pyarrow.compute", "asyncio"})
