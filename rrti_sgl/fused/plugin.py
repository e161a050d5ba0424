"""The entry point `sglang.srt.plugins`: the algorithm is registered where a server asks for it, and nowhere else."""

from __future__ import annotations

import os
from typing import Any

VARIABLE = "RRTI_FUSED"
"""Environment variable that switches the plugin on ("1"); servers that are started with both models have it."""


def check() -> None:
    """In the process that becomes a server: end it with the reason if it is to hold both models and cannot.

    SGLang logs what a plugin raises and goes on, to an error that says nothing.

    Raises:
        SystemExit: this SGLang lacks a place that is touched; names them.
    """
    if os.environ.get(VARIABLE) == "1" and (lacking := _lacking()):
        raise SystemExit(
            f"This SGLang has no {', '.join(lacking)}: it cannot hold both models. Serve them as two servers (`rrti serve`)."
        )


def _lacking() -> list[str]:
    from rrti_sgl.fused import places

    if not _on_cpu():
        return places.missing()
    from rrti_sgl.fused import cpu_repairs

    return places.missing({**places.TOUCHED, **cpu_repairs.TOUCHED})


def _on_cpu() -> bool:
    """Whether the server runs on the CPU, be there a GPU or not."""
    import torch

    return os.environ.get("SGLANG_USE_CPU_ENGINE") == "1" or not torch.cuda.is_available()


def register() -> None:
    """Register the algorithm and what it needs of SGLang, if this server asks for it and this SGLang has it."""
    if os.environ.get(VARIABLE) != "1":
        return
    if _lacking():
        return  # `check` has said so
    if _on_cpu():
        from rrti_sgl.fused import cpu_repairs

        cpu_repairs.register()
    _register_hooks()
    _register_algorithm()


def _register_hooks() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from rrti_sgl.fused import admission

    scheduler = "sglang.srt.managers.scheduler.Scheduler."
    HookRegistry.register(scheduler + "_add_request_to_queue", admission.before_queue, HookType.BEFORE)
    HookRegistry.register(scheduler + "abort_request", admission.around_abort, HookType.AROUND)
    HookRegistry.register(
        "sglang.srt.managers.schedule_batch.ScheduleBatch.check_decode_mem", admission.around_check_memory, HookType.AROUND
    )
    HookRegistry.register(
        "sglang.srt.managers.schedule_policy.PrefillAdder.add_one_req", admission.around_add_request, HookType.AROUND
    )


def _register_algorithm() -> None:
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm
    from sglang.srt.speculative.spec_registry import CustomSpecAlgo

    from rrti_sgl.fused import ALGORITHM

    class GuidedAlgorithm(CustomSpecAlgo):  # type: ignore[misc]
        """The three methods that SGLang 0.5.23 calls and its base class lacks, and equal numbers of steps and tokens."""

        def create_future_map(self, device: Any, req_to_token_pool: Any, *args: Any, **kwargs: Any) -> Any:
            from sglang.srt.managers.overlap_utils import FutureMap

            return FutureMap(device, self, req_to_token_pool, *args, **kwargs)

        def carries_draft_hidden_states(self) -> bool:
            return False

        def need_topk(self) -> bool:
            return False

        def handle_server_args(self, server_args: Any) -> None:
            server_args.speculative_num_draft_tokens = server_args.speculative_num_draft_tokens or 8
            server_args.speculative_num_steps = server_args.speculative_num_draft_tokens
            server_args.speculative_eagle_topk = 1

    def worker(server_args: Any) -> type:
        from rrti_sgl.fused.worker import GuidedWorker

        return GuidedWorker

    SpeculativeAlgorithm.register(ALGORITHM, supports_overlap=False, spec_class=GuidedAlgorithm)(worker)
