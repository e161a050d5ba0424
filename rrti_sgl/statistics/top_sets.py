"""Top-p sets in resamples: their threshold is a quantile, so it moves with the resample.

Counts are taken at one threshold, the estimate's. A resample of n* tokens has N* of them above it, where its own top set has
a share N / n of them, N of n in the data. The difference is made up at the threshold: tokens that enter or leave have a
property as often as the tokens at the margin of the set do (Bahadur's representation of a quantile, first order). What is
neglected is of second order: how that share changes between the threshold and where it moves to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.resampling import ProblemBootstrap

# Where more of the margin than this lies on the threshold itself, it stays there in a resample: nothing is made up.
MOST_TIED = 0.1


def margin_ends(p: float) -> tuple[float, float]:
    """Shares whose thresholds are the ends of the margin of a top-p set: 1.25 p, at most half way to all, and p / 1.25."""
    return min(1.25 * p, (1 + p) / 2), p / 1.25


@dataclass(frozen=True)
class TopSet:
    """The top set of some tokens, by problem.

    Attributes:
        bootstrap: of the P problems.
        n_all: (P,) tokens.
        n_top: (P,) tokens at or above the threshold.
        n_margin: tokens close to the threshold, on both sides.
        n_tied: of them, those at the threshold itself.
    """

    bootstrap: ProblemBootstrap
    n_all: FloatArray
    n_top: FloatArray
    n_margin: float
    n_tied: float

    def size(self) -> FloatArray:
        """(B,) tokens of the top set of each resample."""
        return self.bootstrap.sums(self.n_top) - self._excess

    def having(self, n_having: ArrayLike, margin_having: ArrayLike) -> FloatArray:
        """(B, ...) tokens of the top set of each resample that have a property.

        Args:
            n_having: (P, ...) tokens at or above the threshold that have it.
            margin_having: (...) tokens close to the threshold that have it.
        """
        counts = self.bootstrap.sums(n_having)
        rate = np.asarray(margin_having, dtype=np.float64) / max(self.n_margin, 1.0)
        excess = self._excess.reshape(-1, *[1] * (counts.ndim - 1))
        return np.clip(counts - excess * rate, 0.0, None)

    @cached_property
    def _excess(self) -> FloatArray:
        """(B,) tokens above the threshold beyond the share of the estimate's top set."""
        if self.n_margin == 0 or self.n_tied > MOST_TIED * self.n_margin:
            return np.zeros(self.bootstrap.n)
        share = float(self.n_top.sum() / self.n_all.sum())
        return self.bootstrap.sums(self.n_top) - share * self.bootstrap.sums(self.n_all)
