"""Planted decision points: detectors against scikit-learn, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from rrti_sgl.db.analysis.planted import ranking_quality
from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.statistics.conftest import METRICS, RESAMPLES, percentiles, random_traces, rows, write_run


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
    traces = random_traces(rng, "r", problems=4)
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
        ends = np.cumsum([sum(t.sample.n_tokens for t in traces[i : i + 3]) for i in range(0, 12, 3)])[:-1]
        hits, wanted = ([part.sum() for part in np.split(mask, ends)] for mask in (planted & detected, planted))
        assert [top["recall_low"], top["recall_high"]] == pytest.approx(percentiles(hits, wanted), abs=1e-9)


def test_classes_are_ties():
    rng = np.random.default_rng(0)
    values, planted = rng.integers(0, 6, 200), rng.random(200) < 0.3
    n, hits = (np.array([[(chosen & (values == 5 - c)).sum() for c in range(6)]]) for chosen in (values >= 0, planted))
    average_precision, auroc = ranking_quality(n, hits)
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
    found = []
    for weights in ProblemBootstrap(5, seed=0, n=RESAMPLES).counts:
        drawn = [traces[i].tokens for i in np.repeat(np.arange(5), weights.astype(int))]
        planted, values = (np.concatenate([getattr(tokens, name) for tokens in drawn]) for name in ("planted", "ce"))
        if 0 < planted.sum() < len(planted):
            found.append(roc_auc_score(planted, values))
    assert [ranking["auroc_low"], ranking["auroc_high"]] == pytest.approx(np.quantile(found, [0.025, 0.975]), abs=1e-9)


def test_worlds_without_planted_points_are_refused(store, build):
    write_run(store, "r", [build["trace"]("r")])
    with pytest.raises(UsageError, match="run r: its problems have no planted decision points"):
        run_query(store, "planted")


def test_a_run_without_a_planted_token_is_refused(store, build):
    tokens = {"planted": np.zeros(3, dtype=np.int32)}
    write_run(store, "r", [build["trace"]("r", tokens=tokens)])
    with pytest.raises(UsageError, match="Run r has 0 planted decision points and 3 other tokens"):
        run_query(store, "planted")
