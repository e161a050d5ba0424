"""What is computed block by block, so that many tokens need little memory, does not depend on where a block ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from rrti_sgl.statistics import correlation, ranking, roc
from rrti_sgl.statistics.ranking import RankBins, Ranking


def test_quality_of_a_ranking(monkeypatch):
    rng = np.random.default_rng(1)
    values, positive, weights = rng.integers(0, 40, 300), rng.random(300) < 0.3, rng.gamma(2, size=(3, 300))
    classes = np.arange(40)[::-1] == values[:, None]
    cases, hits = (weights @ (classes & each[:, None]) for each in (np.ones(300, dtype=bool), positive))
    monkeypatch.setattr(roc, "_CELLS", 3 * 7)
    found = roc.ranking_quality(cases, hits)
    for each, score in zip(found, (roc_auc_score, average_precision_score), strict=True):
        assert each == pytest.approx([score(positive, values, sample_weight=one) for one in weights], abs=1e-12)


def test_rank_correlation(monkeypatch):
    monkeypatch.setattr(correlation, "_BLOCK", 1000)
    rng = np.random.default_rng(2)
    x = rng.integers(0, 900, 5000).astype(float)
    y = x + rng.normal(0, 300, 5000).round()
    ranks = [Ranking.of(each).twice_ranks for each in (x, y)]
    assert correlation.spearman(*ranks) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    groups = rng.integers(0, 2, 5000).astype(np.int32)
    counts = correlation.rank_counts(*ranks, groups, 2)
    n = correlation.RANK_BINS
    bins = [np.floor((each / 2 - 0.5) * n / 5000).astype(int) for each in ranks]
    expected = np.zeros((2, n, n))
    np.add.at(expected, (groups, *bins), 1)
    np.testing.assert_array_equal(counts, expected)


def test_bins_of_ranks(monkeypatch):
    values = np.random.default_rng(3).exponential(size=3000).round(3)
    whole = RankBins.fine_at_the_top(Ranking.of(values), 8)
    monkeypatch.setattr(ranking, "_BLOCK", 7)
    parts = RankBins.fine_at_the_top(Ranking.of(values), 8)
    np.testing.assert_array_equal(parts.edges, whole.edges)
    np.testing.assert_array_equal(parts.tied, whole.tied)
