"""Chunked decoding equals lockstep: token for token when greedy, in distribution when sampled."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rrti_sgl.decoding.job import DecodeOptions, Decoding, Prefix, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.programs.running.session import Concurrency
from rrti_sgl.records import ProblemRecord
from rrti_sgl.science.deferral import DeferralGate
from rrti_sgl.science.doubt import DoubtGate
from rrti_sgl.science.gates import (
    AlwaysGate,
    DivergenceGate,
    EarlyGate,
    EntropyGate,
    Gate,
    NeverGate,
    RandomGate,
    ThresholdRule,
)
from rrti_sgl.science.matched import PositionGate, TokenGate
from tests.decoded import decode
from tests.toy_pair import STOP, VOCAB_SIZE, toy_pair

GATES: dict[str, Gate] = {
    "never": NeverGate("ce"),
    "silent": NeverGate(),
    "ce": DivergenceGate("ce", ThresholdRule(tau=3.0)),
    "ce, often": DivergenceGate("ce", ThresholdRule(tau=1.0)),
    "js, lambda": DivergenceGate("js", ThresholdRule(tau=0.1, lambda_=1.1, window=3, warmup="partial")),
    "entropy": EntropyGate(ThresholdRule(tau=1.0)),
    "entropy, lambda": EntropyGate(ThresholdRule(tau=0.5, lambda_=1.2, window=4, warmup="never")),
    "entropy, lambda, cooldown": EntropyGate(ThresholdRule(0.5, 1.2, window=4, warmup="partial", cooldown=3)),
    "ce, cooldown": DivergenceGate("ce", ThresholdRule(tau=1.0)).cooling(2),
    "entropy, rolling": EntropyGate(ThresholdRule(tau=1.0, rolling=4)),
    "ce, rolling, cooldown": DivergenceGate("ce", ThresholdRule(2.0, rolling=2, cooldown=2)),
    "js where the base doubts": DoubtGate("js", 1.0, ThresholdRule(0.1)),
    "random, cooldown": RandomGate(0.5).cooling(1),
    "random": RandomGate(0.25),
    "early": EarlyGate(5),
    "early, one more in some samples": EarlyGate(2.5),
    "by position": PositionGate([0, 1, 4], [0.9, 0.2, 0.4]),
    "by token": TokenGate([1, 2, 5], [0.3, 1.0, 0.6]),
    "chow": DeferralGate("chow", 0.5),
    "difference": DeferralGate("difference", 0.1),
    "opt": DeferralGate("opt", 0.3),
    "token": DeferralGate("token", 0.6),
    "reasoning takes over everywhere": RandomGate(1.0),
}


def make_job(seed: int, index: int = 0) -> SampleJob:
    problem = ProblemRecord(problem_id=f"p{seed}", problem_set="toy", question="", answer=None)
    ids = [int(i) for i in np.random.default_rng(seed).integers(1, VOCAB_SIZE, size=4)]
    return SampleJob("run", problem, index, seed, "", ids, "", [*ids, 1 + seed % 5])


def given_beginning(job: SampleJob, tokens: list[int], scores: list[float]) -> SampleJob:
    """The job with a beginning that is given."""
    return replace(job, prefix=Prefix(tuple(tokens), "", tuple(scores), "parent", "taken"))


def run_decoding(
    decoding: Decoding, gate: Gate, options: DecodeOptions, jobs: list[SampleJob], seed: int = 1
) -> list[TraceBuilder]:
    return asyncio.run(decode(toy_pair(seed), jobs, gate, options, loop=decoding, concurrency=Concurrency(8, 4)))


def options(**changes: object) -> DecodeOptions:
    default = DecodeOptions(VOCAB_SIZE, 40, Sampling(), frozenset({STOP}), draft_tokens=6)
    return replace(default, **changes)  # type: ignore[arg-type]


def assert_same(chunked: TraceBuilder, lockstep: TraceBuilder) -> None:
    assert chunked.token_ids == lockstep.token_ids
    assert chunked.sources == lockstep.sources
    assert chunked.base_token_ids == lockstep.base_token_ids
    assert chunked.reasoning_token_ids == lockstep.reasoning_token_ids
    np.testing.assert_equal(
        [(d.fired, d.score, d.local_mean, d.reason) for d in chunked.decisions],
        [(d.fired, d.score, d.local_mean, d.reason) for d in lockstep.decisions],
    )
    np.testing.assert_allclose(chunked.base_logprobs, lockstep.base_logprobs, rtol=1e-6)  # NaN where not asked
    np.testing.assert_allclose(chunked.reasoning_logprobs, lockstep.reasoning_logprobs, rtol=1e-6)
    assert chunked.finish_reason == lockstep.finish_reason
    for side in ("base", "reasoning"):
        np.testing.assert_array_equal(
            getattr(chunked, side).padded(len(chunked), chunked.k)[0],
            getattr(lockstep, side).padded(len(lockstep), lockstep.k)[0],
        )


def check_greedy(name: str, data: st.DataObject) -> None:
    given_options = options(
        k=data.draw(st.integers(1, VOCAB_SIZE)),
        max_new_tokens=data.draw(st.integers(1, 30)),
        draft_tokens=data.draw(st.integers(1, 12)),
        takeover_tokens=data.draw(st.sampled_from([1, 1, 1, 2, 4])),
        paced=data.draw(st.booleans()),
    )
    model_seed = data.draw(st.integers(0, 10_000))
    jobs = [make_job(data.draw(st.integers(0, 10_000)), index) for index in range(6)]
    if data.draw(st.booleans()):
        room = given_options.max_new_tokens - 1
        beginning = data.draw(st.lists(st.integers(1, VOCAB_SIZE - 1), min_size=min(room, 1), max_size=min(room, 5)))
        scores = data.draw(st.lists(st.floats(0, 5), max_size=len(beginning)))
        jobs = [given_beginning(job, beginning, scores) for job in jobs]
    chunked = run_decoding("chunked", GATES[name], given_options, jobs, model_seed)
    lockstep = run_decoding("lockstep", GATES[name], given_options, jobs, model_seed)
    for one, other in zip(chunked, lockstep, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", GATES)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_greedy_chunked_equals_lockstep(name: str, data: st.DataObject) -> None:
    check_greedy(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_greedy_chunked_equals_lockstep_in_many_draws(name: str, data: st.DataObject) -> None:
    check_greedy(name, data)


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("name", ["ce", "entropy", "token", "early", "never", "always"])
def test_exchanged_roles_are_those_of_the_exchanged_pair(name: str, tokens: int) -> None:
    """Both loops ask the reasoning model what they ask the base model, and the other way round."""
    gate = AlwaysGate() if name == "always" else GATES[name]
    asked = options(exchanged=True, takeover_tokens=tokens)
    beginning = [given_beginning(make_job(seed), [1, 2], [0.5, 0.5]) for seed in range(6)]
    jobs = [make_job(seed) for seed in range(12)] + [replace(job, sample_index=1) for job in beginning]
    chunked, lockstep = (run_decoding(loop, gate, asked, jobs) for loop in ("chunked", "lockstep"))
    there = asyncio.run(decode(toy_pair().exchanged(), jobs, gate, options(takeover_tokens=tokens)))
    plain = run_decoding("chunked", gate, options(takeover_tokens=tokens), jobs)
    if name != "always":  # alone, the guest is asked in pieces, and what the host would have drawn is not known
        for one, other in zip(chunked, lockstep, strict=True):
            assert_same(one, other)
    for one, other in zip(chunked, there, strict=True):
        assert_same(one, other)
    assert [trace.token_ids for trace in chunked] != [trace.token_ids for trace in plain]


@pytest.mark.parametrize("loop", ["chunked", "lockstep"])
@pytest.mark.parametrize("name", ["ce", "entropy, rolling", "random", "never", "always"])
def test_a_given_beginning_is_what_the_rest_goes_on_from(name: str, loop: Decoding) -> None:
    """A sample that is cut in two and given its own first half ends as it ended; the limit counts what was given."""
    gate = AlwaysGate() if name == "always" else GATES[name]
    for seed in range(12):
        [whole] = run_decoding(loop, gate, options(), [make_job(seed)])
        half = len(whole) // 2
        if not half:
            continue
        seen = [decision.score for decision in whole.decisions[:half]]
        job = given_beginning(make_job(seed), whole.token_ids[:half], [score for score in seen if not np.isnan(score)])
        [rest] = run_decoding(loop, gate, options(), [job])
        assert rest.token_ids == whole.token_ids[half:]
        assert rest.sources == whole.sources[half:]
        np.testing.assert_equal([d.score for d in rest.decisions], [d.score for d in whole.decisions[half:]])


def test_every_kind_of_position_occurs_in_the_conformance_cases() -> None:
    """The cases above would prove little if no draft ever began, ended or stopped with a takeover."""
    seen: Counter[str] = Counter()
    jobs = [make_job(seed) for seed in range(100)]
    for trace in run_decoding("chunked", GATES["ce"], options(), jobs):
        seen["length" if trace.finish_reason == "length" else "stop"] += 1
        seen["changed"] += sum(
            s == "reasoning" and t != b for s, t, b in zip(trace.sources, trace.token_ids, trace.base_token_ids, strict=True)
        )
        seen["first"] += trace.sources[0] == "reasoning"
        seen["vetoed end"] += any(
            b == STOP and t != STOP for b, t in zip(trace.base_token_ids, trace.token_ids, strict=True)
        )
        seen["end by takeover"] += trace.token_ids[-1] == STOP and trace.sources[-1] == "reasoning"
        seen["discarded"] += trace.discarded > 0
    assert (
        min(seen[kind] for kind in ("length", "stop", "changed", "first", "vetoed end", "end by takeover", "discarded")) >= 5
    )


def sampled_tokens(decoding: Decoding, gate: Gate, given_options: DecodeOptions, n: int) -> np.ndarray:
    """(n, 4) tokens of n samples of one prompt; -1 after the end."""
    prompt = make_job(3)
    jobs = [replace(prompt, sample_index=index) for index in range(n)]
    traces = run_decoding(decoding, gate, given_options, jobs)
    return np.asarray([(trace.token_ids + [-1] * 4)[:4] for trace in traces])


@pytest.mark.parametrize(
    ("name", "sampling", "k"),
    [
        ("ce, often", Sampling(1.0), VOCAB_SIZE),
        ("ce", Sampling(1.0, 0.8), 3),
        ("entropy", Sampling(1.0), 2),
        ("random", Sampling(0.7, 0.95), VOCAB_SIZE),
        pytest.param("ce, often", Sampling(0.7), 2, marks=pytest.mark.slow),
        pytest.param("ce", Sampling(0.7), VOCAB_SIZE, marks=pytest.mark.slow),
        pytest.param("entropy", Sampling(1.0, 0.95), VOCAB_SIZE, marks=pytest.mark.slow),
        pytest.param("random", Sampling(1.0), VOCAB_SIZE, marks=pytest.mark.slow),
        pytest.param("random", Sampling(1.0, 0.8), 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_sampled_chunked_has_lockstep_distribution(name: str, sampling: Sampling, k: int) -> None:
    """Compares the distribution of whole token sequences, so that any reuse of a rejected draft shows."""
    n = 600
    given_options = options(k=k, sampling=sampling, max_new_tokens=4, draft_tokens=3, paced=True)
    counts = [
        Counter(map(tuple, sampled_tokens(decoding, GATES[name], given_options, n))) for decoding in ("chunked", "lockstep")
    ]
    common = [sequence for sequence in counts[0] | counts[1] if counts[0][sequence] + counts[1][sequence] >= 10]
    table = np.asarray([[count[sequence] for sequence in common] for count in counts])
    rest = n - table.sum(axis=1, keepdims=True)
    table = np.hstack([table, rest]) if rest.min() > 5 else table
    assert table.shape[1] > 2, "the test needs several different sequences"
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_the_distribution_test_notices_reuse_of_a_rejected_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison, with chunked decoding broken on purpose: it goes on with the draft after a takeover."""
    from rrti_sgl.decoding.chunked import ChunkedSample

    original = ChunkedSample._take_over

    def reuse(self: ChunkedSample, draft: object, *arguments: object, **keywords: object) -> None:
        original(self, draft, *arguments, **keywords)  # type: ignore[arg-type]
        if not self._ended and draft.cursor < len(draft.ids):  # type: ignore[attr-defined]
            self._draft = draft  # type: ignore[assignment]

    monkeypatch.setattr(ChunkedSample, "_take_over", reuse)
    with pytest.raises(AssertionError):
        test_sampled_chunked_has_lockstep_distribution("ce, often", Sampling(1.0), VOCAB_SIZE)


