"""Draws of a batch, as SGLang's own sampler makes them: temperature, then top-k, top-p and min-p on the sorted rows."""

from __future__ import annotations

from typing import Any

import torch


def draw(logits: torch.Tensor, sampling: Any, rows: torch.Tensor) -> torch.Tensor:
    """One token of each row.

    Args:
        logits: (n, V).
        sampling: SGLang's `SamplingBatchInfo` of the batch.
        rows: (n,) which sequence of the batch each row belongs to.

    Returns:
        (n,) int64.
    """
    if sampling.is_all_greedy:
        return logits.argmax(-1)

    def of_rows(values: torch.Tensor) -> torch.Tensor:
        return values.flatten()[rows][:, None]

    probabilities = torch.softmax(logits.float() / of_rows(sampling.temperatures), -1)
    if sampling.need_top_k_sampling or sampling.need_top_p_sampling or sampling.need_min_p_sampling:
        probabilities, order = probabilities.sort(-1, descending=True)
        before = probabilities.cumsum(-1) - probabilities
        ranks = torch.arange(logits.shape[-1], device=logits.device)
        dropped = (ranks[None] >= of_rows(sampling.top_ks)) | (before > of_rows(sampling.top_ps))
        dropped |= probabilities < probabilities[:, :1] * of_rows(sampling.min_ps)
        places = torch.multinomial(probabilities.masked_fill(dropped, 0.0), 1)
        return order.gather(-1, places)[:, 0]
    return torch.multinomial(probabilities, 1)[:, 0]
