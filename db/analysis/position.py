"""Position: where in a solution the tokens of largest disagreement lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.intervals import bootstrap_of, table_of
from rrti_sgl.db.analysis.parameters import count, metrics, share, shares
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.token_values import TokenValues, read_token_values
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray, IntArray
from rrti_sgl.statistics.ranking import Ranking
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import Codes, ResampledScores, TopSet

ABOUT = """\
Where in a solution do the tokens of largest disagreement lie?
Definitions: u = position / n_tokens of the sample, from 0 to just under 1. Each row is about the tokens with
  u_low <= u < u_high. n_all, n_top: tokens (tokens of the top-p set) there; n_first: samples whose first token of the
  top-p set is there. share_all, share_top, share_first: those over their totals in the run. density_all, density_top: the
  shares over u_high - u_low; 1 is uniform.
  part density: $bins bins of equal width. part peak: the bin with the largest density_top, the first of equal ones;
  middle is its middle. part within: 0 <= u < x. part beyond: x <= u, the survival of the top-p set at x.
  The top-p set of a run is every token with metric >= Q(1 - p), Q the linearly interpolated quantile less a
  relative 1e-12 over the run; ties at the threshold are all in. Tokens without the metric are left out.
Paper: density of normalised position of the top-1 % tokens against all tokens, its peak near u = 0.05 (diagnosis,
  position).
