"""The state of one scored sample on models whose every distribution is known."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions, GivenContinuation, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import NeverGate
from rrti_sgl.science.metrics import METRICS
from tests.decoded import decode
from tests.toy_pair import STOP, VOCAB_SIZE, ToyEngine, toy_pair

GIVEN = (3, 5, 2, 2, 6, STOP)


def scored(pair: object, *, k: int, metric: str = "ce", exact: bool = False) -> TraceBuilder:
    given = GivenContinuation(GIVEN, "stop")
    job = SampleJob("r", ProblemRecord("p", "s", "q", None), 0, 0, "1", [1, 4], "2", [2], given=given)
    options = DecodeOptions(k, len(GIVEN), Sampling(), frozenset({STOP}), draft_tokens=len(GIVEN), exact=exact)

    async def go() -> TraceBuilder:
        [trace] = await decode(pair, [job], NeverGate(metric), options, concurrency=Concurrency(2))
        return trace

    return asyncio.run(go())


def distributions(endpoint: ToyEngine, prompt: list[int]) -> Distributions:
    """What a model says at every position of the continuation, asked one prefix at a time."""
    ids = [*prompt, *GIVEN]
    return Distributions.concatenate([endpoint.distribution(ids[:at], VOCAB_SIZE) for at in range(len(prompt), len(ids))])


@pytest.mark.parametrize("metric", ["ce", "js", "entropy_base"])
def test_every_position_is_scored_under_its_own_prompt(metric: str) -> None:
    pair = toy_pair()
    trace = scored(pair, k=VOCAB_SIZE, metric=metric)
    base, reasoning = distributions(pair.base, [1, 4]), distributions(pair.reasoning, [2])
    assert tuple(trace.token_ids) == GIVEN
    assert set(trace.sources) == {"base"}
    np.testing.assert_allclose([d.score for d in trace.decisions], METRICS[metric](base, reasoning).value)
    assert not any(decision.fired for decision in trace.decisions)
    np.testing.assert_allclose(trace.base_logprobs, base.logprob_of(np.asarray(GIVEN)))
    np.testing.assert_allclose(trace.reasoning_logprobs, reasoning.logprob_of(np.asarray(GIVEN)))
    np.testing.assert_allclose(trace.metrics()["tv"], METRICS["tv"](base, reasoning).value)
    assert (trace.finish_reason, trace.scored, trace.drafted) == ("stop", len(GIVEN), 0)


def test_each_model_prefills_the_whole_sequence_once() -> None:
    pair = toy_pair()
    scored(pair, k=3)
    [base], [reasoning] = pair.base.requests, pair.reasoning.requests
    assert (list(base.input_ids), base.score_from, base.max_new_tokens) == ([1, 4, *GIVEN], 2, 0)
    assert (list(reasoning.input_ids), reasoning.score_from, reasoning.max_new_tokens) == ([2, *GIVEN], 1, 0)


def test_the_plugin_is_asked_for_the_reasoning_model_at_the_base_models_list() -> None:
    pair = toy_pair()
    trace, full = scored(pair, k=2, exact=True), scored(toy_pair(), k=VOCAB_SIZE)
    np.testing.assert_allclose(trace.metrics()["entropy_base"], full.metrics()["entropy_base"], rtol=1e-5)
    np.testing.assert_allclose(trace.metrics()["entropy_reasoning"], full.metrics()["entropy_reasoning"], rtol=1e-5)
    named = pair.reasoning.requests[-1].named_ids  # the first was the session's probe
    assert named is not None
    np.testing.assert_array_equal(named, distributions(pair.base, [1, 4]).ids[:, :2])
    assert (trace.metrics()["ce"] <= full.metrics()["ce"] + 1e-6).all()


def test_lists_of_the_top_k_give_lower_bounds() -> None:
    short, full = scored(toy_pair(), k=3), scored(toy_pair(), k=VOCAB_SIZE)
    assert (short.metrics()["ce"] <= full.metrics()["ce"] + 1e-6).all()
    assert (short.base.tail_mass(len(GIVEN)) > 0).any()
