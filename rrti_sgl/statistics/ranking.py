"""Values in order, with ties: ranks, quantiles, top-p sets, and bins of ranks, as the statistics define them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.blocks import BLOCK, Blocks

Places = NDArray[np.intp]
# Every so many values of a sorted block are kept to divide several of them alike.
_EVERY = 1 << 10
# A threshold is lowered by this much, relatively: interpolation between equal values may end one rounding above them.
SLACK = 1e-12


class Ranking:
    """N values of which none is NaN, in order: the distinct ones, smallest first, and how often each is there.

    Args:
        values: blocks of them.
        counts: blocks of as many numbers.
    """

    def __init__(self, values: Blocks, counts: Blocks) -> None:
        self.values, self.counts = values, counts
        self._firsts = np.array([values.part(at, 0, 1)[0] for at in range(len(values))])
        # Values up to each block, from 0.
        self._up_to = np.cumsum([0, *(int(each.sum()) for each in counts)])

    @classmethod
    def of(cls, *parts: FloatArray) -> Ranking:
        """Sort values that are in memory."""
        return cls.of_parts(map(np.sort, parts))

    @classmethod
    def of_parts(cls, parts: Iterable[FloatArray]) -> Ranking:
        """Values that come in parts, each sorted: pieces of all that lie between the same values are sorted again."""
        values, counts = Blocks(), Blocks()
        some = []
        for part in parts:
            if len(part):
                starts = np.flatnonzero(np.r_[True, part[1:] != part[:-1]])
                found, each = part[starts].astype(np.float64), np.diff(starts, append=len(part))
                values.append(found)
                counts.append(each)
                some.append(found[::_EVERY])
        if len(values) < 2:
            return cls(values, counts)
        between = np.unique(np.sort(np.concatenate(some))[BLOCK // _EVERY :: BLOCK // _EVERY])
        edges = [np.r_[0, np.searchsorted(each, between), len(each)] for each in values]
        whole, how_many = Blocks(), Blocks()
        for piece in range(len(between) + 1):
            found, each = (
                np.concatenate([of.part(at, *edge[piece : piece + 2]) for at, edge in enumerate(edges)])
                for of in (values, counts)
            )
            if len(found):
                order = np.argsort(found, kind="stable")
                found = found[order]
                starts = np.flatnonzero(np.r_[True, found[1:] != found[:-1]])
                whole.append(found[starts])
                how_many.append(np.add.reduceat(each[order], starts))
        return cls(whole, how_many)

    @property
    def n(self) -> int:
        """N."""
        return int(self._up_to[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of values and counts."""
        return self.values.nbytes + self.counts.nbytes

    @property
    def is_constant(self) -> bool:
        """Whether all values are the same."""
        return len(self.values) == 1 and self.values.lengths[0] == 1

    def descending(self, first: int = 0, last: int | None = None) -> Iterator[tuple[FloatArray, Places, Places]]:
        """The distinct values in blocks, the largest first: each, how often it is there, and how many values are larger.

        Args:
            first, last: only values number `first` to before `last`; equal values are all in that range or none is.
        """
        last = self.n if last is None else last
        for at in reversed(range(len(self.values))):
            larger = self.n - int(self._up_to[at + 1])
            if larger >= last or self.n - self._up_to[at] <= first:
                continue
            counts = self.counts[at][::-1]
            above = larger + np.cumsum(counts) - counts
            inside = slice(*np.searchsorted(above, (first, last)))
            yield self.values[at][::-1][inside], counts[inside], above[inside]

    def at(self, place: int) -> float:
        """Value number `place` from 0, in ascending order."""
        block = int(np.searchsorted(self._up_to, place, side="right")) - 1
        reached = self._up_to[block] + np.cumsum(self.counts[block])
        return float(self.values[block][np.searchsorted(reached, place, side="right")])

    def threshold(self, p: float) -> float:
        """The value from which on values are in the top-p set."""
        below, above, part = _around(self.n, 1 - p)
        return _lowered(self.at(below), self.at(above), part)

    def least_in_top(self, p: float) -> float:
        """The smallest value of the top-p set."""
        below, above, _ = _around(self.n, 1 - p)
        return next(value for value in (self.at(below), self.at(above)) if value >= self.threshold(p))

    def in_top(self, values: FloatArray, p: float) -> BoolArray:
        """(M,) which of some values are in the top-p set."""
        found: BoolArray = values >= self.threshold(p)
        return found

    def twice_ranks(self, ordered: FloatArray) -> Places:
        """(M,) twice the rank, from 1, of some of the values, in ascending order; equal values have the mean of theirs."""
        ranks = np.empty(len(ordered), dtype=np.intp)
        edges = [0, *np.searchsorted(ordered, self._firsts[1:]).tolist(), len(ordered)]
        for at, (first, last) in enumerate(pairwise(edges)):
            if first < last:
                there, counts = self.values[at], self.counts[at]
                wanted = ordered[first:last]
                place = np.cumsum(np.r_[False, wanted[1:] != wanted[:-1]])
                if place[-1] + 1 < len(there):  # not all are wanted
                    place = np.searchsorted(there, wanted)
                ranks[first:last] = (2 * (self._up_to[at] + np.cumsum(counts)) - counts + 1)[place]
        return ranks

    def counts_of(self, distinct: FloatArray) -> Places:
        """(M,) how often each of some numbers, in ascending order and none twice, is there."""
        found = np.zeros(len(distinct), dtype=np.intp)
        for at, there in enumerate(self.values if len(distinct) else ()):
            first, last = np.searchsorted(there, distinct[0]), np.searchsorted(there, distinct[-1], side="right")
            place = np.searchsorted(distinct, there[first:last])
            same = distinct[place] == there[first:last]
            found[place[same]] = self.counts[at][first:last][same]
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
    if len(cumulative) == 1:  # of all tokens, in as many bins
        return np.searchsorted(cumulative[0], wanted * (1 - SLACK))
    first: Places = np.argmax(cumulative >= wanted[:, None] * (1 - SLACK), axis=1)
    return first


