"""Values in order, with ties: ranks, quantiles and top-p sets as the statistics define them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import FloatArray

Places = NDArray[np.intp]
# A threshold is lowered by this much, relatively: interpolation between equal values may end one rounding above them.
_SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Ranking:
    """Values (N,) of which none is NaN.

    Attributes:
        order: (N,) indices of the values, smallest first.
        ordered: (N,) the values in that order.
    """

    order: Places
    ordered: FloatArray

    @classmethod
    def of(cls, values: ArrayLike) -> Ranking:
        """Sort the values."""
        found = np.asarray(values, dtype=np.float64)
        order: Places = np.argsort(found)
        return cls(order, found[order])

    @cached_property
    def steps(self) -> tuple[Places, Places]:
        """For each place of the order (N,) how many values are smaller, and how many are not larger."""
        first = np.flatnonzero(np.r_[True, self.ordered[1:] != self.ordered[:-1]])
        if len(first) == len(self.ordered):
            return first, first + 1
        sizes = np.diff(np.r_[first, len(self.ordered)])
        return np.repeat(first, sizes), np.repeat(first + sizes, sizes)

    def average_ranks(self) -> FloatArray:
        """(N,) ranks of the values from 1, equal values having the mean of theirs."""
        smaller, not_larger = self.steps
        ranks = np.empty(len(self.ordered))
        ranks[self.order] = (smaller + 1 + not_larger) / 2
        return ranks

    def n_top(self, p: float) -> int:
        """Size of the top-p set: values from its threshold on."""
        return len(self.ordered) - int(np.searchsorted(self.ordered, top_threshold(self.ordered, p)))


def quantile(ordered: FloatArray, q: float) -> float:
    """The linearly interpolated quantile of values (N,) in ascending order."""
    place = (len(ordered) - 1) * q
    below, above = int(np.floor(place)), int(np.ceil(place))
    part = place - below
    return float(ordered[below] * (1 - part) + ordered[above] * part)


def top_threshold(ordered: FloatArray, p: float) -> float:
    """Q(1 - p) of values (N,) in ascending order, less a relative 1e-12, so that ties at the threshold are all in."""
    found = quantile(ordered, 1 - p)
    return found - _SLACK * abs(found)
