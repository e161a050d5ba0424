"""Top-p sets whose threshold is found again in every resample.

A resample weights problems; its top set is the tokens of largest score that have the same part of the weight of all as the
estimate's top set has of the tokens. Tokens above every resample's threshold are counted by problem; those between the
highest and the lowest are put into bins of rank, one or a few scores wide, so that a resample is a weighted sum of counts.
A threshold inside a bin takes a part of it, unless the bin is a single value: ties are all in.

Tokens come in parts and are counted part by part, as often as is needed: they need not be in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.blocks import Counted, problem_sums
from rrti_sgl.statistics.ranking import RankBins, Ranking, first_reaching, top_part
from rrti_sgl.statistics.resampling import ProblemBootstrap

FINENESS = 64
_MOST_BINS, _MOST_CELLS, _MOST_PAIRS = 128, 1 << 22, 1 << 11
Codes = NDArray[np.integer[Any]]


class ResampledScores:
    """One score of N tokens of P problems under the weights of B resamples; made once for any number of top sets.

    Args:
        ranking: of the scores (N,).
        scan: gives all tokens, in parts: the problem and the score of each.
        bootstrap: of the P problems.
    """

    def __init__(
        self, ranking: Ranking, scan: Callable[[], Iterable[tuple[Codes, FloatArray]]], bootstrap: ProblemBootstrap
    ) -> None:
        self.ranking, self.scan, self.bootstrap = ranking, scan, bootstrap

    @cached_property
    def bins(self) -> RankBins:
        """All tokens in bins, in descending order of score."""
        return RankBins.fine_at_the_top(self.ranking, FINENESS)

    def by_problem(self, tokens: Iterable[tuple[Codes, FloatArray, Counted]]) -> FloatArray:
        """(P, n_bins) what some tokens, of these problems and scores, count in each bin."""
        parts = ((problem, self.bins.of(scores), counted) for problem, scores, counted in tokens)
        return problem_sums(parts, self.bootstrap.n_problems, len(self.bins.tied))

    @property
    def counts(self) -> FloatArray:
        """(P, n_bins) tokens in each bin."""
        return self._counts.astype(np.float64)

    @cached_property
    def _counts(self) -> Codes:
        # Kept as small as they are: of many scores they stay for as long as the tokens do.
        counts = self.by_problem((*part, None) for part in self.scan())
        return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))

    @property
    def masses(self) -> FloatArray:
        """(P, n_bins) sums of the scores in each bin, added up each time."""
        return self.by_problem((problem, scores, scores) for problem, scores in self.scan())

    @cached_property
    def reached(self) -> FloatArray:
        """(B, n_bins) weight of the tokens up to each bin."""
        return np.cumsum(self.bootstrap.sums(self.counts), axis=1)

    def top(self, p: float) -> TopSet:
        """The top-p set."""
        return TopSet(self, p)


class TopSet:
    """The top-p set of a score, in the data and in every resample.

    Attributes:
        n: (B,) weight of the tokens of each resample's.
        threshold: (B,) the score at which each resample's ends.
    """

    def __init__(self, scores: ResampledScores, p: float) -> None:
        self.bootstrap = scores.bootstrap
        wanted = top_part(scores.ranking.n, p) * scores.reached[:, -1]
        at = first_reaching(scores.reached, wanted)
        first, last = (int(place) for place in scores.bins.edges[[at.min(), at.max() + 1]])
        most = int(np.clip(np.sqrt(_MOST_CELLS / self.bootstrap.n_problems), 8, _MOST_BINS))
        self._window = window = RankBins.even(scores.ranking, first, last, most)
        self._n_places = 1 + len(window.tied)
        places = ((problem, self.places(found), None) for problem, found in scores.scan())
        weights = self.bootstrap.sums(problem_sums(places, self.bootstrap.n_problems, self._n_places))
        reached = np.cumsum(weights, axis=1)
        at = first_reaching(reached, wanted)
        rows = np.arange(self.bootstrap.n)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = 1 - (reached[rows, at] - wanted) / weights[rows, at]
        inside = np.where(np.r_[False, window.tied][at], 1.0, np.clip(np.nan_to_num(inside, nan=1.0), 0.0, 1.0))
        self._inside = (np.arange(self._n_places) < at[:, None]).astype(np.float64)
        self._inside[rows, at] = inside
        self.n: FloatArray = (weights * self._inside).sum(axis=1)
        highest, lowest = window.highs[at - 1], window.lows[at - 1]
        self.threshold: FloatArray = highest - inside * (highest - lowest)

    def places(self, scores: FloatArray) -> Codes:
        """(M,) where scores stand: 0 in the top set of every resample, then bins of the window, -1 in that of none."""
        found = np.full(len(scores), -1, dtype=np.int16)
        some = np.flatnonzero(scores >= self._window.lows[-1])
        chosen = scores[some]
        found[some] = np.where(chosen > self._window.highs[0], 0, 1 + self._window.of(chosen))
        return found

    def having(self, tokens: Iterable[tuple[Codes, FloatArray, Codes, Counted]], n_codes: int) -> FloatArray:
        """(B, n_codes) what tokens count in each resample's top set, by code.

        Args:
            tokens: in parts: the problem and the score of each, its code (-1: not counted) and what it counts.
            n_codes: how many codes there are.
        """

        def cells(scores: FloatArray, codes: Codes) -> Codes:
            places = self.places(scores).astype(np.int64)
            return np.where((places < 0) | (codes < 0), -1, codes * self._n_places + places)

        parts = ((problem, cells(scores, codes), counted) for problem, scores, codes, counted in tokens)
        counts = problem_sums(parts, self.bootstrap.n_problems, n_codes * self._n_places)
        counts = counts.reshape(-1, n_codes, self._n_places)
        found: FloatArray = np.einsum("bki,bi->bk", self.bootstrap.sums(counts), self._inside)
        return found

    def both(self, other: TopSet, tokens: Iterable[tuple[Codes, FloatArray, FloatArray]]) -> FloatArray:
        """(B,) weight of the tokens that are in both top sets of each resample.

        Args:
            other: of the same tokens and problems.
            tokens: all, in parts: the problem of each, and its score here and there.
        """
        n = self._n_places, other._n_places

        def cells(mine: Codes, theirs: Codes) -> Codes:
            return np.where((mine < 0) | (theirs < 0), -1, mine.astype(np.int64) * n[1] + theirs)

        parts = ((problem, cells(self.places(here), other.places(there)), None) for problem, here, there in tokens)
        counts = problem_sums(parts, self.bootstrap.n_problems, n[0] * n[1])
        there = np.flatnonzero(counts.any(axis=0))
        found = np.zeros(self.bootstrap.n)
        for first in range(0, len(there), _MOST_PAIRS):  # all at once would be several arrays of B times their number
            pairs = there[first : first + _MOST_PAIRS]
            mine, theirs = np.divmod(pairs, n[1])
            found += (self.bootstrap.sums(counts[:, pairs]) * self._inside[:, mine] * other._inside[:, theirs]).sum(axis=1)
        return found
