"""Position: where in a solution the tokens of largest disagreement lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, table_of
from rrti_sgl.db.analysis.notes import WITHIN, top_note
from rrti_sgl.db.analysis.parameters import count, metrics, share, shares
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.token_values import Block, TokenValues
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.blocks import Counted, problem_sums
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap
from rrti_sgl.statistics.top_sets import Codes

ABOUT = """\
Where in a solution do the tokens of largest disagreement lie?
Definitions: u = (position + 1/2) / n_tokens of the sample, the middle of the token, between 0 and 1. Each row is about the
  tokens with u_low <= u < u_high, middle between them. n_all, n_top: tokens (tokens of the top-p set) there; n_first:
  samples whose first token of the top-p set is there. share_all, share_top, share_first: those over their totals in the
  run. density_all, density_top: the shares over u_high - u_low. density_ratio: density_top / density_all, which is 1 where
  top tokens are as frequent as anywhere; all tokens are not uniform where samples are shorter than there are bins.
  part density: $bins bins of equal width; with 30 of them the second's middle is the paper's 0.05. part peak: the bin with
  the largest density_ratio, the first of equal ones. part within: 0 <= u < x. part beyond: x <= u, the survival of the
  top-p set at x.
  The top-p set is every token with metric >= Q(1 - p), Q the linearly interpolated quantile less a relative 1e-12; ties at
  the threshold are all in. within: Q is that of all tokens of the run, or of those of the token's sample. Tokens without
  the metric are left out. note: what ties made of the set.
Paper: density of normalised position of the top-1 % tokens against all tokens, its peak near u = 0.05 (diagnosis,
  position).
