"""Decoding ends at once when whoever takes the samples stops, however full the queue is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.gates import NeverGate
from tests.toy_pair import STOP, VOCAB_SIZE, toy_pair

OPTIONS = DecodeOptions(
    k=VOCAB_SIZE, max_new_tokens=4, sampling=Sampling(), stop_token_ids=frozenset({STOP}), draft_tokens=4
)


class RefusedError(Exception):
    """What a writer says when the disk is full."""


@pytest.mark.parametrize("closing", [True, False], ids=["closed", "left to the event loop"])
@pytest.mark.parametrize("samples", [1, 3])
def test_an_error_of_the_consumer_comes_through(closing: bool, samples: int) -> None:
    jobs = [SampleJob("r", ProblemRecord(f"p{n}", "s", "q", None), 0, 0, "1", [1], "2", [2]) for n in range(20)]

    async def go() -> None:
        async with PairSession(toy_pair(), Concurrency(samples)) as session:
            decoding = session.run(jobs, NeverGate("ce"), OPTIONS)
            if closing:
                async with aclosing(decoding) as decoded:
                    async for _ in decoded:
                        await asyncio.sleep(0.01)  # the queue fills
                        raise RefusedError
            async for _ in decoding:
                await asyncio.sleep(0.01)
                raise RefusedError

    with pytest.raises(RefusedError):
        _run_in_time(go)


def _run_in_time(work: object) -> None:
    """Run in a thread, so that a loop that never ends fails the test instead of holding it up."""
    import threading

    errors: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive(), "the event loop did not end"
    if errors:
        raise errors[0]
