"""Top sets whose threshold is found again in every resample: token by token, with ties, and in coarse bins."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.statistics.ranking import RankBins, Ranking
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import ResampledScores
from tests.statistics.conftest import weighted_top


def tokens(seed: int, n: int, problems: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related scores, on a grid of eighths where there are to be ties, and the problem of each token."""
    rng = np.random.default_rng(seed)
    problem = np.sort(rng.integers(0, problems, n)).astype(np.int32)
    x = rng.exponential(1.0, n) * np.exp(rng.normal(0, 0.5, problems))[problem]
    y = x + rng.exponential(1.0, n)
    return (*((np.round(8 * each) / 8 if ties else each) for each in (x, y)), problem)


def resampled(scores: np.ndarray, problem: np.ndarray, bootstrap: ProblemBootstrap) -> ResampledScores:
    """The scores of tokens that come in two parts."""
    parts = [slice(0, len(scores) // 3), slice(len(scores) // 3, None)]
    return ResampledScores(Ranking.of(scores), lambda: ((problem[part], scores[part]) for part in parts), bootstrap)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("p", [0.03, 0.3, 0.9])
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_taking_tokens_one_by_one(seed, p, ties):
    x, y, problem = tokens(seed, 90, 7, ties=ties)
    bootstrap = ProblemBootstrap(7, n=60)
    first, second = (resampled(each, problem, bootstrap).top(p) for each in (x, y))
    codes = np.arange(90) % 4 - 1
    having = first.having([(problem, x, codes, None)], 3)
    both = first.both(second, [(problem, x, y)])
    for at, weights in enumerate(bootstrap.weights):
        in_x, in_y = (weighted_top(each, weights[problem], p) for each in (x, y))
        weight = in_x * weights[problem]
        assert first.n[at] == pytest.approx(weight.sum(), rel=1e-9)
        assert having[at] == pytest.approx([weight[codes == code].sum() for code in range(3)], rel=1e-9, abs=1e-9)
        assert both[at] == pytest.approx((weight * in_y).sum(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("p", [0.01, 0.08])
def test_bins_of_several_scores_cost_little(p):
    """20,000 tokens, more than there are bins: each resample within a hundredth of what it is token by token."""
    x, y, problem = tokens(5, 20_000, 40, ties=False)
    bootstrap = ProblemBootstrap(40, n=40)
    first, second = (resampled(each, problem, bootstrap).top(p) for each in (x, y))
    both = first.both(second, [(problem, x, y)])
    for at, weights in enumerate(bootstrap.weights):
        in_x, in_y = (weighted_top(each, weights[problem], p) for each in (x, y))
        assert both[at] == pytest.approx((in_x * in_y * weights[problem]).sum(), rel=0.01)


def test_weights_of_one_give_the_top_set_of_the_data():
    x, _, problem = tokens(2, 500, 20, ties=False)
    bootstrap = ProblemBootstrap(20, n=2)
    bootstrap._drawn = (np.ones((2, 20)), bootstrap._drawn[1])
    for p in (0.01, 0.2):
        chosen = Ranking.of(x).in_top(x, p)
        top = resampled(x, problem, bootstrap).top(p)
        assert top.n[0] == pytest.approx(chosen.sum())
        assert chosen.sum() == (x >= np.quantile(x, 1 - p)).sum()


def test_bins_keep_ties_together():
    values = np.r_[np.arange(300) + 2.0, np.ones(500), np.zeros(200)]
    ranking = Ranking.of(values)
    bins = RankBins.fine_at_the_top(ranking, 16)
    descending = np.sort(values)[::-1]
    of_value = bins.of(descending)
    assert (np.diff(of_value) >= 0).all()
    assert of_value[:16].tolist() == list(range(16))
    for value in (1.0, 0.0):
        [number] = set(of_value[descending == value].tolist())
        assert bins.tied[number]
        assert (of_value == number).sum() == (values == value).sum()
    assert not bins.tied[of_value[:300]].any()
    even = RankBins.even(ranking, 0, 300, 10)
    assert np.bincount(even.of(descending[:300])).tolist() == [30] * 10
