"""Top-p sets whose threshold is found again in every resample.

A resample weights problems; its top set is the tokens of largest score that have the same part of the weight of all as the
estimate's top set has of the tokens. Tokens above every resample's threshold are counted by problem; those between the
highest and the lowest are put into bins of rank, one or a few scores wide, so that a resample is a weighted sum of counts.
A threshold inside a bin takes a part of it, unless the bin is a single value: ties are all in.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import BoolArray, FloatArray
from rrti_sgl.statistics.ranking import RankBins, Ranking, first_reaching, top_part
from rrti_sgl.statistics.resampling import ProblemBootstrap

FINENESS = 64
_MOST_BINS, _MOST_CELLS, _MOST_PAIRS = 128, 1 << 22, 1 << 11
Codes = NDArray[np.integer[Any]]


class ResampledScores:
    """One score of N tokens of P problems under the weights of B resamples; made once for any number of top sets.

    Args:
        ranking: of the scores (N,).
        problem: (N,) number of each token's problem, from 0.
        bootstrap: of the P problems.
    """

    def __init__(self, ranking: Ranking, problem: Codes, bootstrap: ProblemBootstrap) -> None:
        self.ranking, self.problem, self.bootstrap = ranking, problem, bootstrap

    @cached_property
    def bins(self) -> RankBins:
        """All tokens in bins, in descending order of score."""
        return RankBins.fine_at_the_top(self.ranking, FINENESS)

    def _cells(self) -> Codes:
        """(N,) number of each token's problem and bin."""
        bins = np.empty(len(self.problem), dtype=np.int32)
        bins[self.ranking.order[::-1]] = self.bins.of_value
        return self.problem * len(self.bins.tied) + bins

    def by_problem(self, values: FloatArray | BoolArray | None = None) -> FloatArray:
        """(P, n_bins) tokens in each bin, or those of a mask (N,), or the sums of values (N,) of theirs."""
        shape = (self.bootstrap.n_problems, len(self.bins.tied))
        if values is not None and values.dtype == np.bool_:
            cells, values = self._cells()[values], None
        else:
            cells = self._cells()
        return np.bincount(cells, values, int(np.prod(shape))).astype(np.float64, copy=False).reshape(shape)

    @cached_property
    def reached(self) -> FloatArray:
        """(B, n_bins) weight of the tokens up to each bin."""
        return np.cumsum(self.bootstrap.sums(self.by_problem()), axis=1)

    def top(self, p: float) -> TopSet:
        """The top-p set."""
        return TopSet(self, p)


class TopSet:
    """The top-p set of a score, in the data and in every resample.

    Attributes:
        candidates: (M,) the tokens that are in the top set of some resample, the largest score first.
        n: (B,) weight of the tokens of each resample's.
        threshold: (B,) the score at which each resample's ends.
    """

    def __init__(self, scores: ResampledScores, p: float) -> None:
        self.bootstrap, self._problem = scores.bootstrap, scores.problem
        n_tokens = len(scores.problem)
        wanted = top_part(n_tokens, p) * scores.reached[:, -1]
        at = first_reaching(scores.reached, wanted)
        first, last = (int(place) for place in scores.bins.edges[[at.min(), at.max() + 1]])
        most = int(np.clip(np.sqrt(_MOST_CELLS / self.bootstrap.n_problems), 8, _MOST_BINS))
        window = RankBins.even(scores.ranking, first, last, most)
        self.candidates: Codes = scores.ranking.order[::-1][:last]
        # Place of each token: 0 surely in, then bins of the window, -1 surely out.
        self._n_places = 1 + len(window.tied)
        self._places = np.full(n_tokens, -1, dtype=np.int16)
        self._places[self.candidates] = np.r_[np.zeros(first, np.int16), 1 + window.of_value]
        weights = self.bootstrap.sums(self._cells(self.candidates, np.zeros(last, np.int64), 1))[:, 0]
        reached = np.cumsum(weights, axis=1)
        at = first_reaching(reached, wanted)
        rows = np.arange(self.bootstrap.n)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = 1 - (reached[rows, at] - wanted) / weights[rows, at]
        inside = np.where(np.r_[False, window.tied][at], 1.0, np.clip(np.nan_to_num(inside, nan=1.0), 0.0, 1.0))
        self._inside = (np.arange(self._n_places) < at[:, None]).astype(np.float64)
        self._inside[rows, at] = inside
        self.n: FloatArray = (weights * self._inside).sum(axis=1)
        scored = scores.ranking.largest(first, last)
        highest, lowest = scored[window.edges[:-1]][at - 1], scored[window.edges[1:] - 1][at - 1]
        self.threshold: FloatArray = highest - inside * (highest - lowest)

    def having(
        self, codes: Codes, n_codes: int, *, tokens: Codes | None = None, signs: FloatArray | None = None
    ) -> FloatArray:
        """(B, n_codes) weight of the tokens of each resample's top set, by code.

        Args:
            codes: (N,) of all tokens, or (M,) of those that are named; -1: not counted.
            n_codes: how many codes there are.
            tokens: (M,) indices, where not all tokens count once.
            signs: (M,) what each of them counts; None: 1.
        """
        if tokens is None:
            tokens, codes = self.candidates, codes[self.candidates]
        found: FloatArray = np.einsum(
            "bki,bi->bk", self.bootstrap.sums(self._cells(tokens, codes, n_codes, signs)), self._inside
        )
        return found

    def both(self, other: TopSet) -> FloatArray:
        """(B,) weight of the tokens that are in both top sets of each resample, of the same tokens and problems."""
        tokens = self.candidates[other._places[self.candidates] >= 0]
        pairs = self._places[tokens] * np.int64(other._n_places) + other._places[tokens]
        there = np.flatnonzero(np.bincount(pairs, minlength=self._n_places * other._n_places))
        code = np.empty(self._n_places * other._n_places, dtype=np.int64)
        code[there] = np.arange(len(there))
        code, problem = code[pairs], self._problem[tokens].astype(np.int64)
        found = np.zeros(self.bootstrap.n)
        for first in range(0, len(there), _MOST_PAIRS):  # all at once would be several arrays of B times their number
            mine, theirs = np.divmod(there[first : first + _MOST_PAIRS], other._n_places)
            chosen = (code >= first) & (code < first + _MOST_PAIRS)
            cells = problem[chosen] * len(mine) + (code[chosen] - first)
            counts = np.bincount(cells, minlength=self.bootstrap.n_problems * len(mine)).reshape(-1, len(mine))
            found += (self.bootstrap.sums(counts) * self._inside[:, mine] * other._inside[:, theirs]).sum(axis=1)
        return found

    def _cells(self, tokens: Codes, codes: Codes, n_codes: int, signs: FloatArray | None = None) -> FloatArray:
        """(P, n_codes, n_places) how many of some tokens (M,) there are, or the sums of their signs."""
        shape = (self.bootstrap.n_problems, n_codes, self._n_places)
        kept = (self._places[tokens] >= 0) & (codes >= 0)
        tokens, codes = tokens[kept], codes[kept]
        cells = np.ravel_multi_index((self._problem[tokens], codes, self._places[tokens]), shape)
        weights = None if signs is None else signs[kept]
        return np.bincount(cells, weights, int(np.prod(shape))).astype(np.float64).reshape(shape)
