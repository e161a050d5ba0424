"""In bfloat16, as on GPUs: both models compute in it, and the gate measures and decides in float32."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from rrti_sgl.decoding.job import DecodeOptions
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.records import FloatArray
from rrti_sgl.serving.fused import BothModels
from tests.decoded import decode
from tests.decoding.test_conformance_real import GATES, jobs
from tests.fused.conftest import serving

pytestmark = [pytest.mark.server, pytest.mark.slow]
WHOLE = 56  # the vocabulary, so that lists hold all of it


@pytest.fixture(scope="module")
def half(fused: BothModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothModels]:
    with serving(tmp_path_factory.mktemp("half"), *fused.flags, "--dtype", "bfloat16") as server:
        yield server


def traces(server: BothModels) -> list[TraceBuilder]:
    async def go() -> list[TraceBuilder]:
        async with connect(server.url, server.url) as pair:
            options = DecodeOptions(WHOLE, 60, Sampling(), pair.stop_token_ids)
            some = jobs(pair, 16, different_prompts=True)
            return await decode(pair, some, GATES["ce"], options, concurrency=Concurrency(16))

    return asyncio.run(go())


def by_token(trace: TraceBuilder, side: str) -> FloatArray:
    """(n, V) log-probabilities of one model at the trace's positions."""
    part = getattr(trace, side)
    assert list(part.positions) == list(range(len(trace)))
    rows = part.gathered()
    values = np.empty((len(trace), WHOLE))
    np.put_along_axis(values, rows.ids.astype(np.int64), rows.logprobs, axis=1)
    return values


def test_the_gate_is_exact_where_the_models_are_not(half: BothModels, fused: BothModels) -> None:
    scores, expected = [], []
    ours, theirs = traces(half), traces(fused)
    for trace in ours:
        base, reasoning = by_token(trace, "base"), by_token(trace, "reasoning")
        np.testing.assert_allclose(np.exp(base).sum(-1), 1, atol=1e-5)  # bfloat16 has no three digits
        scores += [decision.score for decision in trace.decisions]
        expected += (-np.exp(base) * reasoning).sum(-1).tolist()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert max(scores) > 0.5
    other = [decision.score for trace in theirs for decision in trace.decisions]
    assert scores[:20] != other[:20]  # the models did compute otherwise
    assert scores[0] == pytest.approx(other[0], abs=0.1)
    same = [one.token_ids == two.token_ids for one, two in zip(ours, theirs, strict=True)]
    assert sum(same) >= len(same) / 2
