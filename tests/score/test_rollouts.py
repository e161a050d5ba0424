"""Rollouts of trainers: verl's JSON Lines, TRL's Parquet and slime's samples, as they write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import read_texts
from rrti_sgl.given_texts.reading import detect
from rrti_sgl.rows import Complaints


def test_verl(tmp_path: Path) -> None:
    row = {"input": "user\n1 + 1?\nassistant\n", "output": " 2", "gts": "2", "score": 1.0, "step": 3, "acc": True}
    path = tmp_path / "3.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert detect(path) == "verl"
    [text] = read_texts(path)
    assert (text.base_prompt, text.continuation, text.answer, text.finish_reason) == (row["input"], " 2", "2", None)


@pytest.mark.parametrize("chat", [False, True])
def test_trl(tmp_path: Path, chat: bool) -> None:
    prompt = [{"role": "user", "content": "1 + 1?"}] if chat else "1 + 1?"
    completion = [{"role": "assistant", "content": " 2"}] if chat else " 2"
    path = tmp_path / "completions_00003.parquet"
    pq.write_table(
        pa.Table.from_pylist([{"step": 3, "prompt": prompt, "completion": completion, "r": 1.0, "advantage": 0.5}]), path
    )
    assert detect(path) == "trl"
    [text] = read_texts(path)
    assert (text.question, text.continuation) == ("1 + 1?", " 2")
    assert text.conversation == ((("user", "1 + 1?"),) if chat else None)


def test_a_completion_of_several_turns_is_named(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("assistant", "tool", "assistant")]
    rows = [{"step": 1, "prompt": [turns[0] | {"role": "user"}], "completion": turns, "advantage": 0.0}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    with pytest.raises(UsageError, match="the completion has 3 turns"):
        read_texts(tmp_path / "c.parquet")


def sample(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": "1 + 1?",
        "tokens": [5, 6, 7, 8, 9],
        "response": "ab",
        "response_length": 2,
        "label": "2",
        "reward": 1.0,
        "status": "completed",
        "rollout_log_probs": [-0.5, -0.25],
        **changes,
    }


def test_slime(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "1 + 1?"}]
    samples = [sample(), sample(prompt=chat, status="truncated", response_length=3), sample(status="aborted")]
    torch.save({"rollout_id": 0, "samples": samples}, tmp_path / "rollout_0.pt")
    assert detect(tmp_path / "rollout_0.pt") == "slime"
    texts = read_texts(tmp_path / "rollout_0.pt")
    assert [text.continuation for text in texts] == [(8, 9), (7, 8, 9), (8, 9)]  # the last tokens are the response
    assert [text.finish_reason for text in texts] == ["stop", "length", "unknown"]
    assert [text.answer for text in texts] == ["2"] * 3
    assert (texts[0].base_prompt, texts[1].conversation) == ("1 + 1?", (("user", "1 + 1?"),))
    assert texts[1].place == f"{tmp_path / 'rollout_0.pt'}, sample 2"


class Planted:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_file_of_slime_runs_no_code_and_says_what_is_wrong(tmp_path: Path) -> None:
    torch.save({"samples": [sample(metadata=Planted(tmp_path / "ran"))]}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="is no file of rollouts of slime"):
        read_texts(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "b.pt").write_bytes(b"no tensor")
    with pytest.raises(UsageError, match="is no file of rollouts of slime"):
        read_texts(tmp_path / "b.pt")
    torch.save({"samples": 7}, tmp_path / "c.pt")
    with pytest.raises(UsageError, match="is no file of rollouts of slime"):
        read_texts(tmp_path / "c.pt")
    wrong = [{"response_length": length} for length in (0, -1, 6, "2", None)] + [{"tokens": ["a"] * 3}]
    torch.save({"samples": [sample(), *(sample(**each) for each in wrong)]}, tmp_path / "d.pt")
    skipped = Complaints()
    assert len(read_texts(tmp_path / "d.pt", skipped=skipped)) == 1
    assert len(skipped) == len(wrong)
