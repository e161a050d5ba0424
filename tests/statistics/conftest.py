"""Stores for the statistics: a file for each test, and runs drawn at random with many equal values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.records import SampleTrace
from rrti_sgl.statistics.resampling import ProblemBootstrap
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace

RESAMPLES = 200
METRICS = ("ce", "kl", "reverse_kl", "js", "tv", "entropy_base")


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Iterator[Store]:
    path = tmp_path / "traces.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as opened:
        yield opened


@pytest.fixture
def build() -> dict[str, Callable[..., Any]]:
    """The builders of records, by the name of what they build."""
    return {"run": make_run, "trace": make_trace, "problem": make_problem, "calibration": make_calibration}


def rows(store: Store, name: str, **params: Any) -> list[dict[str, Any]]:
    """The rows of a statistic without intervals."""
    return run_query(store, name, resamples=0, **params).to_pylist()


def pooled(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows but those of top sets within samples."""
    return [row for row in found if row["within"] != "sample"]


def random_traces(
    rng: np.random.Generator, run_id: str, *, problems: int = 5, samples: int = 3, fires: float = 0.3, longest: int = 14
) -> list[SampleTrace]:
    """Samples of up to `longest` tokens, with takeovers and planted flags; scores are eighths: exact in the store."""
    return [
        random_trace(rng, run_id, f"p{problem}", sample, fires, longest)
        for problem in range(problems)
        for sample in range(samples)
    ]


def random_trace(
    rng: np.random.Generator, run_id: str, problem: str, index: int, fires: float = 0.3, longest: int = 14
) -> SampleTrace:
    length = int(rng.integers(1, longest + 1))
    fired = rng.random(length) < fires
    base_ids = np.where(fired, rng.integers(10, 13, length), np.arange(length) + 10).astype(np.int32)
    base_ids[fired & (rng.random(length) < 0.2)] = -1
    tokens: dict[str, Any] = {name: np.round(rng.exponential(8.0, length)) / 8 for name in METRICS}
    tokens |= {
        "token_id": np.where(fired, rng.integers(10, 13, length), np.arange(length) + 10).astype(np.int32),
        "fired": fired,
        "base_token_id": base_ids,
        "planted": (rng.random(length) < 0.3).astype(np.int32),
        "score": tokens["ce"],
    }
    sums = {name: int(rng.integers(1, 50)) for name in ("base_calls", "reasoning_calls", "tokens_drafted", "tokens_scored")}
    ce = tokens.pop("ce")
    return make_trace(
        run_id,
        problem,
        index,
        ce,
        correct=bool(rng.random() < 0.5),
        tokens=tokens,
        **sums,
        base_prompt_tokens=int(rng.integers(50, 200)),
        base_cached_tokens=int(rng.integers(0, 50)),
        reasoning_prompt_tokens=int(rng.integers(100, 200)),
        reasoning_cached_tokens=int(rng.integers(0, 100)),
        tokens_discarded=int(rng.integers(0, 9)),
        base_ms=float(rng.random()),
        reasoning_ms=float(rng.random()),
        wall_ms=float(rng.random() + 2),
    )


def write_run(store: Store, run_id: str, traces: Sequence[SampleTrace], **changes: Any) -> None:
    """A run with its samples."""
    store.begin_run(make_run(run_id, **changes))
    store.write_samples(list(traces))


def bootstrap(n: int, *, exact: bool = False) -> ProblemBootstrap:
    """The resamples that a statistic draws when it is asked for `RESAMPLES`."""
    return ProblemBootstrap(n, n=RESAMPLES, exact=exact)


def ratio_ends(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ends of sum(above) / sum(below), each (P,) by sorted problem, one resample after the other."""
    found = []
    for weights in bootstrap(len(above)).weights:
        found.append(sum(w * a for w, a in zip(weights, above, strict=True)) / np.dot(weights, below))
    return [float(value) for value in np.quantile(found, [0.025, 0.975])]


def share_ends(
    hits: Sequence[float], trials: Sequence[float], *, unit: float = 1.0, exact: bool = False, low: float = 0.0
) -> list[float]:
    """Ends of sum(hits) / sum(trials) with one more trial, `low` for the low end and 1 for the high end."""
    drawn = bootstrap(len(hits), exact=exact)
    one_more = unit * drawn.imaginary(np.array(trials, dtype=float)[:, None])[:, 0]
    ends = []
    for value, place in ((low, 0.025), (1.0, 0.975)):
        found = [
            (np.dot(w, hits) + value * one) / (np.dot(w, trials) + one)
            for w, one in zip(drawn.weights, one_more, strict=True)
        ]
        ends.append(float(np.quantile(found, place)))
    return ends


def weighted_top(values: np.ndarray, weights: np.ndarray, p: float) -> np.ndarray:
    """(N,) how much of each token's weight is in the top-p set of a resample, found token by token; ties are all in."""
    n = len(values)
    part = 1 - np.ceil((n - 1) * (1 - p) * (1 - 1e-12)) / n
    wanted, inside, reached = part * weights.sum(), np.zeros(n), 0.0
    for value in sorted(set(values.tolist()), reverse=True):
        tied = values == value
        weight = weights[tied].sum()
        if reached + weight >= wanted * (1 - 1e-12):
            inside[tied] = 1.0 if tied.sum() > 1 else (wanted - reached) / weight
            break
        inside[tied], reached = 1.0, reached + weight
    return inside
