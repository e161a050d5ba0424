"""SGLang's `return_logprob` of a fused server: of the guided model, so at a takeover those of the reasoning model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rrti_sgl.fused.acceptance import Kept
from rrti_sgl.fused.tracing import Round


def _spoken(kept: Kept, round_: Round, at: int, width: int) -> torch.Tensor:
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


def fill(
    batch: Any, active: Sequence[int], kept: Sequence[Kept | None], round_: Round, out: torch.Tensor, output: Any
) -> None:
    """Put those of a round where SGLang looks for them.

    Args:
        batch: SGLang's.
        active: the sequences that take part in the round.
        kept: of each of them; None where its gate failed.
        round_: the round.
        out: (batch, drafts) tokens that go out.
        output: SGLang's of the round.
    """
    size, n = out.shape
    values = torch.zeros((size, n))
    tops: list[list[torch.Tensor]] = [[torch.empty(0)] * (size * n) for _ in range(2)]
    named: list[Any] = [[torch.empty(0)] * (size * n), [[]] * (size * n)]
    for place, index in enumerate(active):
        keeps = kept[place]
        if keeps is None or not batch.reqs[index].return_logprob:
            continue
        rows = _spoken(keeps, round_, place, n)
        values[index] = rows.gather(1, out[index][:, None])[:, 0].cpu()
        if k := batch.reqs[index].logprob.top_logprobs_num:
            top = rows.topk(min(k, rows.shape[-1]), -1)
            for step in range(n):
                tops[0][index * n + step], tops[1][index * n + step] = top.values[step], top.indices[step]
        if ids := batch.reqs[index].logprob.token_ids_logprob:
            for step in range(n):
                named[0][index * n + step], named[1][index * n + step] = rows[step, ids], ids
    output.next_token_logprobs = values
    output.next_token_top_logprobs_val, output.next_token_top_logprobs_idx = tops
    output.next_token_token_ids_logprobs_val, output.next_token_token_ids_logprobs_idx = named


def fill_first(batch: Any, index: int, kept: Kept, round_: Round, place: int, token: int, output: Any) -> None:
    """The same for a first token, in place of what SGLang's sampler says of a draw of its own."""
    request = batch.reqs[index]
    if not request.return_logprob:
        return
    [row] = _spoken(kept, round_, place, 1)
    output.next_token_logprobs[index] = row[token]
    if k := request.logprob.top_logprobs_num:
        top = row.topk(min(k, len(row)))
        output.next_token_top_logprobs_val[index] = top.values
        output.next_token_top_logprobs_idx[index] = top.indices
    if ids := request.logprob.token_ids_logprob:
        output.next_token_token_ids_logprobs_val[index] = row[ids]
