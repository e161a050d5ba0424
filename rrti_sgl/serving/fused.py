"""One server of our own that holds both models of a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.fused import ALGORITHM
from rrti_sgl.fused.admission import GATES_VARIABLE
from rrti_sgl.fused.plugin import VARIABLE
from rrti_sgl.fused.protocol import DEFAULTS_VARIABLE
from rrti_sgl.records import Json
from rrti_sgl.serving.gpus import visible_gpus
from rrti_sgl.serving.memory import MOST_DRAFTED, demand_flags, plan_both
from rrti_sgl.serving.model_size import ModelSize
from rrti_sgl.serving.server import Server

if TYPE_CHECKING:
    from rrti_sgl.serving.arrangement import ServingOptions

DRAFT_TOKENS = 8  # by measurement, see docs/performance.md

_ATTENTION = "--attention-backend"
ATTENTION_BACKENDS = ("triton", "fa3")  # the others' verification asks for more than a chain of tokens has
GPU_FLAGS: Mapping[str, str | None] = {
    _ATTENTION: ATTENTION_BACKENDS[0],
    "--page-size": "1",  # the base model's tree shares single tokens
    "--disable-overlap-schedule": None,  # gates decide on the host what the next round begins with
    # Those of verification are made for drafts of SGLang's own algorithms, and draft steps need a runner of their own.
    "--disable-cuda-graph": None,
}
"""Of a server for both models on a GPU; flags of one's own override them."""


def on_gpu(
    base: ModelSize, reasoning: ModelSize, options: ServingOptions, draft_tokens: int
) -> tuple[dict[str, str | None], tuple[str, ...], tuple[str, ...]]:
    """Flags, the GPU, and the memory plan in words of a server for both models on the first visible GPU.

    Raises:
        UsageError: there is none, the models do not fit, or another attention is asked for.
    """
    from rrti_sgl.serving.arrangement import SIZE_FLAGS, flag_value

    if (attention := flag_value(options.reasoning_flags, _ATTENTION)) not in (None, *ATTENTION_BACKENDS):
        raise UsageError(
            f"One server for both models attends by {' and '.join(ATTENTION_BACKENDS)}, not {attention}.",
            f"Use one of these, or two servers (leave out {argument('fused')}).",
        )
    found, demand = visible_gpus(), options.demand
    if not found:
        raise UsageError("No NVIDIA GPU was found (the driver names none).", f"Use {argument('device', 'cpu')}.")
    flags = dict(GPU_FLAGS) | {"--max-running-requests": str(demand.concurrency or MOST_DRAFTED)}
    untried = "one server for both models was written for GPUs after SGLang's own workers, and has not run on one yet"
    if flag_value(options.reasoning_flags, *SIZE_FLAGS) is not None:
        return flags | demand_flags(demand), (found[0].uuid,), (untried,)
    plan = plan_both(base, reasoning, found[0].free_bytes, demand, draft_tokens)
    notes = [f"GPU {found[0].index}: {line}" for line in plan.describe()]
    return flags | plan.flags(plan.shares[0]), (found[0].uuid,), (*notes, untried)


@dataclass
class BothModels(Server):
    """The reasoning model's server with the base model in it.

    Args:
        base_model: hub id or folder of the base model.
        draft_tokens: most tokens drafted in a round.
        steering: what requests leave out, such as tau; as in `rrti_sgl.fused.protocol.Steering`.
        gates: gates of one's own that requests may name, `package.module:Class`.
    """

    base_model: str = ""
    draft_tokens: int = DRAFT_TOKENS
    steering: Mapping[str, Json] = field(default_factory=dict)
    gates: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What it is, for messages."""
        return f"server for {self.model!r} guided into {self.base_model!r}"

    def command(self, on_cpu: bool) -> list[str]:
        """The command line that becomes the server."""
        return [
            *super().command(on_cpu),
            *("--speculative-algorithm", ALGORITHM),
            *("--speculative-draft-model-path", self.base_model),
            *("--speculative-num-draft-tokens", str(self.draft_tokens)),
        ]

    def environment(self, on_cpu: bool) -> dict[str, str]:
        """The environment of the server's processes."""
        own = {VARIABLE: "1", DEFAULTS_VARIABLE: json.dumps(dict(self.steering)), GATES_VARIABLE: ",".join(self.gates)}
        return super().environment(on_cpu) | own

    def start(self) -> None:
        """Start the process; `is_ready` tells when it answers.

        Raises:
            UsageError: a number of drafted tokens that is none.
            EndpointError: SGLang's version is not supported.
        """
        if self.draft_tokens < 1:
            raise UsageError(f"{argument('draft_tokens', self.draft_tokens)} drafts nothing.", "Draft at least 1.")
        if Path(self.base_model).is_dir():
            self.base_model = str(Path(self.base_model).resolve())
        super().start()
