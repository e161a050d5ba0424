"""What is told of each token: packed rows for the requests that ask, and SGLang's own log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rrti_sgl.fused.acceptance import Guidance, Kept
from rrti_sgl.fused.protocol import KEY, encode, record_type
from rrti_sgl.records import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What both models said at the drafted positions of a round, N rows, sequence after sequence.

    Args:
        base, reasoning: (N, V) log-probabilities, in nats.
        metrics: (N, m) every metric; empty where nobody asked.
        scores: (N,) signals of the gates.
        drafted, drawn: (N,) the two models' draws.
        begins: of each sequence, its first row.
        lengths: of each sequence, its rows.
    """

    base: torch.Tensor
    reasoning: torch.Tensor
    metrics: FloatArray
    scores: FloatArray
    drafted: IntArray
    drawn: IntArray
    begins: Sequence[int]
    lengths: Sequence[int]


def tell(request: Any, guidance: Guidance, kept: Kept, round_: Round, at: int) -> None:
    """Add the records of a request's kept tokens, onto the request itself: SGLang sends them with the tokens.

    Args:
        request: SGLang's.
        guidance: of the request; its `trace` is at least 1.
        kept: what the gate kept.
        round_: the round.
        at: the request's place among the sequences of the round.
    """
    k = guidance.steering.trace
    begin = round_.begins[at]
    rows = slice(begin, begin + kept.n)
    base, reasoning = round_.base[rows], round_.reasoning[rows]
    emitted = round_.drafted[rows].copy()
    if kept.took:
        emitted[-1] = round_.drawn[begin + kept.n - 1]
    records = np.zeros(kept.n, record_type(k))
    records["fired"], records["kept"] = kept.fired[: kept.n], not kept.relayed
    records["drafted"][0] = round_.lengths[at]
    records["base_prompt_tokens"], records["base_cached_tokens"] = guidance.base_prompt_tokens, guidance.base_cached_tokens
    records["base_token"] = round_.drafted[rows]
    asked = kept.fired[: kept.n] | kept.relayed
    records["reasoning_token"] = np.where(asked, round_.drawn[rows], -1)
    records["score"] = np.nan if kept.relayed else round_.scores[rows]
    ids = torch.from_numpy(emitted)[:, None].to(base.device)
    for side, logprobs in (("base", base), ("reasoning", reasoning)):
        records[f"{side}_logprob"] = logprobs.gather(1, ids)[:, 0].cpu().numpy()
        values, places = logprobs.topk(k, -1)
        records[f"{side}_ids"], records[f"{side}_logprobs"] = places.cpu().numpy(), values.cpu().numpy()
    records["metrics"] = round_.metrics[rows]
    if request.customized_info is None:
        request.customized_info = {}
    request.customized_info.setdefault(KEY, []).extend(map(encode, records))


def spoken(kept: Kept, round_: Round, at: int, width: int) -> torch.Tensor:
    """The guided model's own distributions at a request's positions: the reasoning model's where it took over.

    Returns:
        (width, V) log-probabilities; the rows after the kept ones are the base model's.
    """
    begin, length = round_.begins[at], round_.lengths[at]
    rows = round_.base.new_zeros((width, round_.base.shape[-1]))
    rows[:length] = round_.base[begin : begin + length]
    theirs = [index for index in range(kept.n) if kept.fired[index] or kept.relayed]
    if theirs:
        rows[theirs] = round_.reasoning[[begin + index for index in theirs]]
    return rows
