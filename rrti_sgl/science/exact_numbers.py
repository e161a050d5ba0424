"""Exact numbers of a batch of distributions, which a server with our plugin reports beside its top-k lists.

Rows are positions (n). NaN means that a number is not known; everything that reads them falls back to the top-k list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """What is known of n distributions from their logits.

    Attributes:
        entropy: (n,) over the whole vocabulary, nats.
        log_normalizer: (n,) log of the sum of exponentiated logits; differences between rows mean something, the value
            itself depends on how a model's logits are centred.
        named_ids: (n, m) int32 tokens that were asked for at each position, -1 where none was.
        named_logprobs: (n, m) their log-probabilities, float64, NaN where not known.
    """

    entropy: FloatArray
    log_normalizer: FloatArray
    named_ids: IntArray
    named_logprobs: FloatArray

    @classmethod
    def unknown(cls, n: int, m: int = 0) -> Exact:
        """n rows of which nothing is known."""
        nothing = np.full(n, np.nan)
        return cls(nothing, nothing, np.full((n, m), -1, np.int32), np.full((n, m), np.nan))

    @classmethod
    def concatenate(cls, parts: Sequence[Exact]) -> Exact:
        """The rows of all parts in order, with as many named columns as the widest part."""
        m = max(part.named_ids.shape[1] for part in parts)
        wide = [part._widened(m) for part in parts]
        return cls(
            np.concatenate([part.entropy for part in wide]),
            np.concatenate([part.log_normalizer for part in wide]),
            np.concatenate([part.named_ids for part in wide]),
            np.concatenate([part.named_logprobs for part in wide]),
        )

    def _widened(self, m: int) -> Exact:
        missing = ((0, 0), (0, m - self.named_ids.shape[1]))
        return Exact(
            self.entropy,
            self.log_normalizer,
            np.pad(self.named_ids, missing, constant_values=-1),
            np.pad(self.named_logprobs, missing, constant_values=np.nan),
        )

    def __len__(self) -> int:
        return int(self.entropy.shape[0])

    def __getitem__(self, rows: slice | NDArray[Any]) -> Exact:
        """A subset of the rows, by slice, index array or mask."""
        return Exact(self.entropy[rows], self.log_normalizer[rows], self.named_ids[rows], self.named_logprobs[rows])

    def at(self, ids: IntArray) -> FloatArray:
        """Log-probabilities of tokens that were named in this order, (n, k) -> (n, k) float64; NaN elsewhere."""
        found = np.full(ids.shape, np.nan)
        m = min(ids.shape[1], self.named_ids.shape[1])
        same = ids[:, :m] == self.named_ids[:, :m]
        found[:, :m] = np.where(same, self.named_logprobs[:, :m], np.nan)
        return found
