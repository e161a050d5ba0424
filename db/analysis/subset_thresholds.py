"""Thresholds of nested subsets of a run's samples: exact, in two passes over its tokens, however many they are.

The first pass counts the tokens of each subset, and sums their scores, in bins of rank. It tells the bin in which the
threshold lies; the second takes the scores of those bins alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.records import FloatArray
from rrti_sgl.science.calibration import most_above
from rrti_sgl.statistics.ranking import RankBins
from rrti_sgl.statistics.top_sets import FINENESS, Codes


@dataclass(frozen=True, slots=True)
class SubsetThresholds:
    """What `rrti_sgl.science.calibration.calibrate` finds of the scores of some samples; no lambda_ if their mean is 0."""

    share: float
    n_samples: int
    n_tokens: int
    tau: float
    lambda_: float | None


def subset_thresholds(
    tokens: TokenValues, name: str, orders: Sequence[Codes], shares: Sequence[float], spike_ratio: float
) -> list[list[SubsetThresholds]]:
    """Of each order, the thresholds by its first samples, in as many shares; those that no score is above are left out.

    Args:
        tokens: all have the score.
        name: of the score.
        orders: (S,) numbers of all samples, in some order each; samples without tokens do not count.
        shares: of the samples.
        spike_ratio: r.
    """
    scored = np.zeros(len(tokens.problems), dtype=np.bool_)
    for block in tokens.blocks(name):
        scored[block.sample] = True
    ends = np.ceil(np.array(shares) * np.count_nonzero(scored)).astype(np.int64)
    bins = RankBins.fine_at_the_top(tokens.ranking(name), FINENESS)
    narrow = np.argsort(ends, kind="stable")
    # Of each order, and each sample: the smallest of the subsets that it is in, by their sizes.
    within = np.zeros((len(orders), len(scored)), dtype=np.int64)
    for level, order in zip(within, orders, strict=True):
        level[order[scored[order]]] = np.searchsorted(ends[narrow], np.arange(1, np.count_nonzero(scored) + 1))
    counts, masses = _in_bins(tokens, name, within, bins, len(shares) + 1)
    above = np.array([[most_above(int(n), spike_ratio) for n in of_order] for of_order in counts.sum(axis=2)])
    reached = counts.cumsum(axis=2)
    at = (reached > above[..., None]).argmax(axis=2)
    samples, scores = _scores_of(tokens, name, bins, at)
    found: list[list[SubsetThresholds]] = [[] for _ in orders]
    for which, level in enumerate(within):
        for place, size in enumerate(narrow):
            bin_, n_tokens = at[which, place], int(reached[which, place, -1])
            before = int(reached[which, place, bin_ - 1]) if bin_ else 0
            inside = np.sort(scores[(bins.of(scores) == bin_) & (level[samples] <= place)])[::-1]
            tau = float(inside[above[which, place] - before]) if len(inside) else float(bins.lows[bin_])
            spikes = inside[inside > tau]
            n_spikes = before + len(spikes)
            if n_spikes:
                mean = masses[which, place].sum() / n_tokens
                spike = (masses[which, place, :bin_].sum() + spikes.sum()) / n_spikes
                lambda_ = float(spike / mean) if mean else None
                found[which].append(SubsetThresholds(shares[size], int(ends[size]), n_tokens, tau, lambda_))
    return found


def _in_bins(tokens: TokenValues, name: str, within: Codes, bins: RankBins, n_levels: int) -> tuple[FloatArray, FloatArray]:
    """(O, L, n_bins) tokens, and their mass, of each order's subsets, from the smallest on."""
    width = len(bins.tied)
    counts, masses = np.zeros((2, len(within), n_levels * width))
    for block in tokens.blocks(name):
        places = bins.of(block[name])
        for which, level in enumerate(within):
            cells = level[block.sample] * width + places
            counts[which] += np.bincount(cells, minlength=n_levels * width)
            masses[which] += np.bincount(cells, block[name], n_levels * width)
    shaped = (each.reshape(len(within), n_levels, width)[:, :-1].cumsum(axis=1) for each in (counts, masses))
    of_counts, of_masses = shaped
    return of_counts, of_masses


def _scores_of(tokens: TokenValues, name: str, bins: RankBins, wanted: Codes) -> tuple[Codes, FloatArray]:
    """The tokens in those of some bins that hold more than one value: the sample and the score of each."""
    is_wanted = np.zeros(len(bins.tied), dtype=np.bool_)
    is_wanted[wanted] = True
    is_wanted &= bins.lows < bins.highs
    found = []
    for block in tokens.blocks(name):
        chosen = is_wanted[bins.of(block[name])]
        found.append((block.sample[chosen], block[name][chosen]))
    samples, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    return samples, scores
