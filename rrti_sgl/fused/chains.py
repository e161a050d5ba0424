"""Drafts of any lengths as equally long ones, which is what attention back ends of GPUs verify."""

from __future__ import annotations

import torch


def fill(
    fed: torch.Tensor, before: torch.Tensor, counts: torch.Tensor, n: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Drafts of any lengths as n tokens each; what is put behind them is written into slots that are written again.

    Args:
        fed: (N,) tokens, sequence after sequence.
        before: (m,) tokens of each sequence before them.
        counts: (m,) of them, at most n each.
        n: tokens of each sequence that there are to be.

    Returns:
        (m * n,) tokens and their positions, and (N,) the places of the given ones among them.
    """
    steps = torch.arange(n, device=fed.device)
    places = torch.nonzero((steps[None] < counts[:, None]).flatten())[:, 0]
    filled = torch.zeros(len(counts) * n, dtype=fed.dtype, device=fed.device)
    filled[places] = fed
    return filled, (before[:, None] + steps[None]).flatten(), places
