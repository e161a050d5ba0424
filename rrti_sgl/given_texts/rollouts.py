"""Rollouts that trainers of language models write down: verl, TRL and slime.

verl writes JSON Lines with `input`, `output` and the gold answer `gts` (`trainer.rollout_data_dir`), TRL's GRPO trainer
Parquet with `prompt` and `completion`, as texts or as conversations (`log_completions`), and slime a `.pt` file of samples
with token ids (`--save-debug-rollout-data`; miles, too). How a rollout ended only slime says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.rows import Complaints, Place, Row, is_list, rows_of

_ENDS = {"completed": "stop", "truncated": "length"}  # of slime's samples; of others nothing is known


def verl(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of each rollout."""
    for place, row in rows_of(path, complaints):
        yield place, {**row, "prompt": row.get("input"), "text": row.get("output"), "answer": row.get("gts")}


def trl(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of each completion; of a conversation the turns before it, and the last turn's text."""
    for place, row in rows_of(path, complaints):
        prompt: Any = row.get("prompt")
        completion: Any = row.get("completion")
        chat = is_list(prompt)
        if is_list(completion):
            turns = [turn for turn in completion if isinstance(turn, Mapping)]
            if len(completion) != 1 or len(turns) != 1:
                complaints.add(place, f"the completion has {len(completion)} turns; one can be scored")
                continue
            completion = turns[0].get("content")
        shown = {"conversation": prompt, "prompt": None} if chat else {"prompt": prompt}
        yield place, {**row, **shown, "text": completion}


def slime(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of each sample; the continuation is its last `response_length` tokens.

    Raises:
        UsageError: no such file; what it holds beside numbers and texts is not loaded.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        samples = list(content["samples"])
    except Exception as error:  # torch raises what it meets
        raise UsageError(
            f"{path} is no file of rollouts of slime: {str(error).splitlines()[0] if str(error) else error!r}.",
            "Name a file that --save-debug-rollout-data wrote, without objects of its own in `metadata`.",
        ) from None
    for number, sample in enumerate(samples, 1):
        place = f"{path}, sample {number}"
        response = _response(sample) if isinstance(sample, Mapping) else None
        if response is None:
            complaints.add(place, "the sample has no tokens of a response")
            continue
        prompt = sample.get("prompt")
        yield (
            place,
            {
                **sample,
                "token_ids": response,
                "prompt": prompt if isinstance(prompt, str) else None,
                "conversation": prompt if is_list(prompt) else None,
                "answer": sample.get("label"),
                "finish_reason": _ENDS.get(str(sample.get("status")), "unknown"),
            },
        )


def _response(sample: Mapping[str, Any]) -> Any:
    """The last `response_length` tokens of a sample; None where they are not there."""
    tokens: Any = sample.get("tokens")
    length: Any = sample.get("response_length")
    return tokens[-length:] if is_list(tokens) and type(length) is int and 0 < length <= len(tokens) else None


def kind_of_rollouts(path: Path, first: Row | None) -> str | None:
    """Whose rollouts a file holds, by its ending and its first row; None: nobody's."""
    if path.suffix == ".pt":
        return "slime"
    if first is not None and {"input", "output", "step"} <= set(first) and isinstance(first["output"], str):
        return "verl"
    return "trl" if first is not None and {"prompt", "completion", "step", "advantage"} <= set(first) else None
