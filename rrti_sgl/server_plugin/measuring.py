"""Entropy, log-normaliser and named log-probabilities of logits, collected over the forward passes of a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rrti_sgl.server_plugin.protocol import COLUMNS, Answer, Question

_NEGLIGIBLE = -80.0  # nats below the largest logit: e^-80 is nothing in float32
_ROWS_AT_ONCE = 64  # bounds the float32 copies: 39 MB each at 151,936 entries


def measure(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Exact numbers of each row: logits (n, V) and ids (n, m) int64 on one device -> (n, 2 + m) float32 there, in nats.

    Columns as in `protocol.Answer`. Everything is relative to the row's largest logit, so that float32 loses nothing to a
    common offset. `ids` must lie in 0..V-1: a GPU cannot report a wrong one without ending the process.
    """
    blocks = [slice(at, at + _ROWS_AT_ONCE) for at in range(0, len(logits), _ROWS_AT_ONCE)]
    return torch.cat([_measure(logits[block], ids[block]) for block in blocks])


def _measure(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    largest = logits.amax(dim=-1, keepdim=True).float()
    shifted = logits.float() - largest
    named = shifted.gather(1, ids)
    shifted.clamp_(min=_NEGLIGIBLE)  # 0 log 0 is 0
    weights = shifted.exp()
    total = weights.sum(dim=-1, keepdim=True)
    log_total = total.log()
    entropy = log_total - torch.linalg.vecdot(weights, shifted)[:, None] / total
    return torch.cat([entropy.clamp_(min=0.0), largest + log_total, named - log_total], dim=1)


def to_host(values: torch.Tensor) -> torch.Tensor:
    """A copy on the host, without waiting for a GPU: to be read once the forward pass's results were processed."""
    if not values.is_cuda:
        return values.clone()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Measured rows (n, 2 + m), or (n, 2) where nothing is named, of the token `first` (1,) and those after it."""

    first: torch.Tensor
    values: torch.Tensor


class Collected:
    """What one request asks and what was measured for it so far, forward pass by forward pass."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.error: str | None = None
        self._parts: list[_Rows] = []

    def measure_prompt(self, first: int, logits: torch.Tensor) -> None:
        """Measure logits (n, V) of the tokens `first`, `first` + 1, ...; those before the question are left out.

        Raises:
            ValueError: a named id is outside the vocabulary.
        """
        skipped = max(0, self.question.first - first)
        logits = logits[skipped:]
        if len(logits):
            first += skipped
            ids = self._named(first - self.question.first, len(logits), logits.shape[1]).to(logits.device, non_blocking=True)
            self.add(torch.tensor([first]), to_host(measure(logits, ids)))

    def add(self, first: torch.Tensor, values: torch.Tensor) -> None:
        """Take rows that were measured, on the host."""
        self._parts.append(_Rows(first, values))

    def _named(self, row: int, n: int, vocab_size: int) -> torch.Tensor:
        """(n, m) named ids from that row of the question on; 0 where none are named."""
        named = self.question.ids[row : row + n]
        if named.size and not (named.min() >= 0 and named.max() < vocab_size):
            raise ValueError(f"named ids lie outside 0..{vocab_size - 1}, the vocabulary")
        self.question.check_size(n)
        ids = np.zeros((n, self.question.ids.shape[1]), dtype=np.int64)
        ids[: len(named)] = named
        return torch.from_numpy(ids)

    def answer(self) -> Answer:
        """The rows from the question's first token on, without a gap; of a token measured twice the later row counts.

        Raises:
            ValueError: a row that was named was not measured.
        """
        first, (n_named, m) = self.question.first, self.question.ids.shape
        by_token: dict[int, NDArray[np.float32]] = {}
        for part in self._parts:
            start = int(part.first[0])
            by_token.update(zip(range(start, start + len(part.values)), part.values.numpy(), strict=True))
        n = 0
        while first + n in by_token:
            n += 1
        if n < max(1, n_named):
            raise ValueError("not every position that was asked about was measured; a CUDA graph may have skipped it")
        self.question.check_size(n)
        values = np.full((n, COLUMNS + m), np.nan, dtype=np.float32)
        for row in range(n):
            found = by_token[first + row]
            values[row, : len(found) if row < n_named else COLUMNS] = found if row < n_named else found[:COLUMNS]
        return Answer(values)
