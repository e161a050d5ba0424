"""The metrics of `rrti_sgl.science.metrics` over whole vocabularies, all rows of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch

_ROWS_AT_ONCE = 256  # bounds the copies: 156 MB each at 151,936 entries


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of both models at the same rows, (n, V) float32 each, in nats."""

    base: torch.Tensor
    reasoning: torch.Tensor

    @cached_property
    def p_base(self) -> torch.Tensor:
        """(n, V)"""
        return self.base.exp()

    @cached_property
    def p_reasoning(self) -> torch.Tensor:
        """(n, V)"""
        return self.reasoning.exp()


def expectation(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """sum p * values over the last dimension, with 0 times anything 0: (..., V) -> (...)."""
    return torch.where(p > 0, p * values, 0.0).sum(-1)


def _jensen_shannon(rows: LogProbs) -> torch.Tensor:
    mean = torch.logaddexp(rows.base, rows.reasoning) - math.log(2.0)
    of_base = expectation(rows.p_base, rows.base - mean)
    return ((of_base + expectation(rows.p_reasoning, rows.reasoning - mean)) / 2).clamp(0.0, math.log(2.0))


MEASURES: Final[dict[str, Callable[[LogProbs], torch.Tensor]]] = {
    "ce": lambda rows: -expectation(rows.p_base, rows.reasoning),
    "kl": lambda rows: expectation(rows.p_reasoning, rows.reasoning - rows.base).clamp(min=0.0),
    "reverse_kl": lambda rows: expectation(rows.p_base, rows.base - rows.reasoning).clamp(min=0.0),
    "js": _jensen_shannon,
    "tv": lambda rows: ((rows.p_base - rows.p_reasoning).abs().sum(-1) / 2).clamp(max=1.0),
    "entropy_base": lambda rows: -expectation(rows.p_base, rows.base),
    "entropy_reasoning": lambda rows: -expectation(rows.p_reasoning, rows.reasoning),
}
"""By the names of `METRICS`: (n, V) log-probabilities -> (n,)."""


def measure(base: torch.Tensor, reasoning: torch.Tensor, metrics: Sequence[str]) -> torch.Tensor:
    """Metrics of every row.

    Args:
        base, reasoning: (n, V) log-probabilities, in nats.
        metrics: by name, m of them.

    Returns:
        (n, m) float32, on the same device.
    """
    blocks = [slice(at, at + _ROWS_AT_ONCE) for at in range(0, len(base), _ROWS_AT_ONCE)]
    rows = [LogProbs(base[block], reasoning[block]) for block in blocks]
    return torch.cat([torch.stack([MEASURES[name](row) for name in metrics], dim=-1) for row in rows])


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Shannon entropy of each row, (n, V) logits -> (n,), in nats."""
    logprobs = torch.log_softmax(logits.float(), -1)
    return -expectation(logprobs.exp(), logprobs)
