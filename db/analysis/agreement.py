"""How far scores of the same tokens agree: overlap of their top sets and rank correlation, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from rrti_sgl.db.analysis.intervals import bootstrap_of, named
from rrti_sgl.db.analysis.query import Values
from rrti_sgl.db.analysis.token_values import Block, TokenValues
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.statistics.blocks import Blocks
from rrti_sgl.statistics.correlation import Ranked, binned_spearman, rank_counts, spearman
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import TopSet

# For each of two scores its top-p set among some tokens (n,), for each p.
Sets = Sequence[Sequence[BoolArray]]
# Blocks whose ranks are looked up at a time: each look-up goes through the whole order.
_TOGETHER = 4


class Agreement:
    """Scores of the tokens of one run, all of which have all of them.

    Args:
        tokens: of the run.
        names: of the scores.
        values: `resamples` and `seed`.
    """

    def __init__(self, tokens: TokenValues, names: Sequence[str], values: Values) -> None:
        self.tokens = tokens
        self.bootstrap = bootstrap_of(tokens.n_problems, values)
        for name in names:
            tokens.order(name)
        self._tops: dict[tuple[str, float], TopSet] = {}
        self._ranks: dict[str, Blocks] = {}

    def _top(self, name: str, p: float, bootstrap: ProblemBootstrap) -> TopSet:
        """The top-p set of a score in every resample; those of the last p asked for are kept."""
        if (name, p) not in self._tops:
            self._tops = {key: top for key, top in self._tops.items() if key[1] == p}
            self._tops[name, p] = self.tokens.resampled(name, bootstrap).top(p)
        return self._tops[name, p]

    def overlaps(self, a: str, b: str, ps: Sequence[float]) -> list[dict[str, Any]]:
        """For each p of both top-p sets: n_a, n_b, n_both, iou, iou_chance, decisions_changed, the intervals of shares."""
        least = {name: [self.tokens.ranking(name).threshold(p) for p in ps] for name in (a, b)}
        tables = self._tables(
            a, b, ps, lambda block: [[block[name] >= threshold for threshold in least[name]] for name in (a, b)]
        )
        return [self._overlap(a, b, p, counts) for p, counts in zip(ps, tables, strict=True)]

    def _overlap(self, a: str, b: str, p: float, counts: FloatArray) -> dict[str, Any]:
        found = _overlap(counts)
        both, either, changed, everything = _unions(counts)
        found["decisions_changed"] = float(changed.sum() / everything.sum())
        if self.bootstrap is None:
            return found
        top_a, top_b = (self._top(name, p, self.bootstrap) for name in (a, b))
        in_both = top_a.both(top_b, ((block.problem, block[a], block[b]) for block in self.tokens.blocks(a, b)))
        shared, sizes = in_both[:, None], (top_a.n + top_b.n)[:, None]
        iou = self.bootstrap.shares(both, either, resampled=(shared, sizes - shared))
        differing = (sizes - 2 * shared, self.bootstrap.sums(everything))
        decisions = self.bootstrap.shares(changed, everything, resampled=differing)
        return found | named("iou", iou) | named("decisions_changed", decisions)

    def overlaps_in_samples(self, a: str, b: str, ps: Sequence[float]) -> list[dict[str, Any]]:
        """Like `overlaps`, of the tokens that are in the top-p set of their own sample: the same in every resample."""

        def inside(block: Block) -> list[list[BoolArray]]:
            return [[order.in_top(p) for p in ps] for order in (block.in_samples(name) for name in (a, b))]

        found = []
        for counts in self._tables(a, b, ps, inside):
            both, either, _, _ = _unions(counts)
            ends = {} if self.bootstrap is None else named("iou", self.bootstrap.shares(both, either))
            found.append(_overlap(counts) | ends)
        return found

    def _tables(self, a: str, b: str, ps: Sequence[float], inside: Callable[[Block], Sets]) -> list[FloatArray]:
        """For each p (P, 4) tokens in none of both sets, in the first, the second, and both: in one pass, since the set of
        a smaller p is in that of a larger one.
        """
        width = len(ps) + 1

        def codes(block: Block) -> tuple[IntArray, None]:
            of_a, of_b = (np.count_nonzero(sets, axis=0) for sets in inside(block))
            return of_a * width + of_b, None

        counts = self.tokens.sums(width**2, codes, a, b).reshape(-1, width, width)
        found = []
        for p in ps:
            larger = sum(other > p for other in ps) + 1  # a token of the set is in so many at least
            table = np.add.reduceat(np.add.reduceat(counts, [0, larger], axis=1), [0, larger], axis=2)
            found.append(table.transpose(0, 2, 1).reshape(-1, 4))
        return found

    def is_constant(self, name: str) -> bool:
        """Whether a score is the same for all tokens."""
        return self.tokens.ranking(name).is_constant

    def spearman(self, a: str, b: str) -> dict[str, float | None]:
        """Spearman's coefficient, None where a score is constant; a resample ranks its tokens in bins."""
        n, ranks = len(self.tokens), [self._ranks_of(name) for name in (a, b)]

        def ranked() -> Ranked:
            return ((block.problem, x, y) for block, x, y in zip(self.tokens.blocks(), *ranks, strict=True))

        estimate = spearman(n, ranked())
        if estimate is None or self.bootstrap is None:
            return {"spearman": estimate}
        counts = rank_counts(n, ranked(), self.tokens.n_problems)
        shift = estimate - binned_spearman(counts.sum(axis=0)[None])
        resampled = np.clip(binned_spearman(self.bootstrap.sums(counts)) + shift, -1.0, 1.0)
        return {"spearman": estimate, **named("spearman", self.bootstrap.percentiles(resampled[:, None]))}

    def _ranks_of(self, name: str) -> Blocks:
        """Twice the average ranks of a score, in the blocks of the tokens."""
        if name not in self._ranks:
            ranking, found = self.tokens.ranking(name), Blocks()
            blocks = zip((block[name] for block in self.tokens.blocks(name)), self.tokens.order(name), strict=True)
            while part := list(islice(blocks, _TOGETHER)):
                values = np.concatenate([scores for scores, _ in part])
                ends = np.cumsum([len(order) for _, order in part])
                order = np.concatenate([each + (end - len(each)) for (_, each), end in zip(part, ends, strict=True)])
                if len(part) > 1:
                    order = order[np.argsort(values[order], kind="stable")]  # merges what is sorted already
                ranks = np.empty(len(values), dtype=np.intp)
                ranks[order] = ranking.twice_ranks(values[order])
                for of_block in np.split(ranks, ends[:-1]):
                    found.append(of_block)
            self._ranks[name] = found
        return self._ranks[name]


def _overlap(counts: FloatArray) -> dict[str, Any]:
    """Sizes of two sets, of counts (P, 4) of tokens in none, the first, the second and both, and how far they overlap."""
    _, first, second, n_both = (int(each) for each in counts.sum(axis=0))
    n_a, n_b = first + n_both, second + n_both
    by_chance = n_a * n_b / float(counts.sum())
    found = {"n_a": n_a, "n_b": n_b, "n_both": n_both, "iou": n_both / (n_a + n_b - n_both)}
    return found | {"iou_chance": by_chance / (n_a + n_b - by_chance)}


def _unions(counts: FloatArray) -> list[FloatArray]:
    """(P, 1) tokens in both sets, in either, in one of them alone, and all."""
    return [counts[:, which].sum(axis=1, keepdims=True) for which in ([3], [1, 2, 3], [1, 2], [0, 1, 2, 3])]
