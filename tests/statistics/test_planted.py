"""Planted decision points: detectors against scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.roc import ranking_quality
from tests.statistics.conftest import METRICS, RESAMPLES, bootstrap, random_traces, rows, weighted_top, write_run


def test_golden(store, build):
    # Largest first: 3 (planted), 2 and 2 (one planted), 1, 0 (planted).
    tokens = {"planted": np.array([1, 1, 0, 0, 1], dtype=np.int32), "entropy_base": np.array([1.0, 1, 1, 1, 1])}
    write_run(store, "r", [build["trace"]("r", ce=[3.0, 2.0, 2.0, 1.0, 0.0], tokens=tokens)])
    found = rows(store, "planted", ps=[0.2, 0.4])
    ranking = {row["metric"]: row for row in found if row["part"] == "ranking"}
    assert list(ranking) == ["ce", "entropy_base"]
    assert ranking["ce"]["average_precision"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5)
    # Pairs of a planted with another one: 3 beats both, 2 ties and beats, 0 loses to both.
    assert ranking["ce"]["auroc"] == pytest.approx(3.5 / 6)
    assert (ranking["entropy_base"]["average_precision"], ranking["entropy_base"]["auroc"]) == pytest.approx((3 / 5, 0.5))
    top = [row for row in found if row["part"] == "top" and row["metric"] == "ce"]
    assert [(row["n_tokens"], row["n_planted"], row["n_top"]) for row in top] == [(5, 3, 1), (5, 3, 3)]
    assert [row["precision"] for row in top] == pytest.approx([1, 2 / 3])
    assert [row["recall"] for row in top] == pytest.approx([1 / 3, 2 / 3])
    assert [row["f1"] for row in top] == pytest.approx([0.5, 2 / 3])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_equal_to_scikit_learn(store, seed, p):
    rng = np.random.default_rng(seed)
    traces = random_traces(rng, "r", problems=6)
    write_run(store, "r", traces)
    found = run_query(store, "planted", ps=[p], resamples=RESAMPLES).to_pylist()
    planted = np.concatenate([trace.tokens.planted for trace in traces])
    for metric in METRICS:
        values = np.concatenate([getattr(trace.tokens, metric) for trace in traces])
        ranking, top = [row for row in found if row["metric"] == metric]
        assert ranking["average_precision"] == pytest.approx(average_precision_score(planted, values), abs=1e-9)
        assert ranking["auroc"] == pytest.approx(roc_auc_score(planted, values), abs=1e-9)
        assert ranking["auroc_low"] < ranking["auroc"] < ranking["auroc_high"]
        threshold = np.quantile(values, 1 - p)
        detected = values >= threshold - 1e-12 * threshold
        assert top["precision"] == pytest.approx(precision_score(planted, detected), abs=1e-9)
        assert top["recall"] == pytest.approx(recall_score(planted, detected), abs=1e-9)
        assert top["f1"] == pytest.approx(f1_score(planted, detected), abs=1e-9)
        for name, ends in top_set_ends(traces, values, planted > 0, detected, p).items():
            assert [top[f"{name}_low"], top[f"{name}_high"]] == pytest.approx(ends, abs=1e-9)


def top_set_ends(traces, values, planted, detected, p):
    """The ends of precision, recall and f1, each resample's top set found token by token."""
    problem = np.repeat([int(t.sample.problem_id[1:]) for t in traces], [t.sample.n_tokens for t in traces])
    found = {"precision": [], "recall": [], "f1": []}
    trials = {"precision": detected, "recall": planted, "f1": detected.astype(int) + planted}
    drawn = bootstrap(6)
    one_more = {name: drawn.imaginary(np.bincount(problem, each)[:, None])[:, 0] for name, each in trials.items()}
    for at, weights in enumerate(drawn.weights):
        weight = weights[problem]
        inside = weighted_top(values, weight, p) * weight
        hits, n, wanted = (inside * planted).sum(), inside.sum(), (weight * planted).sum()
        for name, x, size in (("precision", hits, n), ("recall", hits, wanted), ("f1", 2 * hits, n + wanted)):
            one = one_more[name][at]
            found[name].append((x / (size + one), (x + one) / (size + one)))
    few = {name for name, each in trials.items() if len(set(problem[each > 0])) < 5}
    return {
        name: [None, None]
        if name in few
        else [np.quantile(each, place) for each, place in zip(np.transpose(ends), (0.025, 0.975), strict=True)]
        for name, ends in found.items()
    }


