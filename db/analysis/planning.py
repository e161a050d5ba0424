"""Planning: whether the tokens of large disagreement are planning words; the estimate decides which words are listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rrti_sgl.db.analysis.intervals import bootstrap_of, insert_interval
from rrti_sgl.db.analysis.parameters import count, metrics, share
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.token_values import TokenValues, run_token_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.ranking import GroupRanking, Ranking
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap
from rrti_sgl.statistics.top_sets import ResampledScores

_ESTIMATES = ("odds_ratio", "enrichment", "share")
_TOP = {"top_metric": "value", "top_entropy": "entropy"}
_PARTS = ("planning", "category", "word")
_ROUNDING = 1e-9


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    rows = table.to_pylist()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _ESTIMATES}
    for run in dict.fromkeys(row["run_id"] for row in rows):  # one after the other in the table
        of_run = [row for row in rows if row["run_id"] == run]
        labels = list(dict.fromkeys((row["part"], row["label"]) for row in of_run))
        named = {part: [label for of, label in labels if of == part] for part in _PARTS}
        # A list of SQL may not be empty, and no tag or word is.
        given = {"tags": named["category"] or [""], "words": named["word"] or [""]}
        sets = _Sets(run_token_sql(store, run, "_planning_tokens", {**values, **given}), named, values)
        bounds = {key: sets.bounds(*key) for key in dict.fromkeys((row["tokens"], row["within"]) for row in of_run)}
        for row in of_run:
            at = labels.index((row["part"], row["label"]))
            for name in _ESTIMATES:
                low, high = bounds[row["tokens"], row["within"]][name]
                found[name].append((low[at], high[at]))
    for name in _ESTIMATES:
        table = insert_interval(table, name, *zip(*found[name], strict=True))
    return table


@dataclass(frozen=True, eq=False)
class _Counts:
    """A set of tokens: of each problem (P, K) and each resample (B, K) its tokens, and those that match each of K labels."""

    tokens: FloatArray
    matching: FloatArray
    tokens_of: FloatArray
    matching_of: FloatArray


class _Sets:
    """The sets of tokens of one run, matched by its K labels: planning words, then categories, then words."""

    def __init__(self, tokens: TokenValues, labels: Mapping[str, list[str]], values: Values) -> None:
        bootstrap = bootstrap_of(tokens.n_problems, values)
        assert bootstrap is not None  # intervals are asked for
        self.tokens, self.bootstrap, self.p = tokens, bootstrap, values["p"]
        self.sizes = [len(labels[part]) for part in _PARTS]
        self.all = self._resampled(tokens)

    def bounds(self, name: str, within: str | None) -> dict[str, Bounds]:
        """The ends (K,) of share, enrichment and odds of a set."""
        if name == "all":
            return _bounds(self.bootstrap, self.all, self.all)
        if name == "takeovers":
            return _bounds(self.bootstrap, self._resampled(self.tokens.take(self.tokens.columns["fired"] > 0)), self.all)
        scored = self.tokens.complete(_TOP[name])
        ranking = Ranking.of(scored.columns[_TOP[name]])
        if within == "sample":
            inside = GroupRanking.of(ranking, scored.sample).in_top(self.p)
            return _bounds(self.bootstrap, self._resampled(scored.take(inside)), self.all)
        top = ResampledScores(ranking, scored.problem, self.bootstrap).top(self.p)
        codes = self._codes(scored.take(top.candidates))
        matching_of = np.concatenate([top.having(each, n, tokens=top.candidates) for each, n in codes], axis=1)
        counts = self._counts(scored.take(ranking.in_top(self.p)))
        return _bounds(self.bootstrap, _Counts(*counts, _beside(top.n, matching_of), matching_of), self.all)

    def _resampled(self, tokens: TokenValues) -> _Counts:
        """A set that is the same in every resample."""
        n, matching = self._counts(tokens)
        matching_of = self.bootstrap.sums(matching)
        return _Counts(n, matching, _beside(self.bootstrap.sums(n[:, 0]), matching_of), matching_of)

    def _counts(self, tokens: TokenValues) -> tuple[FloatArray, FloatArray]:
        """(P, K) tokens, and those that match each label."""
        matching = []
        for codes, n in self._codes(tokens):
            there = codes >= 0
            cells = tokens.problem[there].astype(np.int64) * n + codes[there]
            matching.append(np.bincount(cells, minlength=tokens.n_problems * n).reshape(-1, n))
        found = np.concatenate(matching, axis=1).astype(np.float64)
        return _beside(tokens.by_problem(), found), found

    def _codes(self, tokens: TokenValues) -> list[tuple[NDArray[np.int64], int]]:
        """For each part (N,) number of each token's label, -1 for none, and how many labels there are."""
        tag, word = (
            np.where(np.isnan(column), -1, column).astype(np.int64)
            for column in (tokens.columns["tag"], tokens.columns["word"])
        )
        return [(codes, n) for codes, n in zip((np.minimum(tag, 0), tag, word), self.sizes, strict=True) if n]


def _beside(sizes: FloatArray, matching: FloatArray) -> FloatArray:
    """(..., K) sizes (...) of a set, the same for each label."""
    return np.broadcast_to(sizes[:, None], matching.shape)


def _bounds(bootstrap: ProblemBootstrap, chosen: _Counts, whole: _Counts) -> dict[str, Bounds]:
    """The ends (K,) of share, enrichment, odds ratio.

    The imaginary trial of a high end is a matching token of the set; of a low end, one of the set that does not match, and
    for what compares with the rest a matching one of the rest as well.
    """
    share = bootstrap.shares(chosen.matching, chosen.tokens, resampled=(chosen.matching_of, chosen.tokens_of))
    nothing = (np.full(len(share[0]), np.nan), np.full(len(share[0]), np.nan))
    if chosen is whole:
        return {"share": share} | dict.fromkeys(("enrichment", "odds_ratio"), nothing)
    one = bootstrap.imaginary(chosen.tokens)
    inside, others = chosen.matching_of, chosen.tokens_of - chosen.matching_of
    outside = whole.matching_of - inside
    outside = np.where(outside > _ROUNDING * whole.matching_of, outside, 0.0)
    rest = whole.tokens_of - chosen.tokens_of - outside
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = {
            "enrichment": (
                _enrichment(inside, others + one, outside + one, rest),
                _enrichment(inside + one, others, outside, rest),
            ),
            "odds_ratio": (
                inside * rest / ((others + one) * (outside + one)),
                (inside + one) * rest / (others * outside),
            ),
        }
        found = {name: bootstrap.percentiles(*ends) for name, ends in replicates.items()}
    unknown = np.isnan(share[0])
    return {"share": share} | {
        name: (np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)) for name, (low, high) in found.items()
    }


def _enrichment(inside: FloatArray, others: FloatArray, outside: FloatArray, rest: FloatArray) -> FloatArray:
    """Share of matching tokens in a set over their share in all, from the four cells."""
    found: FloatArray = inside / (inside + others) / ((inside + outside) / (inside + others + outside + rest))
    return found


QUERY = Query(
    "planning",
    {"metric": metrics("ce", "reverse_kl", "js"), "p": share(0.01), "words": count(10), "least": count(5)},
    needs=("metric", "entropy_base", "planning_tag"),
    intervals=_add_intervals,
)
