"""A batch of next-token distributions: the most probable tokens of each, with the probability that is left over.

Servers report the k most probable tokens of a position, not the vocabulary. `Distributions` keeps what was reported and
knows what is missing, so that everything computed from it can say whether it is exact (k = vocabulary) or a bound.

Units: nats. Rows are positions (n), columns are tokens (k), most probable first. Arrays are never changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.science.exact_numbers import Exact

_DENSE_FACTOR = 8  # look ids up in a dense (n, vocabulary) table while that is at most 8 times the size of the lists
_LOGPROB_SLACK = 1e-4  # servers compute log-softmax in float32: a certain token may come back a little above 0
_MASS_SLACK = 1e-2


def row_sum(values: FloatArray) -> FloatArray:
    """Sums over the last axis, (n, k) -> (n,), so that a row's sum does not depend on the batch that it came in.

    numpy's order of additions follows the memory layout: only a C-contiguous float64 array is summed row by row.
    """
    total: FloatArray = np.ascontiguousarray(values, dtype=np.float64).sum(axis=1)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Distributions:
    """n next-token distributions over one vocabulary, each known on its k most probable tokens.

    Attributes:
        ids: (n, k) int32 token ids, without duplicates in a row.
        logprobs: (n, k) float32 log-probabilities at temperature 1, descending; -inf for probability 0.
        vocab_size: number of tokens of the vocabulary; k equal to it makes the batch exact.
        exact: numbers over the whole vocabulary, where the server reported any.
    """

    ids: IntArray
    logprobs: NDArray[np.float32]
    vocab_size: int
    exact: Exact | None = None

    @classmethod
    def empty(cls, k: int, vocab_size: int) -> Distributions:
        """No rows."""
        return cls(np.empty((0, k), np.int32), np.empty((0, k), np.float32), vocab_size)

    @classmethod
    def from_full(cls, logprobs: NDArray[np.floating[Any]], k: int | None = None) -> Distributions:
        """From (n, V) log-probabilities of the whole vocabulary; `k` keeps the k most probable (default: all)."""
        values = np.asarray(logprobs, dtype=np.float32)
        if values.ndim != 2:
            raise ValueError(f"full log-probabilities must be (n, vocabulary), not of shape {values.shape}")
        vocab_size = values.shape[1]
        k = vocab_size if k is None else k
        if not 1 <= k <= vocab_size:
            raise ValueError(f"k = {k} must lie in 1..{vocab_size}, the vocabulary")
        if k < vocab_size:
            kept = np.sort(np.argpartition(-values, k - 1, axis=1)[:, :k], axis=1)  # by id, so that ties keep that order
            order = np.argsort(-np.take_along_axis(values, kept, axis=1), axis=1, kind="stable")
            ids = np.take_along_axis(kept, order, axis=1)
        else:
            ids = np.argsort(-values, axis=1, kind="stable")
        return cls(ids.astype(np.int32), np.take_along_axis(values, ids, axis=1), vocab_size)

    @classmethod
    def from_logits(cls, logits: NDArray[np.floating[Any]], k: int | None = None) -> Distributions:
        """From (n, V) logits: log-softmax in float64, then `from_full`."""
        values = np.asarray(logits, dtype=np.float64)
        shifted = values - values.max(axis=1, keepdims=True)
        return cls.from_full(shifted - np.log(row_sum(np.exp(shifted)))[:, None], k)

    @classmethod
    def concatenate(cls, parts: Sequence[Distributions]) -> Distributions:
        """The rows of all parts in order. Raises ValueError for no parts, or parts of another k or vocabulary."""
        shapes = {(part.k, part.vocab_size) for part in parts}
        if len(shapes) != 1:
            raise ValueError(f"cannot concatenate distributions of different (k, vocabulary): {sorted(shapes)}")
        known = any(part.exact is not None for part in parts)
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.logprobs for part in parts]),
            parts[0].vocab_size,
            Exact.concatenate([part.exact or Exact.unknown(len(part)) for part in parts]) if known else None,
        )

    @property
    def k(self) -> int:
        """Tokens known in each row."""
        return int(self.ids.shape[1])

    @property
    def is_full(self) -> bool:
        """Whether every token of the vocabulary is known, so that what follows is exact."""
        return self.k == self.vocab_size

    @property
    def tail_mass(self) -> FloatArray:
        """(n,) probability outside the k tokens: max(0, 1 - sum p), exactly 0 when full."""
        if self.is_full:
            return np.zeros(len(self))
        tail: FloatArray = np.maximum(0.0, 1.0 - row_sum(np.exp(self.logprobs.astype(np.float64, order="C"))))
        return tail

    def within(self, mass: float) -> BoolArray:
        """(n, k) whether an entry is of the shortest beginning of its row with this share of all probability; 1: all."""
        shares = np.exp(self.logprobs.astype(np.float64, order="C"))
        kept: BoolArray = (np.cumsum(shares, axis=1) - shares < mass) | (mass == 1.0)
        return kept

    def __len__(self) -> int:
        return int(self.ids.shape[0])

    def __getitem__(self, rows: slice | NDArray[Any]) -> Distributions:
        """A subset of the rows, by slice, index array or mask."""
        exact = None if self.exact is None else self.exact[rows]
        return Distributions(self.ids[rows], self.logprobs[rows], self.vocab_size, exact)

    def columns_of(self, ids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """The column in which row i holds the token `ids[i, j]`: (n, m) -> (n, m), -1 where it does not."""
        n, k, vocab_size = len(self), self.k, self.vocab_size
        if n == 0:
            return np.full(ids.shape, -1, np.int64)
        possible = (ids >= 0) & (ids < vocab_size)
        wanted = np.where(possible, ids, 0).astype(np.int64)
        if vocab_size <= _DENSE_FACTOR * k:
            table = np.full((n, vocab_size), -1, np.int64)
            np.put_along_axis(table, self.ids.astype(np.int64), np.arange(k)[None, :], axis=1)
            return np.where(possible, np.take_along_axis(table, wanted, axis=1), -1)
        offsets = np.arange(n, dtype=np.int64)[:, None] * vocab_size  # one key a (row, token), ascending through the batch
        order = np.argsort(self.ids, axis=1)
        keys = (np.take_along_axis(self.ids, order, axis=1) + offsets).ravel()
        wanted += offsets
        found = np.minimum(np.searchsorted(keys, wanted.ravel()).reshape(ids.shape), keys.size - 1)
        return np.where(possible & (keys[found] == wanted), order.ravel()[found], -1)

    def aligned_logprobs(self, ids: NDArray[np.integer[Any]]) -> tuple[FloatArray, BoolArray]:
        """Log-probabilities of any tokens, (n, m) -> (n, m) float64, NaN where not covered, and `covered` (n, m)."""
        columns = self.columns_of(ids)
        covered = columns >= 0
        values = np.take_along_axis(self.logprobs, np.maximum(columns, 0), axis=1).astype(np.float64)
        return np.where(covered, values, np.nan), covered

    def logprob_of(self, token_ids: NDArray[np.integer[Any]]) -> FloatArray:
        """Log-probability of one token a row, (n,) -> (n,) float64; NaN where the row does not hold it."""
        return self.aligned_logprobs(np.asarray(token_ids)[:, None])[0][:, 0]

    def validate(self) -> Distributions:
        """Checks everything that the arithmetic relies on and returns itself; meant for the boundary, not for loops.

        Raises:
            ValueError: names the field and the first bad row.
        """
        ids, logprobs = self.ids, self.logprobs
        if ids.ndim != 2 or ids.shape != logprobs.shape:
            raise ValueError(f"ids and logprobs must share one shape (n, k), not {ids.shape} and {logprobs.shape}")
        if ids.dtype != np.int32 or logprobs.dtype != np.float32:
            raise ValueError(f"ids must be int32 and logprobs float32, not {ids.dtype} and {logprobs.dtype}")
        if not 1 <= self.k <= self.vocab_size:
            raise ValueError(f"k = {self.k} must lie in 1..{self.vocab_size}, the vocabulary")
        ordered = np.sort(ids, axis=1)
        with np.errstate(invalid="ignore"):  # -inf minus -inf, where both are probability 0
            ascending = np.diff(logprobs.astype(np.float64), axis=1) > 0
        problems = {
            "logprobs hold NaN": np.isnan(logprobs).any(axis=1),
            "logprobs are positive": (logprobs > _LOGPROB_SLACK).any(axis=1),
            "logprobs are not descending": ascending.any(axis=1),
            f"ids lie outside 0..{self.vocab_size - 1}": ((ids < 0) | (ids >= self.vocab_size)).any(axis=1),
            "ids hold a token twice": (ordered[:, 1:] == ordered[:, :-1]).any(axis=1),
        }
        for what, rows in problems.items():
            if rows.any():
                raise ValueError(f"{what} in row {int(np.argmax(rows))} of {len(self)}")
        mass = row_sum(np.exp(logprobs.astype(np.float64)))
        if (mass > 1.0 + _MASS_SLACK).any():
            row = int(np.argmax(mass))
            raise ValueError(f"probabilities add up to {mass[row]:.4f}, above 1, in row {row} of {len(self)}")
        return self