def test_classes_are_ties():
    rng = np.random.default_rng(0)
    values, planted = rng.integers(0, 6, 200), rng.random(200) < 0.3
    n, hits = (
        np.array([[(chosen & (values == 5 - c)).sum() for c in range(6)]], float) for chosen in (values >= 0, planted)
    )
    auroc, average_precision = ranking_quality(n, hits)
    assert average_precision[0] == pytest.approx(average_precision_score(planted, values), abs=1e-12)
    assert auroc[0] == pytest.approx(roc_auc_score(planted, values), abs=1e-12)


def test_intervals_are_those_of_a_resample_of_problems(store):
    # With few distinct values the classes are exact, so each replicate is scikit-learn's.
    rng = np.random.default_rng(3)
    traces = random_traces(rng, "r", problems=5, samples=1, longest=30)
    for trace in traces:
        trace.tokens.ce[:] = np.minimum(np.floor(trace.tokens.ce), 3)
    write_run(store, "r", traces)
    ranking = run_query(store, "planted", resamples=RESAMPLES).to_pylist()[0]
    planted, values = (np.concatenate([getattr(t.tokens, name) for t in traces]) for name in ("planted", "ce"))
    problem = np.repeat(np.arange(5), [len(t.tokens.ce) for t in traces])
    planted = planted > 0
    rarer = planted if planted.sum() <= (~planted).sum() else ~planted
    drawn = bootstrap(5)
    ends = {"auroc": [], "average_precision": []}
    for name, score, trials in (
        ("auroc", roc_auc_score, rarer),
        ("average_precision", average_precision_score, planted),
    ):
        one_more = drawn.imaginary(np.bincount(problem, trials)[:, None])[:, 0]
        for weights, one in zip(drawn.weights, one_more, strict=True):
            weight = weights[problem]
            n, value = (weight * trials).sum(), score(planted, values, sample_weight=weight)
            ends[name].append((value * n / (n + one), (value * n + one) / (n + one)))
    for name, found in ends.items():
        expected = [np.quantile(each, place) for each, place in zip(np.transpose(found), (0.025, 0.975), strict=True)]
        assert [ranking[f"{name}_low"], ranking[f"{name}_high"]] == pytest.approx(expected, abs=1e-9)


def test_a_perfect_detector_is_bounded_below_like_one_that_is_nearly_perfect(store, build):
    """AUROC was 1.000 [.982, 1] beside 1.000 [.998, 1]."""
    for run_id, wrong in (("perfect", 0), ("nearly", 1)):
        traces = []
        for i in range(200):
            values = np.r_[2.0 + i / 1000, np.arange(9) / 10]
            if i < wrong:
                values[0] = 0.75
            tokens = {"planted": (np.arange(10) == 0).astype(np.int32), "entropy_base": np.ones(10)}
            traces.append(build["trace"](run_id, f"p{i:03d}", 0, values, tokens=tokens))
        write_run(store, run_id, traces)
    perfect, nearly = (
        next(row for row in run_query(store, "planted", run=run).to_pylist() if row["metric"] == "ce")
        for run in ("perfect", "nearly")
    )
    assert (perfect["auroc"], perfect["auroc_low"], perfect["auroc_high"]) == pytest.approx(
        (1.0, 0.025 ** (1 / 200), 1.0), rel=1e-3
    )
    assert 0.999 < nearly["auroc"] < 1
    assert 0.97 < nearly["auroc_low"] <= perfect["auroc_low"]
    assert nearly["auroc"] < nearly["auroc_high"] <= 1


def test_worlds_without_planted_points_are_refused(store, build):
    write_run(store, "r", [build["trace"]("r")])
    with pytest.raises(UsageError, match="run r: its problems have no planted decision points"):
        run_query(store, "planted")


def test_a_run_without_a_planted_token_is_refused(store, build):
    tokens = {"planted": np.zeros(3, dtype=np.int32)}
    write_run(store, "r", [build["trace"]("r", tokens=tokens)])
    with pytest.raises(UsageError, match="Run r has 0 planted decision points and 3 other tokens"):
        run_query(store, "planted")