@dataclass(frozen=True, eq=False)
class RankBins:
    """Bins of M values in descending order; equal values share a bin.

    Attributes:
        edges: (n_bins + 1,) number of the first value of each, and M.
        tied: (n_bins,) whether a bin is a single value that several have.
        highs, lows: (n_bins,) the largest and the smallest value of each.
    """

    edges: Places
    tied: BoolArray
    highs: FloatArray
    lows: FloatArray

    def of(self, values: FloatArray) -> Places:
        """(K,) bin of each of some values, from 0: 0 for those above all, n_bins for those below all."""
        found: Places = len(self.lows) - np.searchsorted(self.lows[::-1], values, side="right")
        return found

    @classmethod
    def fine_at_the_top(cls, ranking: Ranking, fineness: int) -> RankBins:
        """All values: one value a bin among the first `fineness`, then bins of 1 / fineness of the values above them."""

        def number(above: Places) -> Places:
            further = fineness * (1 + np.log(np.maximum(above, 1) / fineness))
            return np.where(above < fineness, above, further).astype(np.intp)

        return cls._with_ties(ranking, (0, ranking.n), number, lambda larger: larger / fineness)

    @classmethod
    def even(cls, ranking: Ranking, first: int, last: int, most: int) -> RankBins:
        """Values number `first` to before `last`: one distinct value a bin, or about `most` bins where there are more."""
        distinct = sum(len(values) for values, _, _ in ranking.descending(first, last))
        width = (last - first) / most if distinct > most else 1.0
        return cls._with_ties(
            ranking, (first, last), lambda above: ((above - first) / width).astype(np.intp), lambda _: width
        )

    @classmethod
    def _with_ties(
        cls,
        ranking: Ranking,
        within: tuple[int, int],
        number: Callable[[Places], Places],
        width_at: Callable[[Places], FloatArray | float],
    ) -> RankBins:
        """The bins, in which no equal values are apart, and values that fill half a bin have one of their own."""
        found: tuple[list[Any], ...] = ([], [], [], [])  # edges, tied, highs, lows
        before: tuple[int, bool] | None = None  # number of the last value, and whether it has a bin of its own
        for values, counts, above in ranking.descending(*within):
            own = (counts > 1) & (2 * counts >= width_at(above))
            bins = number(above)
            starts = np.r_[True, (bins[1:] != bins[:-1]) | own[1:] | own[:-1]]
            if before is not None:
                starts[0] = bins[0] != before[0] or own[0] or before[1]
            first = np.flatnonzero(starts)
            smallest = values[np.r_[first[first > 0] - 1, len(values) - 1]]
            if not starts[0]:  # the last bin goes on
                found[-1][-1][-1], smallest = smallest[0], smallest[1:]
            if len(first):
                for of, one in zip(found, (above[first] - within[0], own[first], values[first], smallest), strict=True):
                    of.append(one)
            before = (int(bins[-1]), bool(own[-1]))
        edges, tied, highs, lows = map(np.concatenate, found)
        return cls(np.r_[edges, within[1] - within[0]], tied, highs, lows)
