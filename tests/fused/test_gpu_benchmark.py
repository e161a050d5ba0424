"""The benchmarks of decoding: what they compare and print, and that the one for a GPU goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from decoding_rows import Row, side_by_side
from gpu import Parts, compared, markdown


def test_sequences_are_the_same_part_where_little_was_decided_or_differ() -> None:
    ours = {"ids": [1, 2, 3], "margins": [5.0, 0.01, 5.0]}
    other = {"ids": [1, 4, 3], "margins": [5.0, 0.5, 5.0]}
    far = {"ids": [1, 2, 4], "margins": [5.0, 0.01, 5.0]}
    shorter = {"ids": [1, 2], "margins": [5.0, 0.01]}
    found = compared([ours, ours, ours, ours], [ours, other, far, shorter])
    assert found == {"same": 1, "part within tolerance": 1, "differ": 2}


def test_what_failed_is_tried_again_and_what_is_done_is_not(tmp_path: Path) -> None:
    path, log = tmp_path / "build" / "gpu.json", tmp_path / "log"
    log.write_text("out of memory\n")
    first = Parts(path, "a and b", 60)
    first.do("good", lambda: {"tokens_per_s": 5.0, "takeover_rate": None})
    first.do("bad", lambda: 1 / 0, log)
    assert json.loads(path.read_text())["bad"] == {"failed": "ZeroDivisionError: division by zero", "log": ["out of memory"]}
    assert "bad failed: ZeroDivisionError" in markdown(first, [1])
    again = Parts(path, "a and b", 60)
    again.do("good", lambda: pytest.fail("it is done"))
    again.do("bad", lambda: 3)
    assert (again.missing("good", "bad"), again.result("bad")) == ([], 3)
    assert Parts(path, "others", 60).missing("good") == ["good"]
    late = Parts(path, "others", -1)
    late.do("good", lambda: pytest.fail("there is no time"))
    assert late.done["good"]["failed"].startswith("not begun")


def test_methods_of_a_cell_stand_side_by_side_and_what_was_not_measured_is_left_empty() -> None:
    measured = {("fused", "8"): 900.0, ("fused", "16/pace"): 1100.0, ("chunked", "12"): 500.0, ("base", ""): 1000.0}
    rows = [
        Row("decoding", "bundled", method, 32, 0.08, 1, 1, drafts, 0.08, speed, 9, 0.2, 0, 0, 0, 0, 0, 1)
        for (method, drafts), speed in measured.items()
    ]
    *_, line = side_by_side(rows).splitlines()
    assert line == "| bundled | 1 | .08 | 32 | 1000 | .90 | 1.10 | .50 |  |  |  | .20 / .20 / .20 |"
