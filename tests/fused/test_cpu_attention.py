"""Attention of many sequences at once is that of each one alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.fused import cpu_attention, cpu_repairs

WIDTH, SLOTS, LONGEST = 8, 64, 12
NAMED = {"scaling": WIDTH**-0.5, "enable_gqa": True, "is_cross_attn": False, "sliding_window_size": None}


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Tokens before and in the pass of each sequence, heads that share keys, how many share each."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    before = [draw(st.integers(0, LONGEST - count)) for count in counts]
    return before, counts, draw(st.integers(1, 3)), draw(st.integers(1, 3))


def inputs(before: list[int], counts: list[int], shared: int, group: int) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(len(counts) + sum(before))
    keys, values = torch.randn((2, SLOTS, shared, WIDTH), generator=generator)
    table = torch.stack([torch.randperm(SLOTS, generator=generator)[:LONGEST] for _ in counts]).int()
    query = torch.randn((sum(counts), shared * group, WIDTH), generator=generator)
    return SimpleNamespace(keys=keys, values=values, table=table, query=query)


def one_by_one(given: SimpleNamespace, before: list[int], counts: list[int], group: int) -> torch.Tensor:
    out, begin = [], 0
    for row, (had, count) in enumerate(zip(before, counts, strict=True)):
        for step in range(count):
            slots = given.table[row, : had + step + 1].long()
            keys, values = (pool[slots].repeat_interleave(group, 1) for pool in (given.keys, given.values))
            weights = torch.softmax(torch.einsum("hw,lhw->hl", given.query[begin + step], keys) * NAMED["scaling"], -1)
            out.append(torch.einsum("hl,lhw->hw", weights, values))
        begin += count
    return torch.stack(out)


@given(batches(), st.sampled_from([1, 100, 1 << 18]))
def test_a_batch_is_its_sequences(batch: tuple[list[int], list[int], int, int], block: int) -> None:
    before, counts, shared, group = batch
    found = inputs(before, counts, shared, group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_attention, "_BLOCK", block)
        out = cpu_attention.attend(
            found.query, found.keys, found.values, found.table, torch.tensor(before), torch.tensor(counts), NAMED["scaling"]
        )
    torch.testing.assert_close(out, one_by_one(found, before, counts, group), rtol=1e-5, atol=1e-6)


def test_what_stands_after_a_sequence_is_not_read() -> None:
    found = inputs([2, 6], [1, 1], 1, 1)
    found.keys[found.table[0, 3:].long()] = found.values[found.table[0, 3:].long()] = torch.nan
    found.keys[0] = found.values[0] = 0.0  # SGLang's padding
    found.table[1] = torch.randperm(SLOTS)[:LONGEST]
    out = cpu_attention.attend(
        found.query, found.keys, found.values, found.table, torch.tensor([2, 6]), torch.tensor([1, 1]), 1.0
    )
    assert not out[0].isnan().any()


@pytest.mark.parametrize(
    ("before", "counts", "changed", "ours"),
    [
        ([3, 5], [1, 1], {}, True),
        ([3], [1], {}, False),  # one sequence needs no padding
        ([3, 5], [1, 1], {"sliding_window_size": 4}, False),
        ([3, 5], [1, 1], {"is_cross_attn": True}, False),
    ],
)
def test_decoding_of_other_kinds_is_left_to_sglang(before: list, counts: list, changed: dict, ours: bool) -> None:
    found = inputs(before, counts, 2, 2)
    asked: list[object] = []
    output = torch.zeros_like(found.query)
    cpu_repairs.around_decode(
        lambda *given, **named: asked.append(given), None, found.query, output, found.keys, found.values, found.table,
        torch.arange(len(counts)), torch.tensor(before) + torch.tensor(counts), None, **{**NAMED, **changed},
    )  # fmt: skip
    assert bool(asked) is not ours
    if ours:
        torch.testing.assert_close(output, one_by_one(found, before, counts, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("counts", "most", "changed", "ours"),
    [
        ([4, 1], 2048, {}, True),
        ([4, 3], 0, {}, True),
        ([5, 1, 1, 1, 1], 0, {}, False),  # mostly padding
        ([4, 1], 2048, {"causal": False}, False),
    ],
)
def test_prompts_of_very_different_lengths_are_left_to_sglang(
    monkeypatch: pytest.MonkeyPatch, counts: list, most: int, changed: dict, ours: bool
) -> None:
    monkeypatch.setattr(cpu_repairs, "_PADDED", most)
    before = [2] * len(counts)
    found = inputs(before, counts, 2, 1)
    asked: list[object] = []
    output = torch.zeros_like(found.query)
    cpu_repairs.around_extend(
        lambda *given, **named: asked.append(given), None, found.query, output, found.keys, found.values, found.table,
        torch.arange(len(counts)), torch.tensor(before) + torch.tensor(counts), torch.tensor(before), torch.tensor(counts),
        None, **{**NAMED, "causal": True, **changed},
    )  # fmt: skip
    assert bool(asked) is not ours
    if ours:
        torch.testing.assert_close(output, one_by_one(found, before, counts, 1), rtol=1e-5, atol=1e-6)
