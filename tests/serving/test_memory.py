"""The memory plan never takes more than there is, refuses with figures, and gives the README's pair its split."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.serving.memory import (
    CUDA_CONTEXT_BYTES,
    GIB,
    MOST_SEQUENCES,
    Demand,
    MemoryPlan,
    alone_flags,
    plan_both,
    plan_memory,
    reserve_bytes,
    round_bytes,
)
from rrti_sgl.serving.model_size import ModelSize
from tests.serving.models import readme_pair

SIZES = st.builds(
    ModelSize,
    st.just("m"),
    st.integers(10**6, 80 * 10**9),
    st.integers(100, 2 * 10**6),
    st.integers(1, 64),
    st.integers(100, 260_000),
    st.integers(512, 10**6),
)
PAIRS = st.lists(SIZES, min_size=1, max_size=2)
FREE = st.integers(0, 512 * GIB)
DEMANDS = st.builds(Demand, st.none() | st.integers(1, 512), st.none() | st.integers(1, 2000))


def planned(models: list[ModelSize], free: int, demand: Demand) -> MemoryPlan | None:
    try:
        return plan_memory(models, free, demand)
    except UsageError:
        return None


@given(PAIRS, FREE, DEMANDS)
def test_never_more_than_there_is_and_never_less_than_asked(models: list[ModelSize], free: int, demand: Demand) -> None:
    plan = planned(models, free, demand)
    if plan is None:
        return
    assert plan.total_bytes <= free
    wanted = (demand.concurrency or 1) * demand.planned_context(models)
    left = free
    for share in plan.shares:
        assert wanted <= share.tokens <= max(demand.concurrency or 0, MOST_SEQUENCES) * demand.planned_context(models)
        assert share.kv_bytes == share.tokens * share.model.kv_bytes_per_token
        assert 0 < share.fraction < 1
        # SGLang's own arithmetic, with the least that may be free when this server starts, gives at least the planned cache.
        before = left - CUDA_CONTEXT_BYTES
        after_loading = before - share.model.weight_bytes
        assert after_loading - before * (1 - share.fraction) >= share.kv_bytes - 1  # a byte for the rounding of floats
        left -= share.total_bytes
        # and it has what it needs beside that, whatever the others take
        assert before - share.model.weight_bytes - share.kv_bytes >= share.reserve_bytes


@given(PAIRS, FREE, DEMANDS, st.integers(0, 64 * GIB))
def test_more_memory_never_makes_it_unfit(models: list[ModelSize], free: int, demand: Demand, more: int) -> None:
    if planned(models, free, demand) is not None:
        assert planned(models, free + more, demand) is not None


@given(PAIRS, FREE, st.integers(1, 512), st.integers(1, 500), st.integers(0, 511), st.integers(0, 499))
def test_a_smaller_demand_fits_where_a_larger_does(
    models: list[ModelSize], free: int, context: int, concurrency: int, shorter: int, fewer: int
) -> None:
    smaller = Demand(max(1, context - shorter), max(1, concurrency - fewer))
    if planned(models, free, Demand(context, concurrency)) is not None:
        assert planned(models, free, smaller) is not None


@given(PAIRS, FREE, DEMANDS)
def test_a_lone_model_fits_where_two_do(models: list[ModelSize], free: int, demand: Demand) -> None:
    if planned(models, free, demand) is not None:
        assert planned(models[:1], free, demand) is not None


@pytest.mark.parametrize(
    ("gib", "chunk", "tokens", "sequences", "fractions"),
    [
        (24, 512, 8_784, 2, ["0.094", "0.899"]),
        (40, 1024, 67_198, 16, ["0.215", "0.900"]),
        (80, 2048, 216_794, 52, ["0.308", "0.910"]),
    ],
)
def test_the_readme_pair(gib: int, chunk: int, tokens: int, sequences: int, fractions: list[str]) -> None:
    """Against the sum by hand: weights, and for each server context, fixed reserve, 64 graphs and three rows of logits."""
    weights = 2 * (596_049_920 + 8_190_735_360)
    beside = 2 * ((768 + 1024 + 64 * 2) * 2**20 + chunk * 3 * 4 * 151_936)
    assert (gib * GIB - weights - beside) // (114_688 + 147_456) == tokens
    plan = plan_memory(readme_pair(), gib * GIB)
    assert (plan.prefill_chunk, plan.sequences) == (chunk, sequences)
    assert [share.tokens for share in plan.shares] == [tokens, tokens]
    assert [plan.flags(share)["--mem-fraction-static"] for share in plan.shares] == fractions


def test_the_readme_pair_on_16_gib_is_refused_with_figures() -> None:
    with pytest.raises(UsageError) as caught:
        plan_memory(readme_pair(), 16 * GIB)
    assert "16.0 GiB are free, 22.9 GiB are needed" in caught.value.message
    assert "1.1 GiB of Qwen3-0.6B-Base and 15.3 GiB of Qwen3-8B" in caught.value.message
    assert "base_gpus=" in caught.value.remedy


def test_a_remedy_fits() -> None:
    pair = readme_pair()
    with pytest.raises(UsageError, match="too small") as caught:
        plan_memory(pair, 40 * GIB, Demand(4096, 32))
    fitting = int(caught.value.remedy.split("concurrency=")[1].split()[0])
    assert plan_memory(pair, 40 * GIB, Demand(4096, fitting)).sequences >= fitting
    with pytest.raises(UsageError):
        plan_memory(pair, 40 * GIB, Demand(4096, fitting + 1))


def test_the_flags_say_the_demand_and_nothing_that_was_not_asked() -> None:
    pair = readme_pair()
    plan = plan_memory(pair, 80 * GIB, Demand(8192, 16))
    assert plan.flags(plan.shares[1]) == {
        "--max-running-requests": "16",
        "--context-length": "8192",
        "--mem-fraction-static": f"{plan.shares[1].fraction:.3f}",
        "--max-total-tokens": str(plan.shares[1].tokens),
        "--chunked-prefill-size": "2048",
        "--cuda-graph-max-bs-decode": "16",
    }
    free = plan_memory(pair, 80 * GIB)
    assert not {"--context-length", "--max-running-requests"} & free.flags(free.shares[0]).keys()
    assert alone_flags(pair[1], 80 * GIB, Demand()) == {}
    assert alone_flags(pair[1], 80 * GIB, Demand(8192)) == {"--context-length": "8192"}
    assert len(plan.describe()) == 2


@pytest.mark.parametrize(
    ("demand", "message"),
    [(Demand(0), "context=0"), (Demand(None, 0), "concurrency=0"), (Demand(32769), "was made for 32768")],
)
def test_a_demand_that_no_gpu_meets(demand: Demand, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_memory(readme_pair(), 1000 * GIB, demand)


def test_a_tiny_model_does_not_take_a_whole_gpu() -> None:
    tiny = dataclasses.replace(readme_pair()[0], weight_bytes=10**6, kv_bytes_per_token=256, max_context=256)
    plan = plan_memory([tiny, tiny], 80 * GIB)
    assert plan.shares[0].tokens == MOST_SEQUENCES * 256


def test_one_server_for_both_models_leaves_room_for_both_caches_and_its_drafts() -> None:
    base, reasoning = readme_pair()
    for demand in (Demand(), Demand(4096, 16), Demand(8192, 24)):
        [share] = plan_both(base, reasoning, 80 * GIB, demand).shares
        drafts = round_bytes(reasoning, demand, 8)
        assert drafts == 4 * 8 * (demand.concurrency or 64) * 8 * 151_936
        # What SGLang does: both weights are loaded, then the reasoning model's cache is sized by the fraction and the cap,
        before = 80 * GIB - CUDA_CONTEXT_BYTES
        weights = base.weight_bytes + reasoning.weight_bytes
        sized = before - weights - before * (1 - share.fraction)
        assert sized // reasoning.kv_bytes_per_token >= share.tokens
        # and the base model's gets as many tokens of what is left.
        left = before - weights - share.tokens * (reasoning.kv_bytes_per_token + base.kv_bytes_per_token)
        assert left >= drafts + share.reserve_bytes
    two = plan_memory([base, reasoning], 80 * GIB, Demand(4096))
    assert plan_both(base, reasoning, 80 * GIB, Demand(4096)).shares[0].tokens >= two.shares[0].tokens
    with pytest.raises(UsageError, match=r"Qwen3-0.6B-Base and Qwen3-8B"):
        plan_both(base, reasoning, 20 * GIB)


def test_a_larger_vocabulary_needs_a_larger_reserve() -> None:
    small, large = (dataclasses.replace(readme_pair()[0], vocab_size=size) for size in (32_000, 260_000))
    assert reserve_bytes(large, Demand(), 2048) - reserve_bytes(small, Demand(), 2048) > GIB
