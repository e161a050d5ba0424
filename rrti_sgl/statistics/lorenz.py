"""Lorenz curves of binned masses: many weightings of the same tokens at once, for the bootstrap, with the error of binning.

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
from numpy.typing import ArrayLike, NDArray

from rrti_sgl.records import FloatArray

Places = NDArray[np.intp]
_ROUNDING = 1e-12


@dataclass(frozen=True)
class LorenzBins:
    """Binned values of B weightings, largest first: `counts` and `masses` (B, n_bins), `lows` and `highs` (n_bins,)."""

    counts: FloatArray
    masses: FloatArray
    lows: FloatArray
    highs: FloatArray

    def gini(self) -> FloatArray:
        """(B,) Gini coefficients: a lower bound, short by at most `gini_error`."""
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
        """(B,) shares of the mass in the top-p set: values from the interpolated (1 - p)-quantile on, ties all in.

        Tokens of a bin of several values are not tied.
        """
        rank = self._tokens - np.ceil((self._tokens - 1) * (1 - p) * (1 - _ROUNDING))
        last = _first_reaching(self._reached, rank)
        return self._mass_of(np.where((self.lows == self.highs)[last], _at(self._reached, last), rank))

    def tokens_carrying(self, share: float) -> FloatArray:
        """(B,) smallest shares of tokens that carry `share` of the mass."""
        wanted = share * self._total * (1 - _ROUNDING)
        last = _first_reaching(self._carried, wanted)
        counts, masses = _at(self.counts, last), _at(self.masses, last)
        missing = wanted - (_at(self._carried, last) - masses)
        tokens = np.clip(np.ceil(missing * counts / masses * (1 - _ROUNDING)), 1, counts)
        reached: FloatArray = _at(self._reached, last) - counts + tokens
        return reached / self._tokens

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
        last = _first_reaching(self._reached, ranks)
        counts, masses = _at(self.counts, last), _at(self.masses, last)
        left_out = (_at(self._reached, last) - ranks) * masses / counts
        return (_at(self._carried, last) - left_out) / self._total

    def _inequality(self) -> FloatArray:
        """(B, n_bins) the largest Gini coefficient within each bin, given its mean."""
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.clip(self.masses / self.counts, self.lows, self.highs)
            most = (self.highs - means) * (means - self.lows) / (means * (self.highs - self.lows))
        return np.nan_to_num(most, nan=0.0, posinf=0.0)


def _first_reaching(cumulative: FloatArray, wanted: FloatArray) -> Places:
    """(B,) the first bin at which the cumulative sums (B, n_bins) reach what is wanted (B,)."""
    first: Places = np.argmax(cumulative >= wanted[:, None] * (1 - _ROUNDING), axis=1)
    return first


def _at(values: FloatArray, bins: Places) -> FloatArray:
    """(B,) of (B, n_bins): the value at one bin of each row."""
    return values[np.arange(len(bins)), bins]


def coarser_bins(counts: ArrayLike, masses: ArrayLike, most: int) -> Places:
    """(n_bins,) of fine bins to at most `most + 1` runs of neighbours, each with about an equal part of tokens and mass."""
    n, s = np.asarray(counts, dtype=np.float64), np.asarray(masses, dtype=np.float64)
    if len(n) <= most:
        return np.arange(len(n))
    part = (np.cumsum(n) - n / 2) / n.sum() + (np.cumsum(s) - s / 2) / s.sum()
    return np.unique(np.floor(part / 2 * most), return_inverse=True)[1]
