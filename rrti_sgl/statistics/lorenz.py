"""Concentration: Lorenz curves of values, or of binned masses under many weightings of the same tokens at once.

Bins are in descending order of value. Bin b holds `counts[b]` tokens that carry `masses[b]` together, each of them between
`lows[b]` and `highs[b]`. Where a bin holds one distinct value (`lows == highs`) nothing is lost; where every bin does, all
results are exact. Elsewhere tokens of a bin count as equal, and the loss is bounded: among values in [a, b] with mean m the
most unequal are all at the ends, so that the Gini coefficient within the bin is at most (b - m)(m - a) / (m (b - a)), and
the Lorenz curve of the bin lies at most that far above its chord.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.ranking import SLACK, Places, Ranking, first_reaching, top_part


@dataclass(frozen=True)
class LorenzBins:
    """Binned values of B weightings, largest first.

    Attributes:
        counts, masses: (B, n_bins).
        lows, highs: (n_bins,).
        tied: (n_bins,) whether a bin is a single value that several tokens have.
        n_tokens: tokens there are, each of weight 1.
        whole: every weight is 1: a number of tokens is a whole one.
    """

    counts: FloatArray
    masses: FloatArray
    lows: FloatArray
    highs: FloatArray
    tied: BoolArray
    n_tokens: int
    whole: bool = False

    @classmethod
    def of(cls, values: ArrayLike) -> LorenzBins:
        """One weighting of values (N,) in bins of one distinct value.

        Raises:
            UsageError: no values, negative or non-finite ones, or a total of 0.
        """
        found = np.asarray(values, dtype=np.float64).ravel()
        if not found.size or not np.isfinite(found).all() or found.min() < 0 or not found.max():
            raise UsageError(
                "Concentration needs values that are neither negative, NaN nor infinite, and not all 0.",
                "Use scores that are divergences or entropies.",
            )
        smallest_first, numbers = np.unique(found, return_counts=True)
        each, counts = smallest_first[::-1], numbers[::-1]
        return cls(counts[None].astype(np.float64), (counts * each)[None], each, each, counts > 1, len(found), whole=True)

    def gini(self) -> FloatArray:
        """(B,) Gini coefficients, 0 if all are equal, near 1 if one carries everything; short by at most `gini_error`."""
        area: FloatArray = (self.counts * (self._carried - self.masses / 2)).sum(axis=1)
        return 2 * area / (self._tokens * self._total) - 1

    def gini_error(self) -> FloatArray:
        """(B,) upper bounds of what binning takes from `gini`."""
        lost: FloatArray = (self.counts * self.masses * self._inequality()).sum(axis=1)
        return lost / (self._tokens * self._total)

    def carried(self, share: float) -> FloatArray:
        """(B,) shares of the mass that the largest `share` of tokens carries, linear between whole tokens."""
        return self._mass_of(share * self._tokens)

    def carried_error(self) -> FloatArray:
        """(B,) upper bounds of what binning takes from `carried`, at any share."""
        lost: FloatArray = (self.masses * self._inequality()).max(axis=1)
        return lost / self._total

    def carried_by_top(self, p: float) -> FloatArray:
        """(B,) shares of the mass in the top-p set: values from the interpolated (1 - p)-quantile on, ties all in."""
        rank = top_part(self.n_tokens, p) * self._tokens
        last = first_reaching(self._reached, rank)
        return self._mass_of(np.where(self.tied[last], _at(self._reached, last), rank))

    def tokens_carrying(self, share: float) -> FloatArray:
        """(B,) smallest shares of tokens that carry `share` of the mass."""
        wanted = share * self._total * (1 - SLACK)
        last = first_reaching(self._carried, wanted)
        counts, masses = _at(self.counts, last), _at(self.masses, last)
        missing = wanted - (_at(self._carried, last) - masses)
        tokens: FloatArray = _at(self._reached, last) - counts + np.clip(missing * counts / masses, 0, counts)
        if self.whole:
            tokens = np.ceil(tokens * (1 - SLACK))
        return tokens / self._tokens

    @cached_property
    def _reached(self) -> FloatArray:
        return np.cumsum(self.counts, axis=1)

    @cached_property
    def _carried(self) -> FloatArray:
        return np.cumsum(self.masses, axis=1)

    @property
    def _tokens(self) -> FloatArray:
        return self._reached[:, -1]

    @property
    def _total(self) -> FloatArray:
        return self._carried[:, -1]

    def _mass_of(self, ranks: FloatArray) -> FloatArray:
        """(B,) shares of the mass of the so many (B,) largest tokens."""
        last = first_reaching(self._reached, ranks)
        counts, masses = _at(self.counts, last), _at(self.masses, last)
        left_out = (_at(self._reached, last) - ranks) * masses / counts
        return (_at(self._carried, last) - left_out) / self._total

    def _inequality(self) -> FloatArray:
        """(B, n_bins) the largest Gini coefficient within each bin, given its mean."""
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.clip(self.masses / self.counts, self.lows, self.highs)
            most = (self.highs - means) * (means - self.lows) / (means * (self.highs - self.lows))
        return np.nan_to_num(most, nan=0.0, posinf=0.0)


class LorenzCurve:
    """Concentration of any number of values, each of weight 1: all results are exact.

    What their blocks hold is kept; a block is looked into where a result lies in it.

    Args:
        ranking: of the values: none negative or infinite, and not all 0.
    """

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking
        self._area, carried, blocks = 0.0, 0.0, []
        for values, counts, _ in ranking.descending():
            masses = counts * values
            up_to = carried + np.cumsum(masses)
            self._area += float(np.dot(counts, up_to - masses / 2))
            blocks.append((counts.sum(), up_to[-1] - carried))
            carried = float(up_to[-1])
        self._counts, self._masses = np.array(blocks, dtype=np.float64).T
        self._looked_into: tuple[int, LorenzBins] | None = None

    def gini(self) -> FloatArray:
        """(1,) as `LorenzBins.gini`."""
        return np.array([2 * self._area / (self._ranking.n * self._masses.sum()) - 1])

    def carried(self, share: float) -> FloatArray:
        """(1,) as `LorenzBins.carried`."""
        return self._around(self._counts, share * self._ranking.n).carried(share)

    def carried_by_top(self, p: float) -> FloatArray:
        """(1,) as `LorenzBins.carried_by_top`."""
        n = self._ranking.n
        return self._around(self._counts, top_part(n, p) * n).carried_by_top(p)

    def tokens_carrying(self, share: float) -> FloatArray:
        """(1,) as `LorenzBins.tokens_carrying`."""
        return self._around(self._masses, share * self._masses.sum() * (1 - SLACK)).tokens_carrying(share)

    def _around(self, of_blocks: FloatArray, wanted: float) -> LorenzBins:
        """The block in which the sums of all reach what is wanted by distinct values, and what is above and below it."""
        at = int(first_reaching(np.cumsum(of_blocks)[None], np.array([wanted]))[0])
        if self._looked_into is None or self._looked_into[0] != at:
            first = int(self._counts[:at].sum())
            [(values, counts, _)] = self._ranking.descending(first, first + int(self._counts[at]))
            tokens, masses = (
                np.r_[of[:at].sum(), each, of[at + 1 :].sum()]
                for of, each in ((self._counts, counts), (self._masses, counts * values))
            )
            there = tokens > 0  # there may be no block above or below it
            each = np.r_[values[0], values, values[-1]][there]
            tied = np.r_[False, counts > 1, False][there]
            bins = LorenzBins(tokens[None, there], masses[None, there], each, each, tied, self._ranking.n, whole=True)
            self._looked_into = (at, bins)
        return self._looked_into[1]


def _at(values: FloatArray, bins: Places) -> FloatArray:
    """(B,) of (B, n_bins): the value at one bin of each row."""
    return values[np.arange(len(bins)), bins]
