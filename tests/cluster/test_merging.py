"""How many parts the driver merges at once: as many as memory is bounded for, and in their order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db.folders import Manifest
from rrti_sgl.programs.cluster import merging


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], []),
        ([0] * 450, [200, 200, 50]),
        ([400_000, 400_000, 400_000, 100], [2, 2]),
        ([5_000_000, 3, 5_000_000], [1, 1, 1]),  # a part is taken whole
        ([600_000, 400_000, 1], [2, 1]),
    ],
    ids=["none", "many small", "some", "large", "exactly full"],
)
def test_parts_of_one_transaction_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: list[int], expected: list[int]
) -> None:
    place = tmp_path / "run"
    for number, n_tokens in enumerate(tokens):
        part = place / f"w-{number:06d}"
        part.mkdir(parents=True)
        manifest = Manifest("run", "0004", 1, n_tokens, {}, part.name)
        (part / "manifest.json").write_text(json.dumps(asdict(manifest)))
    merged: list[list[str]] = []

    def attach(store: Any, parts: Sequence[Path]) -> None:
        merged.append([part.name for part in parts])

    monkeypatch.setattr(merging, "attach_parts", attach)
    merging.SharedParts(tmp_path, "run").merge(None)  # type: ignore[arg-type]
    assert [len(parts) for parts in merged] == expected
    assert [name for parts in merged for name in parts] == [f"w-{number:06d}" for number in range(len(tokens))]
    assert not list(place.glob("*"))  # what is in the store is gone from the folder
