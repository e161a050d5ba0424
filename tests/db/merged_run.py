"""A run that several processes write, each the same samples as any other would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rrti_sgl.records import ProblemRecord, RunRecord, SampleTrace
from tests.db.conftest import make_problem, make_run, make_trace


def problems() -> list[ProblemRecord]:
    return [make_problem(f"p{number}", metadata={"number": number}) for number in range(7)]


def record() -> RunRecord:
    return make_run(n_problems=7, samples_per_problem=9, vocab_size=500, k=5)


def trace(index: int) -> SampleTrace:
    """Lists, takeovers and NULLs; sample 11 has a number that does not fit the compact layout."""
    draws = np.random.default_rng(index)
    n = 1 + 37 * index % 230
    ce = draws.exponential(size=n)
    fired = ce > 0.5
    ids = np.array([draws.permutation(500)[:5] for _ in range(n)], dtype=np.int32)
    logprobs = np.sort(np.log(draws.dirichlet(np.ones(8), n)[:, :5]))[:, ::-1].astype(np.float32)
    reasoning = ids[:, ::-1].copy()
    reasoning[::3] = -1
    asked = reasoning >= 0
    some: Callable[[Any], Any] = lambda values: np.where(draws.random(n) < 0.8, values, np.nan)  # noqa: E731
    tokens = {
        "fired": fired,
        "kl": some(ce / 3) if index != 11 else np.full(n, 1e-300),
        "js": some(ce / 9),
        "base_logprob": some(-ce),
        "planning_tag": ["plan" if number % 5 == 0 else None for number in range(n)],
        "token_text": [f"tö{number}" for number in range(n)],
        "base_topk_ids": ids,
        "base_topk_logprobs": logprobs,
        "reasoning_topk_ids": reasoning,
        "reasoning_topk_logprobs": np.where(asked, logprobs, np.nan).astype(np.float32),
    }
    return make_trace(problem_id=f"p{index % 7}", index=index // 7, ce=ce, tokens=tokens, answer=None, correct=None)
