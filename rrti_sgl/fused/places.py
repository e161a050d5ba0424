"""Every place where we touch SGLang beyond its official door, each with its reason; nothing else in this package does.

The official door is the plugin entry point, `SpeculativeAlgorithm.register`, `BaseSpecWorker` and `custom_params`. What
is here was read in SGLang 0.5.17 and 0.5.23, and run with 0.5.23. `missing` is asked before a server starts; a test asks it
of the installed version.
"""

from __future__ import annotations

import pkgutil
from array import array
from collections.abc import Mapping
from typing import Any, Final

import torch

_SRT = "sglang.srt."
_SCHEDULER = _SRT + "managers.scheduler.Scheduler."

TOUCHED: Final[Mapping[str, str]] = {
    _SRT + "speculative.spec_registry.CustomSpecAlgo": "lacks three methods that the scheduler calls",
    _SCHEDULER + "_add_request_to_queue": "requests that cannot be served are refused before they wait",
    _SCHEDULER + "abort_request": "it aborts every request whose id begins with the named one",
    _SRT + "managers.schedule_batch.ScheduleBatch.check_decode_mem": "the base model's pool has to have room, too",
    _SRT + "managers.schedule_policy.PrefillAdder.add_one_req": "the base model's pool has to have room, too",
    _SRT + "managers.overlap_utils.FutureMap": "made by a method that custom algorithms lack",
    _SRT + "managers.tp_worker.TpModelWorker": "runs the base model",
    _SRT + "layers.logits_processor.LogitsProcessorOutput": "of a round in which nothing ran",
    _SRT + "managers.scheduler.GenerationBatchResult": "what a round returns",
    _SRT + "mem_cache.memory_pool.ReqToTokenPool": "the base model's table of slots",
    _SRT + "mem_cache.radix_cache.RadixCache": "the base model's cached prefixes",
    _SRT + "mem_cache.radix_cache.RadixKey": "key of its tree",
    _SRT + "mem_cache.base_prefix_cache.MatchPrefixParams": "looking a prefix up",
    _SRT + "mem_cache.base_prefix_cache.InsertParams": "keeping a sequence",
    _SRT + "mem_cache.base_prefix_cache.EvictParams": "making room",
    _SRT + "mem_cache.cache_init_params.CacheInitParams": "making the tree",
    _SRT + "configs.hybrid_arch.mambaish_config": "models that keep a state are refused",
    _SRT + "model_executor.model_runner.ModelRunner.sample": "what a prompt's logits are kept from",
    _SRT + "model_executor.forward_batch_info.ForwardBatch": "what a forward pass is made of",
    _SRT + "speculative.spec_info.SpecInput": "what a sequence carries from round to round",
    _SRT + "speculative.base_spec_worker.BaseSpecWorker.note_request_finished": "rows are freed early",
}
"""Place -> why it is touched."""


def missing(touched: Mapping[str, str] = TOUCHED) -> list[str]:
    """The places that this SGLang does not have."""
    found = []
    for place in touched:
        try:
            pkgutil.resolve_name(place)
        except (ImportError, AttributeError):
            found.append(place)
    return found


def radix_tree(pool: Any, slots: Any) -> Any:
    """An empty radix tree over slots of ours."""
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.radix_cache import RadixCache

    return RadixCache(
        CacheInitParams(disable=False, req_to_token_pool=pool, token_to_kv_pool_allocator=slots, page_size=slots.page_size)
    )


def matched(tree: Any, ids: array[int]) -> tuple[Any, torch.Tensor]:
    """The longest cached beginning of some ids: its node, and the slots of its tokens, (n,)."""
    from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    found = tree.match_prefix(MatchPrefixParams(key=RadixKey(ids)))
    if hasattr(tree, "path_device_indices"):
        return found.last_device_node, tree.path_device_indices(found.last_device_node)
    return found.last_device_node, found.device_indices  # 0.5.17


def insert(tree: Any, ids: array[int], slots: torch.Tensor) -> int:
    """Keep a sequence in the tree; returns how many of its first tokens the tree had already."""
    from sglang.srt.mem_cache.base_prefix_cache import InsertParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    return int(tree.insert(InsertParams(key=RadixKey(ids), value=slots)).prefix_len)


def evict(tree: Any, n: int) -> None:
    """Let the tree give up n slots, as far as it can."""
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    tree.evict(EvictParams(num_tokens=n))


def own_table(pool: Any, device: str) -> Any:
    """A table of slots like another one."""
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool

    return ReqToTokenPool(size=pool.size, max_context_len=pool.max_context_len, device=device, enable_memory_saver=False)


def unfit(base: Any, reasoning: Any) -> str | None:
    """Why two models cannot be held in one server, of their configurations; None where they can.

    A state that a sequence leaves behind cannot be that of the tokens that are kept; and slots of sliding windows are handed
    out by SGLang's own allocator, which the base model's sequences do not ask.
    """
    from sglang.srt.configs.hybrid_arch import mambaish_config

    for name, config in (("base", base), ("reasoning", reasoning)):
        if mambaish_config(config) is not None:
            return f"the {name} model keeps a state in place of keys and values"
    return "the base model keeps keys and values of sliding windows apart" if base.is_hybrid_swa else None


def row_of(request: Any) -> int | None:
    """The row that a request has in the reasoning model's table."""
    row: int | None = request.req_pool_idx if hasattr(request, "req_pool_idx") else request.kv.req_pool_idx  # 0.5.17 has it
    return row


def reads_its_end(request: Any) -> bool:
    """Whether this prefill reads a prompt to its end."""
    end: int = request.extend_end if hasattr(request, "extend_end") else request.extend_range.end  # 0.5.17
    return end == len(request.full_untruncated_fill_ids)


def abort(request: Any, message: str, status: int) -> None:
    """End a request that runs with an error, at the next token."""
    from sglang.srt.managers.schedule_batch import FINISH_ABORT

    kinds = {400: "BadRequestError", 503: "ServiceUnavailableError"}
    request.to_finish = FINISH_ABORT(message, status, kinds.get(status, "InternalServerError"))
