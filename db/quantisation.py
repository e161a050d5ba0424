"""How the compact layout rounds what it keeps, with the bound of every error.

Lists of log-probabilities are kept as codes of one byte on a grid that is finer the more probable a token is, the reasoning
model's token ids as ranks in the base model's list, where that list holds them. Arrays in, arrays out; nothing is rounded
that has no bound here: what does not fit says so (`*_fit`), and is kept in full precision.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import BoolArray, IntArray

CODES_PER_E: Final = 27
"""Codes while `1 + 4 * nats` grows by a factor e: code 124 is at 24.4 nats, so lists mostly take seven bits a number."""
SHORT: Final = 64  # lists up to this length are compared place by place, longer ones by sorting
IMPOSSIBLE: Final = 255
"""The code that stands for log 0."""
LOGPROB_ERROR: Final = float(np.expm1(0.5 / CODES_PER_E))
"""A log-probability -x in a list is within `LOGPROB_ERROR * (0.25 + x)` nats: 0.005 at 0, 0.023 at 1, 0.19 at 10. Its
probability is within 0.009."""
REAL_ERROR: Final = 2.0**-24
"""Largest relative error of a number kept in single precision, for magnitudes from `REAL_SMALLEST` up."""
REAL_SMALLEST: Final = float(np.finfo(np.float32).tiny)


def to_codes(logprobs: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Log-probabilities as codes, same shape; -inf becomes `IMPOSSIBLE`, NaN (padding) 0.

    Code c stands for -(exp(c / 27) - 1) / 4 nats; log-probabilities above 0 by rounding have code 0.
    """
    nats = np.maximum(-np.asarray(logprobs, dtype=np.float32), np.float32(0))
    codes = np.rint(np.log1p(4 * nats) * np.float32(CODES_PER_E))
    counts: NDArray[np.uint8] = np.nan_to_num(np.minimum(codes, IMPOSSIBLE), nan=0.0).astype(np.uint8)
    return counts


def from_codes(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What codes stand for, same shape; the view `tokens` computes the same in SQL."""
    nats = np.expm1(codes.astype(np.float64) / CODES_PER_E) / 4
    logprobs: NDArray[np.float32] = np.where(codes == IMPOSSIBLE, -np.inf, -nats).astype(np.float32)
    return logprobs


def logprobs_fit(logprobs: NDArray[np.floating[Any]]) -> BoolArray:
    """Whether the code of each log-probability is within the bound: none above it, none below -3,000 but log 0."""
    fits: BoolArray = ((logprobs >= -3000) | (logprobs == -np.inf)) & (logprobs <= LOGPROB_ERROR / 4)
    return fits


def reals_fit(values: NDArray[np.float64]) -> BoolArray:
    """Whether each number is kept within `REAL_ERROR` in single precision; zeros, NaN and infinities stay as they are."""
    magnitude = np.abs(values)
    within = (magnitude >= REAL_SMALLEST) & (magnitude <= np.finfo(np.float32).max)
    fits: BoolArray = within | (magnitude == 0.0) | ~np.isfinite(values)
    return fits


def to_ranks(ids: IntArray, reference: IntArray) -> tuple[NDArray[np.uint16], BoolArray]:
    """Token ids as ranks, counted from 1, in the concatenation of a reference list and of the ids that it does not hold.

    Args:
        ids: (n, k) token ids without duplicates in a row; -1 is padding.
        reference: (n, m) token ids, padding of -1 at the end of a row only.

    Returns:
        (n, k) ranks, 0 for padding, and (n, k) whether the reference holds the id. With m' the ids in the row of the
        reference, a rank up to m' is a place there; a rank above, its place less m', counts the row's other ids.
    """
    present = ids >= 0
    places = _places(ids, reference)
    held = (places >= 0) & present
    others = np.cumsum(present & ~held, axis=1) + (reference >= 0).sum(axis=1, keepdims=True)
    ranks = np.where(held, places + 1, np.where(present, others, 0))
    return ranks.astype(np.uint16), held


def _places(ids: IntArray, reference: IntArray) -> NDArray[np.int64]:
    """The column of each id in its row of the reference, (n, k) -> (n, k); -1 where it is not there."""
    n, m = reference.shape
    places = np.full(ids.shape, -1, dtype=np.int64)
    if not n or not m:
        return places
    if m <= SHORT:
        for place in range(m):
            np.copyto(places, place, where=ids == reference[:, place, None])
        return places
    row = np.arange(n, dtype=np.int64)[:, None] << 32  # one key a (row, token); ids are below 2**31
    keys = (reference.astype(np.int64) + 1 + row).ravel()
    order = np.argsort(keys)
    ordered = keys[order]
    wanted = (ids.astype(np.int64) + 1 + row).ravel()
    found = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[found] == wanted, order[found] % m, -1).reshape(ids.shape)
