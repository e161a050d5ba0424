"""A store that is cut, or has one byte changed: commands work, or say in one line what is wrong; none hangs or crashes.

DuckDB reads what is damaged, so the commands are in a process of their own, which has a limit of time.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import make_hostile_store, sample_of

COMMANDS = (
    ("db", "info", "STORE"),
    ("sql", "SELECT count(*), sum(hash(t)) FROM tokens t", "--db", "STORE"),
    ("stats", "accuracy", "--db", "STORE"),
    ("show", "SAMPLE", "--db", "STORE"),
)
CODES = (0, 8)  # a store that cannot be used
CUTS, FLIPS = 40, 60
FAST = 3  # of each


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hostile_store(tmp_path_factory.mktemp("whole") / "traces.duckdb")


@pytest.fixture(scope="module")
def sample(whole: Path) -> str:
    return sample_of(whole, "run-2")


def damages() -> Iterator[tuple[str, float, int]]:
    """(kind, place as a share of the file, mask of the bits that change)."""
    draw = random.Random(7)
    yield from (("cut", (number + draw.random()) / CUTS, 0) for number in range(CUTS))
    yield from (("flip", (number + draw.random()) / FLIPS, 1 << draw.randrange(8)) for number in range(FLIPS))


def _marked() -> list[object]:
    every = list(damages())
    fast = {*range(0, CUTS, CUTS // FAST), *range(CUTS, CUTS + FLIPS, FLIPS // FAST)}
    return [pytest.param(*one, marks=() if at in fast else pytest.mark.slow) for at, one in enumerate(every)]


@pytest.mark.parametrize(("kind", "share", "mask"), _marked())
def test_a_damaged_store(tmp_path: Path, whole: Path, sample: str, kind: str, share: float, mask: int) -> None:
    content = bytearray(whole.read_bytes())
    place = int(share * len(content))
    if kind == "cut":
        del content[place:]
    else:
        content[place] ^= mask
    store = tmp_path / "traces.duckdb"
    store.write_bytes(content)
    named = {"STORE": str(store), "SAMPLE": sample}
    commands = [[named.get(word, word) for word in command] for command in COMMANDS]
    code = f"""
import sys
from rrti_sgl.cli import main
for arguments in {commands!r}:
    print("ended with", main.run(arguments), file=sys.stderr, flush=True)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-1000:]
    assert "Traceback" not in done.stderr
    *told, rest = re.split(r"ended with (\d+)\n", done.stderr)
    assert rest == ""
    assert len(told) == 2 * len(COMMANDS)
    for said, ended in zip(told[::2], told[1::2], strict=True):
        assert int(ended) in CODES, done.stderr
        if ended != "0":
            assert re.fullmatch(r"error: \S.+\n( {7}\S.*\n)?", said), said
