"""Drafts of two servers are as long as is cheapest at the rate at which takeovers change tokens."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.decoding.draft_pace import ROUND, DraftPace
from rrti_sgl.programs.running.session import Concurrency
from tests.decoded import decode
from tests.decoding.test_conformance import GATES, make_job, options
from tests.toy_pair import toy_pair


def cost(rate: float, length: int) -> float:
    """Drafted tokens that a kept one costs, in the long run."""
    return (ROUND + length) / sum((1 - rate) ** before for before in range(length))


def seen(rate: float, tokens: int = 20_000) -> DraftPace:
    """What is known after so many tokens, of which such a share was changed."""
    pace, random = DraftPace(), np.random.default_rng(0)
    while tokens > 0:
        tokens -= (kept := min(int(random.geometric(rate)), 10))
        pace.add(kept, changed=kept < 10)
    return pace


@given(st.integers(1, 200))
def test_before_anything_is_known_drafts_have_the_given_length(most: int) -> None:
    assert DraftPace().length(most) == most


@pytest.mark.parametrize("rate", [0.03, 0.07, 0.12, 0.3, 0.6])
def test_a_draft_is_about_as_cheap_as_the_best_one(rate: float) -> None:
    found = seen(rate).length(12)
    assert cost(rate, found) < 1.03 * min(cost(rate, length) for length in range(1, 13))


def test_what_is_never_changed_is_drafted_to_the_end() -> None:
    pace = DraftPace()
    pace.add(10_000, changed=False)
    assert pace.length(12) == 12


def test_what_lies_back_is_forgotten() -> None:
    pace = seen(0.5)
    short = pace.length(12)
    pace.add(20_000, changed=False)
    assert short < 4 < pace.length(12) == 12


def test_samples_of_a_gate_learn_from_each_other_and_throw_less_away() -> None:
    jobs = [make_job(seed) for seed in range(40)]

    def decoded(*, paced: bool) -> tuple[list[list[int]], float, list[int]]:
        pair, chosen = toy_pair(), options(draft_tokens=12, paced=paced)
        traces = asyncio.run(decode(pair, jobs, GATES["ce, often"], chosen, concurrency=Concurrency(4)))
        asked = [request.max_new_tokens for request in pair.base.requests]  # type: ignore[attr-defined]
        away = sum(trace.discarded for trace in traces) / sum(trace.drafted for trace in traces)
        return [trace.token_ids for trace in traces], away, asked

    tokens, fixed, lengths = decoded(paced=False)
    paced_tokens, paced, paced_lengths = decoded(paced=True)
    assert paced_tokens == tokens
    assert paced < 0.7 * fixed
    assert max(lengths) == max(paced_lengths[:4]) == 12 > 2 * max(paced_lengths[-20:])
