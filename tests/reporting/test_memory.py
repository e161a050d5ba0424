"""What a section of a report has freed goes back to the system."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

from rrti_sgl.programs.reporting.report import give_back_memory


def held() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="there is no such call elsewhere")
def test_gaps_between_arrays_are_given_back() -> None:
    """Of arrays too small for a mapping of their own every tenth stays: the C library keeps the gaps to itself."""
    arrays = [np.ones(8_000) for _ in range(2_000)]
    kept = arrays[::10]
    del arrays
    gc.collect()
    before = held()
    give_back_memory()
    assert before - held() > 60_000_000
    assert sum(each.sum() for each in kept) == 8_000 * 200