def test_chunked_asks_less_often_than_lockstep() -> None:
    jobs = [make_job(seed) for seed in range(30)]
    gate = DivergenceGate("ce", ThresholdRule(tau=6.0))
    calls = [
        sum(t.base_calls.calls + t.reasoning_calls.calls for t in run_decoding(decoding, gate, options(), jobs))
        for decoding in ("chunked", "lockstep")
    ]
    assert calls[0] * 3 < calls[1]


def test_reasoning_alone_is_one_call_for_a_sample() -> None:
    [trace] = run_decoding("chunked", AlwaysGate(), options(draft_tokens=40), [make_job(5)])
    assert (trace.base_calls.calls, trace.reasoning_calls.calls) == (0, 1)
    assert set(trace.sources) == {"reasoning"}
    assert all(decision.fired for decision in trace.decisions)


@pytest.mark.parametrize("gate", ["never", "ce", "entropy", "random", "reasoning takes over everywhere"])
@pytest.mark.parametrize("loop", ["chunked", "lockstep"])
def test_where_servers_draw_by_seeds_a_sampled_run_repeats(gate: str, loop: Decoding) -> None:
    """Whatever is batched with it and in pieces of whatever size; samples and both models draw of their own."""

    def decoded(jobs: list[SampleJob], draft: int) -> list[list[int]]:
        pair = toy_pair()
        for engine in (pair.base, pair.reasoning):
            engine.by_seed = True  # type: ignore[attr-defined]
        chosen = options(sampling=Sampling(1.0, 0.9), draft_tokens=draft)
        traces = asyncio.run(decode(pair, jobs, GATES[gate], chosen, loop=loop, concurrency=Concurrency(8, 4)))
        return [trace.token_ids for trace in traces]

    jobs = [make_job(3, index) for index in range(12)]
    first = decoded(jobs, 6)
    assert decoded(jobs, 6) == first
    assert decoded(jobs[::-1], 1)[::-1] == first
    assert decoded(jobs[5:7], 11) == first[5:7]
    assert len(set(map(tuple, first))) > 6
    seeds = {job.server_seed(role) for job in jobs for role in ("base", "reasoning")}
    assert len(seeds) == 24
    assert all(0 <= seed < 2**63 for seed in seeds)
