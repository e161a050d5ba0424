"""How far scores of the same tokens agree: overlap of their top sets and rank correlation, with their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from rrti_sgl.db.analysis.intervals import bootstrap_of, named
from rrti_sgl.db.analysis.query import Values
from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.statistics.correlation import binned_spearman, rank_counts, spearman
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import TopSet


class Agreement:
    """Scores of the tokens of one run, all of which have all of them.

    Args:
        tokens: of the run.
        values: `resamples` and `seed`.
    """

    def __init__(self, tokens: TokenValues, values: Values) -> None:
        self.tokens = tokens
        self.bootstrap = bootstrap_of(tokens.n_problems, values)
        self._everything = tokens.by_problem()[:, None]
        self._tops: dict[tuple[str, float], TopSet] = {}

    def _top(self, name: str, p: float, bootstrap: ProblemBootstrap) -> TopSet:
        """The top-p set of a score in every resample; those of the last p asked for are kept."""
        if (name, p) not in self._tops:
            self._tops = {key: top for key, top in self._tops.items() if key[1] == p}
            self._tops[name, p] = self.tokens.resampled(name, bootstrap).top(p)
        return self._tops[name, p]

    def overlap(self, a: str, b: str, p: float) -> dict[str, Any]:
        """Both top-p sets: n_a, n_b, n_both, iou, iou_chance, decisions_changed, and the intervals of shares."""
        in_a, in_b = (self.tokens.in_top(name, p) for name in (a, b))
        n, n_a, n_b, n_both = len(in_a), *(int(np.count_nonzero(chosen)) for chosen in (in_a, in_b, in_a & in_b))
        by_chance = n_a * n_b / n
        found = {
            **{"n_a": n_a, "n_b": n_b, "n_both": n_both},
            "iou": n_both / (n_a + n_b - n_both),
            "iou_chance": by_chance / (n_a + n_b - by_chance),
            "decisions_changed": (n_a + n_b - 2 * n_both) / n,
        }
        if self.bootstrap is None:
            return found
        both, either, changed = (self.tokens.by_problem(mask)[:, None] for mask in (in_a & in_b, in_a | in_b, in_a ^ in_b))
        everything = self._everything
        top_a, top_b = (self._top(name, p, self.bootstrap) for name in (a, b))
        shared, sizes = top_a.both(top_b)[:, None], (top_a.n + top_b.n)[:, None]
        iou = self.bootstrap.shares(both, either, resampled=(shared, sizes - shared))
        differing = (sizes - 2 * shared, self.bootstrap.sums(everything))
        decisions = self.bootstrap.shares(changed, everything, resampled=differing)
        return found | named("iou", iou) | named("decisions_changed", decisions)

    def overlap_in_samples(self, a: str, b: str, p: float) -> dict[str, Any]:
        """Like `overlap`, of the tokens that are in the top-p set of their own sample: the same in every resample."""
        in_a, in_b = (self.tokens.in_samples(name).in_top(p) for name in (a, b))
        n, n_a, n_b, n_both = len(in_a), *(int(np.count_nonzero(chosen)) for chosen in (in_a, in_b, in_a & in_b))
        by_chance = n_a * n_b / n
        found = {"n_a": n_a, "n_b": n_b, "n_both": n_both, "iou": n_both / (n_a + n_b - n_both)}
        found["iou_chance"] = by_chance / (n_a + n_b - by_chance)
        if self.bootstrap is None:
            return found
        both, either = (self.tokens.by_problem(mask)[:, None] for mask in (in_a & in_b, in_a | in_b))
        return found | named("iou", self.bootstrap.shares(both, either))

    def is_constant(self, name: str) -> bool:
        """Whether a score is the same for all tokens."""
        return self.tokens.ranking(name).is_constant

    def spearman(self, a: str, b: str) -> dict[str, float | None]:
        """Spearman's coefficient, None where a score is constant; a resample ranks its tokens in bins."""
        ranks = [self.tokens.ranking(name).twice_ranks for name in (a, b)]
        estimate = spearman(*ranks)
        if estimate is None or self.bootstrap is None:
            return {"spearman": estimate}
        counts = rank_counts(ranks[0], ranks[1], self.tokens.problem, self.tokens.n_problems)
        shift = estimate - binned_spearman(counts.sum(axis=0)[None])
        resampled = np.clip(binned_spearman(self.bootstrap.sums(counts)) + shift, -1.0, 1.0)
        return {"spearman": estimate, **named("spearman", self.bootstrap.percentiles(resampled[:, None]))}
