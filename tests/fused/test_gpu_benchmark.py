"""The benchmark that is meant for a GPU: what it compares, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
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
