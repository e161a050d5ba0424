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


def tell(traced: Sequence[tuple[Any, Guidance, Kept, int]], round_: Round) -> None:
    """Add the records of kept tokens onto their requests: SGLang sends them with the tokens.

    Args:
        traced: requests of SGLang's that ask for it, each with its guidance, what its gate kept, and its place among the
            sequences of the round.
        round_: the round.
    """
    for k in {guidance.steering.trace for _, guidance, _, _ in traced}:
        _tell([each for each in traced if each[1].steering.trace == k], round_, k)


def _tell(traced: Sequence[tuple[Any, Guidance, Kept, int]], round_: Round, k: int) -> None:
    """Those with lists of one length, in one pass over the rows of all: calls cost more than their numbers."""
    rows = np.concatenate([np.arange(kept.n) + round_.begins[place] for _, _, kept, place in traced])
    ends = np.cumsum([kept.n for _, _, kept, _ in traced])
    firsts = np.concatenate([[0], ends[:-1]])
    took = np.array([kept.took for _, _, kept, _ in traced])
    fired = np.concatenate([kept.fired[: kept.n] for _, _, kept, _ in traced])
    relayed = np.repeat([kept.relayed for _, _, kept, _ in traced], ends - firsts)
    emitted = round_.drafted[rows]
    emitted[ends[took] - 1] = round_.drawn[rows[ends[took] - 1]]
    records = np.zeros(len(rows), record_type(k))
    records["fired"], records["kept"] = fired, ~relayed
    records["drafted"][firsts] = [round_.lengths[place] for _, _, _, place in traced]
    for name in ("base_prompt_tokens", "base_cached_tokens"):
        records[name] = np.repeat([getattr(guidance, name) for _, guidance, _, _ in traced], ends - firsts)
    records["base_token"] = round_.drafted[rows]
    records["reasoning_token"] = np.where(fired | relayed, round_.drawn[rows], -1)
    records["score"] = np.where(relayed, np.nan, round_.scores[rows])
    records["metrics"] = round_.metrics[rows]
    at, ids = (torch.from_numpy(these).to(round_.base.device) for these in (rows, emitted))
    for side, logprobs in (("base", round_.base), ("reasoning", round_.reasoning)):
        records[f"{side}_logprob"] = logprobs[at, ids].cpu().numpy()
        if 2 * len(rows) > len(logprobs):  # mostly all of them: no copy over the whole vocabulary
            values, places = (found[at] for found in logprobs.topk(k, -1))
        else:
            values, places = logprobs[at].topk(k, -1)
        records[f"{side}_ids"], records[f"{side}_logprobs"] = places.cpu().numpy(), values.cpu().numpy()
    entries = encode(records)
    for (request, _, _, _), first, end in zip(traced, firsts, ends, strict=True):
        if request.customized_info is None:
            request.customized_info = {}
        request.customized_info.setdefault(KEY, []).extend(entries[first:end])
