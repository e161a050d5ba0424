"""Cost: totals, per token, and what the radix caches saved."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from tests.statistics.conftest import RESAMPLES, random_traces, ratio_ends, rows, write_run


def test_golden(store, build):
    # The base server was sent 40 tokens in 4 calls: 36 are prefix, of which 30 came from its cache.
    sample = {"base_calls": 4, "base_prompt_tokens": 40, "base_cached_tokens": 30}
    # The reasoning server was sent 50 in 2 calls to score 8: 40 are prefix; all came from its cache, and one more.
    sample |= {"reasoning_calls": 2, "reasoning_prompt_tokens": 50, "tokens_scored": 8, "reasoning_cached_tokens": 41}
    sample |= {"tokens_drafted": 10, "tokens_discarded": 4, "wall_ms": 9.0, "base_ms": 5.0, "reasoning_ms": 1.0}
    write_run(store, "r", [build["trace"]("r", ce=[1.0] * 5, **sample)])
    found = {row["quantity"]: (row["total"], row["per_token"], row["share"]) for row in rows(store, "cost")}
    assert len(found) == 18
    assert found["generated tokens"] == (5, 1, None)
    assert found["base prefix tokens"] == (36, 7.2, None)
    assert found["base recomputed tokens"] == pytest.approx((6, 1.2, 6 / 36))
    assert found["base cached tokens"] == pytest.approx((30, 6, 30 / 40))
    assert found["reasoning recomputed tokens"] == (0, 0, 0)
    assert found["discarded tokens"] == pytest.approx((4, 0.8, 0.4))
    assert found["other ms"] == pytest.approx((3, 0.6, None))


def test_no_calls_is_no_share(store, build):
    nothing = {"reasoning_calls": 0, "reasoning_prompt_tokens": 0, "reasoning_cached_tokens": 0, "tokens_scored": 0}
    write_run(store, "r", [build["trace"]("r", **nothing)])
    shares = {row["quantity"]: row["share"] for row in rows(store, "cost")}
    assert shares["reasoning cached tokens"] is shares["reasoning recomputed tokens"] is None
    (row,) = [row for row in run_query(store, "cost").to_pylist() if row["quantity"] == "wall ms"]
    assert row["per_token_low"] is None, "one problem has no interval"


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_an_independent_computation(store, seed):
    rng = np.random.default_rng(seed)
    runs = {run_id: random_traces(rng, run_id, problems=6) for run_id in ("x", "y")}
    for run_id, traces in runs.items():
        write_run(store, run_id, traces)
    found = run_query(store, "cost", run=["y", "x"], resamples=RESAMPLES).to_pylist()
    assert list(dict.fromkeys(row["run_id"] for row in found)) == ["y", "x"]
    for row in found:
        samples = [trace.sample for trace in runs[row["run_id"]]]
        computed = [s.reasoning_prompt_tokens - s.reasoning_calls - s.tokens_scored for s in samples]
        expected = {
            "wall ms": ([s.wall_ms for s in samples], None),
            "base cached tokens": ([s.base_cached_tokens for s in samples], [s.base_prompt_tokens for s in samples]),
            "discarded tokens": ([s.tokens_discarded for s in samples], [s.tokens_drafted for s in samples]),
            "reasoning recomputed tokens": (
                [max(0, prefix - s.reasoning_cached_tokens) for prefix, s in zip(computed, samples, strict=True)],
                computed,
            ),
        }
        if row["quantity"] not in expected:
            continue
        total, whole = expected[row["quantity"]]
        tokens = [s.n_tokens for s in samples]
        assert row["total"] == pytest.approx(sum(total), abs=1e-9)
        assert row["per_token"] == pytest.approx(sum(total) / sum(tokens), abs=1e-9)
        of_problem = [[sum(values[i : i + 3]) for i in range(0, 18, 3)] for values in (total, tokens)]
        assert [row["per_token_low"], row["per_token_high"]] == pytest.approx(ratio_ends(*of_problem), abs=1e-9)
        if whole is not None:
            assert row["share"] == pytest.approx(sum(total) / sum(whole), abs=1e-9)
