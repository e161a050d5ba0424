"""Values in order, with ties: ranks, quantiles, top-p sets, and bins of ranks, as the statistics define them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import BoolArray, FloatArray, IntArray

Places = NDArray[np.intp]
# A threshold is lowered by this much, relatively: interpolation between equal values may end one rounding above them.
SLACK = 1e-12


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

    def steps(self) -> tuple[Places, Places]:
        """For each place of the order (N,) how many values are smaller, and how many are not larger."""
        first = np.flatnonzero(np.r_[True, self.ordered[1:] != self.ordered[:-1]])
        if len(first) == len(self.ordered):
            return first, first + 1
        sizes = np.diff(np.r_[first, len(self.ordered)])
        return np.repeat(first, sizes), np.repeat(first + sizes, sizes)

    def ties(self, first: int, last: int) -> tuple[Places, Places]:
        """For values number `first` to before `last` in descending order: how many are larger, and how many are equal.

        Equal values are all in that range or none is.
        """
        n = len(self.ordered)
        values = self.ordered[n - last : n - first][::-1]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        if len(starts) == len(values):
            return np.arange(first, last), np.ones(len(values), dtype=np.intp)
        sizes = np.diff(np.r_[starts, len(values)])
        return np.repeat(starts + first, sizes), np.repeat(sizes, sizes)

    def average_ranks(self) -> FloatArray:
        """(N,) ranks of the values from 1, equal values having the mean of theirs."""
        smaller, not_larger = self.steps()
        ranks = np.empty(len(self.ordered))
        ranks[self.order] = (smaller + 1 + not_larger) / 2
        return ranks

    def n_top(self, p: float) -> int:
        """Size of the top-p set: values from its threshold on."""
        return len(self.ordered) - int(np.searchsorted(self.ordered, top_threshold(self.ordered, p)))

    def in_top(self, p: float) -> BoolArray:
        """(N,) which values are in the top-p set."""
        chosen = np.zeros(len(self.order), dtype=np.bool_)
        chosen[self.order[len(self.order) - self.n_top(p) :]] = True
        return chosen


@dataclass(frozen=True, eq=False)
class GroupRanking:
    """Values (N,) in order within groups.

    Attributes:
        order: (N,) indices of the values, group after group, smallest first.
        ordered: (N,) the values in that order.
        group: (N,) the group of each of them.
        sizes: (G,) values of each group.
    """

    order: Places
    ordered: FloatArray
    group: NDArray[np.integer[Any]]
    sizes: Places

    @classmethod
    def of(cls, ranking: Ranking, groups: NDArray[np.integer[Any]]) -> GroupRanking:
        """Take the order of all values apart; groups (N,) are numbers from 0."""
        found = groups[ranking.order]
        by_group = _stable_order(found)
        return cls(ranking.order[by_group], ranking.ordered[by_group], found[by_group], np.bincount(groups))

    def in_top(self, p: float) -> BoolArray:
        """(N,) which values are in the top-p set of their own group."""
        place = np.maximum(self.sizes - 1, 0) * (1 - p)
        first = np.cumsum(self.sizes) - self.sizes
        last = len(self.order) - 1
        below, above = (np.minimum(first + end(place).astype(np.intp), last) for end in (np.floor, np.ceil))
        part = place - np.floor(place)
        thresholds = self.ordered[below] * (1 - part) + self.ordered[above] * part
        thresholds -= SLACK * np.abs(thresholds)
        chosen = np.zeros(len(self.order), dtype=np.bool_)
        chosen[self.order] = self.ordered >= thresholds[self.group]
        return chosen


def _stable_order(numbers: NDArray[np.integer[Any]]) -> Places:
    """Stable order of numbers (N,) from 0, sixteen bits at a time: numpy sorts those by counting."""
    order: Places = np.argsort((numbers & 0xFFFF).astype(np.uint16), kind="stable")
    if len(numbers) and int(numbers.max()) > 0xFFFF:
        order = order[np.argsort((numbers[order] >> 16).astype(np.uint16), kind="stable")]
    return order


def quantile(ordered: FloatArray, q: float) -> float:
    """The linearly interpolated quantile of values (N,) in ascending order."""
    place = (len(ordered) - 1) * q
    below, above = int(np.floor(place)), int(np.ceil(place))
    part = place - below
    return float(ordered[below] * (1 - part) + ordered[above] * part)


def top_threshold(ordered: FloatArray, p: float) -> float:
    """Q(1 - p) of values (N,) in ascending order, less a relative 1e-12, so that ties at the threshold are all in."""
    found = quantile(ordered, 1 - p)
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
        of_value: (M,) bin of each, from 0; equal values share one.
        tied: (n_bins,) whether a bin is a single value that several have.
    """

    of_value: IntArray
    tied: BoolArray

    @classmethod
    def fine_at_the_top(cls, ranking: Ranking, fineness: int) -> RankBins:
        """All values: one value a bin among the first `fineness`, then bins of 1 / fineness of the values above them."""
        above, sizes = ranking.ties(0, len(ranking.order))
        with np.errstate(divide="ignore"):
            bins = np.where(above < fineness, above, fineness * (1 + np.log(above / fineness)))
        return cls._with_ties(bins.astype(np.int32), above, sizes, above / fineness)

    @classmethod
    def even(cls, ranking: Ranking, first: int, last: int, most: int) -> RankBins:
        """Values number `first` to before `last`: one distinct value a bin, or about `most` bins where there are more."""
        above, sizes = ranking.ties(first, last)
        width = 1.0
        if np.count_nonzero(np.diff(above)) >= most:
            width = (last - first) / most
        return cls._with_ties(((above - first) / width).astype(np.int32), above, sizes, width)

    @classmethod
    def _with_ties(cls, bins: IntArray, above: Places, sizes: Places, widths: FloatArray | float) -> RankBins:
        """The bins, in which no equal values are apart, and values that fill half a bin have one of their own."""
        own = (sizes > 1) & (2 * sizes >= widths)
        starts = (bins[1:] != bins[:-1]) | ((above[1:] != above[:-1]) & (own[1:] | own[:-1]))
        found = np.r_[0, np.cumsum(starts)].astype(np.int32)
        tied = np.zeros(found[-1] + 1, dtype=np.bool_)
        tied[found[own]] = True
        return cls(found, tied)