Parameters: $runs run ids; $metric columns of tokens; $p share of tokens; $bins number of bins; $edges values of x
"""
_INTERVALS = ("share_first", "share_top", "density_top")
_SCHEMA = pa.schema(
    {
        **{"run_id": pa.string(), "part": pa.string()},
        **dict.fromkeys(("u_low", "u_high", "middle"), pa.float64()),
        **dict.fromkeys(("n_all", "n_top", "n_first"), pa.int64()),
        **dict.fromkeys(("density_all", "density_top", "share_all", "share_top", "share_first"), pa.float64()),
    }
)


def _compute(store: Store, values: Values) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for run in values["runs"]:
        tokens = read_token_values(store, run, [values["metric"], "position"]).complete(values["metric"])
        rows += [{"run_id": run, **row} for row in _rows(tokens, values)]
    return table_of(rows, _SCHEMA, _INTERVALS, values)


def _rows(tokens: TokenValues, values: Values) -> list[dict[str, Any]]:
    n_bins, edges = int(values["bins"]), values["edges"]
    position, lengths = tokens.columns["position"].astype(np.int64), tokens.lengths[tokens.sample]
    ranking, bootstrap = Ranking.of(tokens.columns[values["metric"]]), bootstrap_of(tokens.n_problems, values)
    top = None if bootstrap is None else ResampledScores(ranking, tokens.problem, bootstrap).top(values["p"])
    in_order = ranking.order[::-1]
    kinds = {
        "all": _Counted.once(np.arange(len(tokens))),
        "top": _Counted.once(in_order[: ranking.n_top(values["p"])]),
        "first": _Counted.first_of_samples(in_order[: ranking.n_top(values["p"])], tokens.sample, position),
    }
    resampled = {}
    if top is not None:
        resampled = {
            "top": _Counted.once(top.candidates),
            "first": _Counted.first_of_samples(top.candidates, tokens.sample, position),
        }
    by_bin, by_segment = (
        _Places(
            {kind: counted.by_problem(tokens, codes, n) for kind, counted in kinds.items()},
            {kind: counted.in_top(top, codes, n) for kind, counted in resampled.items() if top is not None},
            bootstrap,
        )
        for codes, n in (
            ((position * n_bins) // lengths, n_bins),
            (np.searchsorted(edges, position / lengths, side="right"), len(edges) + 1),
        )
    )
    density = [{"part": "density", **by_bin.density(place, place / n_bins, (place + 1) / n_bins)} for place in range(n_bins)]
    peak = max(density, key=lambda row: (row["n_top"], -row["u_low"]))
    rows = [*density, {**peak, "part": "peak", "middle": (peak["u_low"] + peak["u_high"]) / 2}]
    for place, edge in enumerate(edges):
        rows.append({"part": "within", "u_low": 0.0, "u_high": edge, **by_segment.share(slice(0, place + 1))})
    for place, edge in enumerate(edges):
        rows.append({"part": "beyond", "u_low": edge, "u_high": 1.0, **by_segment.share(slice(place + 1, None))})
    return rows


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
    def first_of_samples(cls, ranked: Codes, sample: IntArray, position: Any) -> _Counted:
        """The first token of each sample that is in: one that enters before all that are in takes the place of theirs.

        Args:
            ranked: (M,) tokens in the order in which they enter, the largest score first.
            sample, position: (N,) of all tokens.
        """
        tokens = ranked[np.argsort(sample[ranked], kind="stable")]
        of_sample = sample[tokens]
        # Later samples lie below all earlier ones, so that the running minimum begins anew with each.
        place = position[tokens] - of_sample * (int(position.max()) + 1)
        earlier = np.r_[True, place[1:] < np.minimum.accumulate(place)[:-1]]
        tokens, of_sample = tokens[earlier], of_sample[earlier]
        replaced = np.r_[False, of_sample[1:] == of_sample[:-1]]
        entering = np.r_[tokens, tokens[replaced]]
        counting = np.r_[tokens, tokens[np.r_[replaced[1:], False]]]
        return cls(entering, counting, np.r_[np.ones(len(tokens)), np.full(len(entering) - len(tokens), -1.0)])

    def by_problem(self, tokens: TokenValues, codes: Codes, n: int) -> FloatArray:
        """(P, n) what counts of each problem, by the code (N,) of each token."""
        cells = tokens.problem[self.counting].astype(np.int64) * n + codes[self.counting]
        return np.bincount(cells, self.signs, tokens.n_problems * n).reshape(-1, n).astype(np.float64)

    def in_top(self, top: TopSet, codes: Codes, n: int) -> FloatArray:
        """(B, n) what counts in the top set of each resample, by code."""
        return top.having(codes[self.counting], n, tokens=self.entering, signs=self.signs)


@dataclass(frozen=True, eq=False)
class _Places:
    """By kind of token, "all", "top" and "first", (P, n) of each problem and (B, n) of each resample, by place."""

    counts: dict[str, FloatArray]
    resampled: dict[str, FloatArray]
    bootstrap: ProblemBootstrap | None

    def density(self, place: int, low: float, high: float) -> dict[str, Any]:
        """Counts and densities of one place."""
        row: dict[str, Any] = {"u_low": low, "u_high": high, **self._numbers(slice(place, place + 1))}
        for kind in ("all", "top"):
            row[f"density_{kind}"] = row[f"n_{kind}"] / self.counts[kind].sum() / (high - low)
        ends = self._ends("top", slice(place, place + 1)).items()
        return row | {f"density_top{end}": value / (high - low) for end, value in ends}

    def share(self, inside: slice) -> dict[str, Any]:
        """Counts and shares of some places together."""
        row = self._numbers(inside)
        for kind, counts in self.counts.items():
            row[f"share_{kind}"] = row[f"n_{kind}"] / counts.sum()
            row |= {f"share_{kind}{end}": value for end, value in self._ends(kind, inside).items()}
        return row

    def _numbers(self, inside: slice) -> dict[str, Any]:
        return {f"n_{kind}": round(counts[:, inside].sum()) for kind, counts in self.counts.items()}

    def _ends(self, kind: str, inside: slice) -> dict[str, float]:
        """The interval of the share in some places, where resamples have the kind."""
        if self.bootstrap is None or kind not in self.resampled:
            return {}
        each = (self.counts[kind], self.resampled[kind])
        hits, hits_of = (found[:, inside].sum(axis=1, keepdims=True) for found in each)
        whole, whole_of = (found.sum(axis=1, keepdims=True) for found in each)
        low, high = self.bootstrap.shares(hits, whole, resampled=(hits_of, whole_of))
        return {"_low": float(low[0]), "_high": float(high[0])}


QUERY = Query(
    "position",
    {"metric": metrics("ce", "reverse_kl", "js"), "p": share(0.01), "bins": count(20), "edges": shares(0.05, 0.1, 0.2)},
    needs=("metric",),
    about=ABOUT,
    compute=_compute,
)
