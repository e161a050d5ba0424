"""The stages of `python -m natural_pair`: each leaves its result, and what is there is not made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from natural_pair import __main__ as making
from natural_pair.adapter import read_adapter


@pytest.fixture
def made(base: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was trained and sampled, in order; samples of the round are two right solutions."""
    calls: list[str] = []
    train = making.train

    def counted(*args: Any) -> Any:
        calls.append(f"train {args[4].stem}")
        return train(*args)

    monkeypatch.setattr(making, "smollm2", lambda: base)
    monkeypatch.setattr(making, "train", counted)
    monkeypatch.setattr(making, "sample", lambda *args: calls.append(f"sample {args[4].name}"))
    monkeypatch.setattr(making, "right_solutions", lambda *args: ([("ann has 2", "first"), ("bea has 3", "then")], 0.5))
    return calls


def test_a_stopped_making_goes_on_with_the_first_stage_that_is_missing(made: list[str], tmp_path: Path) -> None:
    def from_scratch() -> None:
        again = making.Making(tmp_path, making.TINY, lambda *report: None)
        again.problem_files()
        again.from_scratch()

    from_scratch()
    assert made == ["train supervised", "sample round-1.duckdb", "train round-1"]
    first = read_adapter(tmp_path / "round-1.safetensors")
    assert {path.stem for path in (tmp_path / "problems").iterdir()} == {"calibration", "heldout", "unseen", "round-1"}
    assert json.loads((tmp_path / "round-1.json").read_text())["samples_right"] == 0.5

    from_scratch()
    assert len(made) == 3
    for lost in ("round-1.safetensors", "round-1.pt"):
        (tmp_path / lost).unlink()
    from_scratch()
    assert made[3:] == ["sample round-1.duckdb", "train round-1"]
    assert all(torch.equal(value, first[name]) for name, value in read_adapter(tmp_path / "round-1.safetensors").items())
    assert (tmp_path / "reasoning" / "model.safetensors").is_file()
    assert (tmp_path / "base").is_dir()
