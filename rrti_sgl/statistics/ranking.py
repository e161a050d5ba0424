"""Values in order, with ties: ranks, quantiles, top-p sets, and bins of ranks, as the statistics define them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import BoolArray, FloatArray, IntArray

Places = NDArray[np.intp]
_BLOCK = 1 << 18  # values of which several arrays are made at a time
# A threshold is lowered by this much, relatively: interpolation between equal values may end one rounding above them.
SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Ranking:
    """Values (N,) of which none is NaN.

    Attributes:
        values: (N,).
        order: (N,) their indices, smallest first.
    """

    values: FloatArray
    order: IntArray

    @classmethod
    def of(cls, values: ArrayLike) -> Ranking:
        """Sort the values."""
        found = np.asarray(values, dtype=np.float64)
        return cls(found, np.argsort(found).astype(np.int32))

    @property
    def ordered(self) -> FloatArray:
        """(N,) the values, smallest first; looked up each time, not kept."""
        return self.values[self.order]

    def largest(self, first: int, last: int) -> FloatArray:
        """Values number `first` to before `last` in descending order."""
        return self.values[self.order[len(self.order) - last : len(self.order) - first][::-1]]

    @property
    def is_constant(self) -> bool:
        """Whether all values are the same."""
        return bool(self.values[self.order[0]] == self.values[self.order[-1]])

    def ties(self, first: int, last: int) -> tuple[IntArray, IntArray]:
        """For values number `first` to before `last` in descending order: how many are larger, and how many are equal.

        Equal values are all in that range or none is.
        """
        values = self.largest(first, last)
        differs = np.r_[True, values[1:] != values[:-1]]
        if differs.all():
            return np.arange(first, last, dtype=np.int32), np.ones(len(values), dtype=np.int32)
        starts = np.flatnonzero(differs).astype(np.int32)
        sizes = np.diff(np.r_[starts, np.int32(len(values))])
        return np.repeat(starts + np.int32(first), sizes), np.repeat(sizes, sizes)

    @cached_property
    def twice_ranks(self) -> IntArray:
        """(N,) twice the rank of each value from 1, equal values having the mean of theirs."""
        larger, equal = self.ties(0, len(self.order))
        ranks = np.empty(len(self.order), dtype=np.int32)
        ranks[self.order[::-1]] = 2 * (len(self.order) - larger) - equal + 1
        return ranks

    def in_top(self, p: float) -> BoolArray:
        """(N,) which values are in the top-p set."""
        below, above, part = _around(len(self.order), 1 - p)
        found: BoolArray = self.values >= _lowered(self.values[self.order[below]], self.values[self.order[above]], part)
        return found


@dataclass(frozen=True, eq=False)
class GroupRanking:
    """Values (N,) in order within groups.

    Attributes:
        values: (N,).
        groups: (N,) the group of each, a number from 0.
        ordered: (N,) the values, group after group, smallest first.
        sizes: (G,) values of each group.
    """

    values: FloatArray
    groups: NDArray[np.integer[Any]]
    ordered: FloatArray
    sizes: Places

    @classmethod
    def of(cls, values: FloatArray, groups: NDArray[np.integer[Any]]) -> GroupRanking:
        """Sort each group."""
        sizes = np.bincount(groups)
        ordered = values[_stable_order(groups)]
        for group in np.split(ordered, np.cumsum(sizes[sizes > 0])[:-1]):
            group.sort()
        return cls(values, groups, ordered, sizes)

    def in_top(self, p: float) -> BoolArray:
        """(N,) which values are in the top-p set of their own group."""
        place = np.maximum(self.sizes - 1, 0) * (1 - p)
        first = np.cumsum(self.sizes) - self.sizes
        last = len(self.ordered) - 1
        below, above = (np.minimum(first + end(place).astype(np.intp), last) for end in (np.floor, np.ceil))
        part = place - np.floor(place)
        thresholds = self.ordered[below] * (1 - part) + self.ordered[above] * part
        thresholds -= SLACK * np.abs(thresholds)
        chosen: BoolArray = self.values >= thresholds[self.groups]
        return chosen


def _stable_order(numbers: NDArray[np.integer[Any]]) -> Places:
    """Stable order of numbers (N,) from 0, sixteen bits at a time: numpy sorts those by counting."""
    order: Places = np.argsort((numbers & 0xFFFF).astype(np.uint16), kind="stable")
    if len(numbers) and int(numbers.max()) > 0xFFFF:
        order = order[np.argsort((numbers[order] >> 16).astype(np.uint16), kind="stable")]
    return order


def in_top(values: FloatArray, p: float) -> BoolArray:
    """(N,) which values are in their top-p set: from Q(1 - p) less a relative 1e-12 on, so that ties there are all in."""
    below, above, part = _around(len(values), 1 - p)
    found = np.partition(values, (below, above))
    return values >= _lowered(found[below], found[above], part)


def _around(n: int, q: float) -> tuple[int, int, float]:
    """The places, of n values in ascending order, between which the linearly interpolated quantile lies, and how far."""
    place = (n - 1) * q
    return int(np.floor(place)), int(np.ceil(place)), place - int(np.floor(place))


def _lowered(below: float, above: float, part: float) -> float:
    """What lies between two values, less a relative `SLACK`."""
    found = float(below * (1 - part) + above * part)
    return found - SLACK * abs(found)


def top_part(n: int, p: float) -> float:
    """The part of n different values that lies in their top-p set."""
    return float(1 - np.ceil((n - 1) * (1 - p) * (1 - SLACK)) / n)


def first_reaching(cumulative: FloatArray, wanted: FloatArray) -> Places:
    """(B,) the first bin at which the cumulative sums (B, n_bins) reach what is wanted (B,)."""
    first: Places = np.argmax(cumulative >= wanted[:, None] * (1 - SLACK), axis=1)
    return first


@dataclass(frozen=True, eq=False)
class RankBins:
    """Bins of M values in descending order.

    Attributes:
        edges: (n_bins + 1,) number of the first value of each, and M; equal values share a bin.
        tied: (n_bins,) whether a bin is a single value that several have.
    """

    edges: Places
    tied: BoolArray

    @property
    def of_value(self) -> IntArray:
        """(M,) bin of each value, from 0."""
        return np.repeat(np.arange(len(self.tied), dtype=np.int32), np.diff(self.edges))

    @classmethod
    def fine_at_the_top(cls, ranking: Ranking, fineness: int) -> RankBins:
        """All values: one value a bin among the first `fineness`, then bins of 1 / fineness of the values above them."""
        above, sizes = ranking.ties(0, len(ranking.order))
        bins = np.empty(len(above), dtype=np.int32)
        with np.errstate(divide="ignore"):
            for first in range(0, len(above), _BLOCK):
                part = above[first : first + _BLOCK]
                further = fineness * (1 + np.log(part / fineness))
                bins[first : first + _BLOCK] = np.where(part < fineness, part, further)
        return cls._with_ties(bins, above, sizes, lambda larger: larger / fineness)

    @classmethod
    def even(cls, ranking: Ranking, first: int, last: int, most: int) -> RankBins:
        """Values number `first` to before `last`: one distinct value a bin, or about `most` bins where there are more."""
        above, sizes = ranking.ties(first, last)
        width = 1.0
        if np.count_nonzero(np.diff(above)) >= most:
            width = (last - first) / most
        return cls._with_ties(((above - first) / width).astype(np.int32), above, sizes, lambda _: width)

    @classmethod
    def _with_ties(
        cls, bins: IntArray, above: IntArray, sizes: IntArray, width_at: Callable[[IntArray], FloatArray | float]
    ) -> RankBins:
        """The bins, in which no equal values are apart, and values that fill half a bin have one of their own."""
        own = sizes > 1
        own[own] = 2 * sizes[own] >= width_at(above[own])
        starts = (bins[1:] != bins[:-1]) | ((above[1:] != above[:-1]) & (own[1:] | own[:-1]))
        first = np.flatnonzero(np.r_[True, starts])
        return cls(np.r_[first, len(bins)], own[first])
