"""On a CPU alone: what SGLang calls of its GPU kernels on the way of any speculative algorithm, in plain torch.

And attention of whole batches, where SGLang's plain torch loops: see `cpu_attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from rrti_sgl.fused.cpu_attention import attend

_SRT = "sglang.srt."
_NATIVE = _SRT + "layers.attention.torch_native_backend.TorchNativeAttnBackend."
TOUCHED = {
    _SRT + "mem_cache.allocation.assign_req_to_token_pool_func": "calls an operator that the CPU wheel lacks",
    _SRT + "mem_cache.memory_pool.MHATokenToKVPool._init_kv_copy_and_warmup": (
        "warms up a kernel that only drafts as trees need, and that the CPU wheel lacks"
    ),
    _NATIVE + "_run_sdpa_forward_decode": "goes sequence by sequence, which is most of a draft step's time",
    _NATIVE + "_run_sdpa_forward_extend": "goes sequence by sequence, and reads every draft's whole sequence again",
}
"""Place -> why it is touched; with those of `places`."""


def register() -> None:
    """Replace them; SGLang applies it once all plugins are loaded."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    assign, warm_up, decode, extend = TOUCHED
    HookRegistry.register(assign, assign_slots, HookType.REPLACE)
    HookRegistry.register(warm_up, _nothing, HookType.REPLACE)
    HookRegistry.register(decode, around_decode, HookType.AROUND)
    HookRegistry.register(extend, around_extend, HookType.AROUND)


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


def around_decode(
    original: Callable[..., Any], backend: Any, query: torch.Tensor, output: torch.Tensor, keys: torch.Tensor,
    values: torch.Tensor, table: torch.Tensor, rows: torch.Tensor, ends: torch.Tensor, encoder: Any, **named: Any,
) -> Any:  # fmt: skip
    """Around `_run_sdpa_forward_decode`: one token of each sequence; it writes and returns `output`."""
    if len(rows) == 1 or not _is_plain(query, keys, encoder, named):
        return original(backend, query, output, keys, values, table, rows, ends, encoder, **named)
    counts = torch.ones_like(ends)
    return _attend(query, output, keys, values, table, rows, ends - counts, counts, named["scaling"])


def around_extend(
    original: Callable[..., Any], backend: Any, query: torch.Tensor, output: torch.Tensor, keys: torch.Tensor,
    values: torch.Tensor, table: torch.Tensor, rows: torch.Tensor, ends: torch.Tensor, before: torch.Tensor,
    counts: torch.Tensor, encoder: Any, **named: Any,
) -> Any:  # fmt: skip
    """Around `_run_sdpa_forward_extend`: prompts, or drafts; those of very different lengths go one by one."""
    padded = len(rows) * int(counts.max())
    if padded > max(_PADDED, 2 * len(query)) or not named["causal"] or not _is_plain(query, keys, encoder, named):
        return original(backend, query, output, keys, values, table, rows, ends, before, counts, encoder, **named)
    return _attend(query, output, keys, values, table, rows, before, counts, named["scaling"])


_PADDED = 2048  # positions of a pass that are worth padding however ragged: drafts of 16 of 128 sequences


def _is_plain(query: torch.Tensor, keys: torch.Tensor, encoder: Any, named: dict[str, Any]) -> bool:
    """Whether attention is of a decoder's sequences to themselves, without a window."""
    return (
        encoder is None
        and not named["is_cross_attn"]
        and named["sliding_window_size"] is None
        and query.dtype == keys.dtype
        and query.shape[-1] == keys.shape[-1]
    )


def _attend(
    query: torch.Tensor, output: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, table: torch.Tensor,
    rows: torch.Tensor, before: torch.Tensor, counts: torch.Tensor, scaling: float,
) -> torch.Tensor:  # fmt: skip
    longest = int((before + counts).max())
    return output.copy_(attend(query, keys, values, table[rows.long(), :longest], before, counts, scaling))
