"""On a CPU alone: what SGLang calls of its GPU kernels on the way of any speculative algorithm, in plain torch."""

from __future__ import annotations

from typing import Any

import torch

_SRT = "sglang.srt."
TOUCHED = {
    _SRT + "mem_cache.allocation.assign_req_to_token_pool_func": "calls an operator that the CPU wheel lacks",
    _SRT + "mem_cache.memory_pool.MHATokenToKVPool._init_kv_copy_and_warmup": (
        "warms up a kernel that only drafts as trees need, and that the CPU wheel lacks"
    ),
}
"""Place -> why it is touched; with those of `places`."""


def register() -> None:
    """Replace them; SGLang applies it once all plugins are loaded."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    assign, warm_up = TOUCHED
    HookRegistry.register(assign, assign_slots, HookType.REPLACE)
    HookRegistry.register(warm_up, _nothing, HookType.REPLACE)


def assign_slots(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    out_cache_loc: torch.Tensor,
    batch_size: int,
) -> None:
    """Write the slots of columns start..end-1 of each sequence's row, one sequence after the other."""
    lengths = end_offset.long() - start_offset.long()
    rows = torch.repeat_interleave(req_pool_indices.long(), lengths)
    begins = torch.repeat_interleave(torch.cumsum(lengths, 0) - lengths, lengths)
    columns = torch.repeat_interleave(start_offset.long(), lengths) + torch.arange(rows.numel()) - begins
    req_to_token[rows, columns] = out_cache_loc[: rows.numel()].to(req_to_token.dtype)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