Parameters: $runs run ids; $metric columns of tokens; $p share of tokens; $bins number of bins; $edges values of x
"""
_INTERVALS = ("share_first", "share_top", "density_top")
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "part": pa.string(), "within": pa.string()},
        **dict.fromkeys(("u_low", "u_high", "middle"), pa.float64()),
        **dict.fromkeys(("n_all", "n_top", "n_first"), pa.int64()),
        **dict.fromkeys(
            ("density_all", "density_top", "density_ratio", "share_all", "share_top", "share_first"), pa.float64()
        ),
        "note": pa.string(),
    }
)


def _compute(store: Store, values: Values) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for run in values["runs"]:
        tokens = values["reader"].read(run, [values["metric"], "position"]).complete(values["metric"])
        rows += [{"run_id": run, **row} for within in WITHIN for row in _rows(tokens, values, within)]
    return table_of(rows, _SCHEMA, _INTERVALS, values)


def _rows(tokens: TokenValues, values: Values, within: str) -> list[dict[str, Any]]:
    metric, p, n_bins, edges = (values[name] for name in ("metric", "p", "bins", "edges"))
    ranking, bootstrap = tokens.ranking(metric), bootstrap_of(tokens.n_problems, values)
    least = ranking.threshold(p)

    def chosen(block: Block) -> Codes:
        inside = block[metric] >= least if within == "run" else block.in_samples(metric).in_top(p)
        return np.flatnonzero(inside)

    kinds = {
        "all": lambda block: _Counted.once(np.arange(len(block))),
        "top": lambda block: _Counted.once(chosen(block)),
        "first": lambda block: _Counted.first_of_samples(chosen(block), block),
    }
    width = n_bins + len(edges) + 1
    counts = {
        kind: problem_sums(
            ((problem, codes, signs) for problem, _, codes, signs in _counted(tokens, values, count)),
            tokens.n_problems,
            width,
        )
        for kind, count in kinds.items()
    }
    resampled = {}
    if bootstrap is not None and within == "run":
        top = tokens.resampled(metric, bootstrap).top(p)

        def entering(block: Block) -> Codes:
            candidates = np.flatnonzero(top.places(block[metric]) >= 0)
            return candidates[np.argsort(-block[metric][candidates])]

        kinds = {
            "top": lambda block: _Counted.once(entering(block)),
            "first": lambda block: _Counted.first_of_samples(entering(block), block),
        }
        resampled = {kind: top.having(_counted(tokens, values, count), width) for kind, count in kinds.items()}
    by_bin, by_segment = (
        _Places(
            {kind: each[:, part] for kind, each in counts.items()},
            {kind: each[:, part] for kind, each in resampled.items()},
            bootstrap,
        )
        for part in (slice(0, n_bins), slice(n_bins, None))
    )
    density = [{"part": "density", **by_bin.density(place, place / n_bins, (place + 1) / n_bins)} for place in range(n_bins)]
    rows = [*density, {**max(density, key=lambda row: row["density_ratio"] or 0.0), "part": "peak"}]
    for place, edge in enumerate(edges):
        rows.append({"part": "within", "u_low": 0.0, "u_high": edge, **by_segment.share(slice(0, place + 1))})
    for place, edge in enumerate(edges):
        rows.append({"part": "beyond", "u_low": edge, "u_high": 1.0, **by_segment.share(slice(place + 1, None))})
    note = top_note(int(counts["top"][:, :n_bins].sum()), len(tokens), p, metric, within)
    return [{**row, "middle": (row["u_low"] + row["u_high"]) / 2, "within": within, "note": note} for row in rows]


@dataclass(frozen=True, eq=False)
class _Counted:
    """What is counted in a top set: when a token (M,) of it is in, another one (M,) counts so much (M,)."""

    entering: Codes
    counting: Codes
    signs: FloatArray | None = None

    @classmethod
    def once(cls, tokens: Codes) -> _Counted:
        """Each token once."""
        return cls(tokens, tokens)

    @classmethod
    def first_of_samples(cls, ranked: Codes, block: Block) -> _Counted:
        """The first token of each sample that is in: one that enters before all that are in takes the place of theirs.

        Args:
            ranked: (M,) tokens of the block in the order in which they enter, the largest score first.
            block: whole samples.
        """
        tokens = ranked[np.argsort(block.sample[ranked], kind="stable")]
        of_sample, position = block.sample[tokens].astype(np.int64), block["position"][tokens].astype(np.int64)
        # Later samples lie below all earlier ones, so that the running minimum begins anew with each.
        place = position - of_sample * (int(position.max(initial=0)) + 1)
        earlier = place < np.r_[np.inf, np.minimum.accumulate(place)][: len(place)]
        tokens, of_sample = tokens[earlier], of_sample[earlier]
        replaced = np.diff(of_sample, prepend=-1) == 0
        entering = np.r_[tokens, tokens[replaced]]
        counting = np.r_[tokens, tokens[np.roll(replaced, -1)]]
        return cls(entering, counting, np.r_[np.ones(len(tokens)), np.full(len(entering) - len(tokens), -1.0)])


def _counted(
    tokens: TokenValues, values: Values, count: Callable[[Block], _Counted]
) -> Iterator[tuple[Codes, FloatArray, Codes, Counted]]:
    """In parts: problem, score of what enters, place and sign of what counts; places are bins, then segments of edges."""
    n_bins = int(values["bins"])
    for block in tokens.blocks(values["metric"], "position"):
        found = count(block)
        position, length = (each[found.counting].astype(np.int64) for each in (block["position"], block.length))
        bins = ((2 * position + 1) * n_bins) // (2 * length)
        segments = n_bins + np.searchsorted(values["edges"], (position + 0.5) / length, side="right")
        problem, scores = block.problem[found.counting], block[values["metric"]][found.entering]
        for codes in (bins, segments):
            yield problem, scores, codes, found.signs


@dataclass(frozen=True, eq=False)
class _Places:
    """By kind of token, "all", "top" and "first", (P, n) of each problem and (B, n) of each resample, by place.

    Kinds that are not among the resampled are the same tokens in every resample.
    """

    counts: dict[str, FloatArray]
    resampled: dict[str, FloatArray]
    bootstrap: ProblemBootstrap | None

    def density(self, place: int, low: float, high: float) -> dict[str, Any]:
        """Counts and densities of one place."""
        row: dict[str, Any] = {"u_low": low, "u_high": high, **self._numbers(slice(place, place + 1))}
        for kind in ("all", "top"):
            row[f"density_{kind}"] = row[f"n_{kind}"] / self.counts[kind].sum() / (high - low)
        ends = self._ends("top", slice(place, place + 1)).items()
        row |= {f"density_top{end}": value / (high - low) for end, value in ends}
        return row | self._ratio(slice(place, place + 1))

    def share(self, inside: slice) -> dict[str, Any]:
        """Counts and shares of some places together."""
        row = self._numbers(inside)
        for kind, counts in self.counts.items():
            row[f"share_{kind}"] = row[f"n_{kind}"] / counts.sum()
            if kind != "all":
                row |= {f"share_{kind}{end}": value for end, value in self._ends(kind, inside).items()}
        return row | self._ratio(inside)

    def _numbers(self, inside: slice) -> dict[str, Any]:
        return {f"n_{kind}": round(counts[:, inside].sum()) for kind, counts in self.counts.items()}

    def _cells(self, kind: str, inside: slice) -> tuple[Bounds, Bounds]:
        """Tokens (P, 1) in some places and in all, of each problem, and (B, 1) of each resample."""
        counts = self.counts[kind]
        of = (counts[:, inside].sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True))
        assert self.bootstrap is not None
        if kind not in self.resampled:
            return of, (self.bootstrap.sums(of[0]), self.bootstrap.sums(of[1]))
        found = self.resampled[kind]
        return of, (found[:, inside].sum(axis=1, keepdims=True), found.sum(axis=1, keepdims=True))

    def _ends(self, kind: str, inside: slice) -> dict[str, float]:
        """The interval of the share in some places."""
        if self.bootstrap is None:
            return {}
        of, resampled = self._cells(kind, inside)
        low, high = self.bootstrap.shares(*of, resampled=resampled)
        return {"_low": float(low[0]), "_high": float(high[0])}

    def _ratio(self, inside: slice) -> dict[str, Any]:
        """Density of the top set over that of all tokens."""
        top, every = (self.counts[kind][:, inside].sum() / self.counts[kind].sum() for kind in ("top", "all"))
        return {"density_ratio": top / every if every else None}


QUERY = Query(
    "position",
    {"metric": metrics("ce", "reverse_kl", "js"), "p": share(0.01), "bins": count(30), "edges": shares(0.05, 0.1, 0.2)},
    needs=("metric",),
    about=ABOUT,
    compute=_compute,
)
