"""What is computed block by block, so that memory does not grow with tokens, does not depend on where a block ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from rrti_sgl.db.analysis import token_values
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.statistics import blocks, ranking, roc
from rrti_sgl.statistics.blocks import Blocks, problem_sums
from rrti_sgl.statistics.correlation import RANK_BINS, rank_counts, spearman
from rrti_sgl.statistics.lorenz import LorenzBins, LorenzCurve
from rrti_sgl.statistics.ranking import RankBins, Ranking
from tests.statistics.conftest import random_traces, write_run


@pytest.fixture
def small(monkeypatch):
    """Blocks of 64 numbers."""
    monkeypatch.setattr(blocks, "BLOCK", 64)
    monkeypatch.setattr(ranking, "BLOCK", 64)
    monkeypatch.setattr(ranking, "_EVERY", 4)


def parts_of(values, n=9):
    return np.array_split(values, n)


def test_a_column_in_a_file(small):
    found, parts = Blocks(), parts_of(np.arange(300.0))
    for part in parts:
        found.append(part)
    assert found._file is not None
    assert (len(found), found.nbytes) == (9, 2400)
    for mine, part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(mine, part)
    np.testing.assert_array_equal(found.part(2, 3, 7), parts[2][3:7])


def test_a_full_disk_is_an_error_that_says_what_to_do(small):
    found = Blocks()
    found._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with found._file, pytest.raises(StoreError, match="No space left") as raised:
        found.append(np.arange(100.0))
    assert "TMPDIR" in str(raised.value)


@pytest.mark.parametrize("distinct", [3, 40, 100_000])
def test_an_order_of_many_blocks(small, distinct):
    values = np.random.default_rng(distinct).integers(0, distinct, 2000) / 8
    whole = Ranking.of_parts(map(np.sort, parts_of(values)))
    assert (len(whole.values) > 1) == (distinct > 3)
    ordered = np.sort(values)
    assert whole.n == 2000
    assert [whole.at(place) for place in (0, 7, 1000, 1999)] == ordered[[0, 7, 1000, 1999]].tolist()
    np.testing.assert_array_equal(whole.twice_ranks(ordered), 2 * rankdata(ordered))
    found = [np.concatenate(each) for each in zip(*whole.descending(), strict=True)]
    np.testing.assert_array_equal(np.repeat(found[0], found[1]), ordered[::-1])
    np.testing.assert_array_equal(found[2], [(values > value).sum() for value in found[0]])
    np.testing.assert_array_equal(whole.in_top(values, 0.05), values >= np.quantile(values, 0.95) * (1 - 1e-12))
    np.testing.assert_array_equal(whole.counts_of(np.array([-1.0, ordered[9], 1e9])), [0, (values == ordered[9]).sum(), 0])


@pytest.mark.parametrize("decimals", [1, 3, 12])
def test_bins_of_ranks(small, decimals):
    values = np.random.default_rng(3).exponential(size=3000).round(decimals)
    parts, whole = Ranking.of_parts(map(np.sort, parts_of(values, 40))), Ranking.of(values)
    first, last = (int((values > np.quantile(values, q)).sum()) for q in (0.9, 0.6))
    for mine, expected in (
        (RankBins.fine_at_the_top(parts, 8), RankBins.fine_at_the_top(whole, 8)),
        (RankBins.even(parts, first, last, 30), RankBins.even(whole, first, last, 30)),
    ):
        for name in ("edges", "tied", "lows", "highs"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(expected, name))


def test_quality_of_a_ranking(monkeypatch, small):
    rng = np.random.default_rng(1)
    values, positive, weights = rng.integers(0, 40, 300), rng.random(300) < 0.3, rng.gamma(2, size=(3, 300))
    classes = np.arange(40)[::-1] == values[:, None]
    cases, hits = (weights @ (classes & each[:, None]) for each in (np.ones(300, dtype=bool), positive))
    monkeypatch.setattr(roc, "_CELLS", 3 * 7)
    found = roc.ranking_quality(cases, hits)
    for each, score in zip(found, (roc_auc_score, average_precision_score), strict=True):
        assert each == pytest.approx([score(positive, values, sample_weight=one) for one in weights], abs=1e-12)
    many = rng.integers(0, 500, 3000) / 4
    some = rng.random(3000) < 0.2
    found = roc.quality_of(*(Ranking.of_parts(map(np.sort, parts_of(of))) for of in (many, many[some])))
    for each, score in zip(found, (roc_auc_score, average_precision_score), strict=True):
        assert each == pytest.approx([score(some, many)], abs=1e-12)


def test_concentration(small):
    values = np.random.default_rng(5).exponential(size=3000).round(2) ** 3
    whole, parts = LorenzBins.of(values), LorenzCurve(Ranking.of_parts(map(np.sort, parts_of(values))))
    assert parts.gini() == pytest.approx(whole.gini(), rel=1e-12)
    for level in (0.0001, 0.01, 0.3, 0.5, 0.94, 0.999, 1.0):
        for name in ("carried", "carried_by_top", "tokens_carrying"):
            assert getattr(parts, name)(level) == pytest.approx(getattr(whole, name)(level), rel=1e-12), (name, level)


def test_rank_correlation():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 900, 5000).astype(float)
    y = x + rng.normal(0, 300, 5000).round()
    groups = rng.integers(0, 2, 5000)
    ranks = [(2 * rankdata(each)).astype(int) for each in (x, y)]
    parts = list(zip(*map(parts_of, (groups, *ranks)), strict=True))
    assert spearman(5000, parts) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    bins = [np.floor((each / 2 - 0.5) * RANK_BINS / 5000).astype(int) for each in ranks]
    expected = np.zeros((2, RANK_BINS, RANK_BINS))
    np.add.at(expected, (groups, *bins), 1)
    np.testing.assert_array_equal(rank_counts(5000, parts, 2), expected)


def test_sums_by_problem():
    parts = [(np.array([4, 3, 4]), np.array([0, -1, 1]), None), (np.array([0]), np.array([1]), np.array([2.5]))]
    assert problem_sums(parts, 5, 2).tolist() == [[0, 2.5], [0, 0], [0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("mixed", "keys"), [(False, "hash(sample_id)"), (True, "hash(sample_id)"), (False, "hash(sample_id) % 2")]
)
def test_statistics_do_not_depend_on_blocks(store, monkeypatch, mixed, keys):
    """Nor on whether the tokens of a sample stand together, or the hashes of samples differ."""
    traces = random_traces(np.random.default_rng(4), "r", problems=8, longest=30, fires=0.0)
    for trace in traces:
        trace.tokens.planning_tag[:] = np.random.default_rng(len(trace.tokens.ce)).choice(
            np.array([None, "goal", "revision"]), len(trace.tokens.ce)
        )
    write_run(store, "r", traces)
    names = ("sparsity", "position", "uncertainty", "planning", "metrics", "planted", "calibration", "failure")

    def made():
        found = {}
        for name in names:
            try:
                found[name] = run_query(store, name, run="r", resamples=50).to_pylist()
            except UsageError as error:
                found[name] = str(error)
        return found

    whole = made()
    assert sum(isinstance(each, list) for each in whole.values()) >= 7, whole
    if mixed:
        with store.writing("r") as cursor:
            for table in ("compact_tokens", "exact_tokens"):
                cursor.execute(f"CREATE TEMP TABLE mixed AS FROM {table} ORDER BY position, sample_id")
                cursor.execute(f"DELETE FROM {table}")
                cursor.execute(f"INSERT INTO {table} FROM mixed")
                cursor.execute("DROP TABLE mixed")
    for module in (blocks, ranking, token_values):
        monkeypatch.setattr(module, "BLOCK", 40)
    monkeypatch.setattr(token_values, "_SAMPLE_KEYS", (keys, "sample_id"))
    monkeypatch.setattr(ranking, "_EVERY", 4)
    for name, rows in made().items():
        for mine, expected in zip(rows, whole[name], strict=True):
            assert mine == {
                k: pytest.approx(v, rel=1e-9, abs=1e-12) if isinstance(v, float) else v for k, v in expected.items()
            }
