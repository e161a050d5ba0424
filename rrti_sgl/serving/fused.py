"""Servers of our own that hold both models of a pair: one, or several alike behind SGLang's router."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.fused import ALGORITHM
from rrti_sgl.fused.plugin import VARIABLE
from rrti_sgl.fused.protocol import DEFAULTS_VARIABLE, GATES_VARIABLE
from rrti_sgl.records import Json
from rrti_sgl.serving.arrangement import SIZE_FLAGS, Arrangement, ServingOptions, check_places, flag_value, model_sizes
from rrti_sgl.serving.gpus import Gpu, visible_gpus
from rrti_sgl.serving.keys import own_key
from rrti_sgl.serving.memory import MOST_DRAFTED, demand_flags, plan_both
from rrti_sgl.serving.model_size import ModelSize
from rrti_sgl.serving.router import Replicas
from rrti_sgl.serving.server import ServedPair, Server, Serving, has_gpu

NAME = "fused"
DRAFT_TOKENS = 16  # at most; where drafts end is learned (`rrti_sgl.fused.pacing`)
DRAFT_TOKENS_ON_GPU = 8  # verified as so many whatever is drafted, and the logits of all have to have room

_Planned = tuple[Mapping[str, str | None], tuple[str, ...]]
_ATTENTION = "--attention-backend"
ATTENTION_BACKENDS = ("triton", "fa3")  # the others' verification asks for more than a chain of tokens has
GPU_FLAGS: Mapping[str, str | None] = {
    _ATTENTION: ATTENTION_BACKENDS[0],
    "--page-size": "1",  # the base model's tree shares single tokens
    "--disable-overlap-schedule": None,  # gates decide on the host what the next round begins with
    # Those of verification are made for drafts of SGLang's own algorithms, and draft steps need a runner of their own.
    "--disable-cuda-graph": None,
    "--disable-flashinfer-autotune": None,  # its trial passes are verifications of no draft, which attention cannot read
}
"""Of a server for both models on a GPU; flags of one's own override them."""
_MOST_TOKENS = "--max-total-tokens"
_UNPLANNED = (
    "SGLang sizes the reasoning model's cache by your flags alone, and makes the base model's of as many tokens beside it; "
    f"if that is too much, cap both: {_MOST_TOKENS}"
)


def on_gpus(
    base: ModelSize, reasoning: ModelSize, options: ServingOptions, draft_tokens: int, found: Sequence[Gpu]
) -> tuple[list[_Planned], tuple[str, ...]]:
    """For each replica its flags and its GPU, one after the other of those that there are; and the plans in words.

    Raises:
        UsageError: there are too few, the models do not fit, or another attention is asked for.
    """
    if (attention := flag_value(options.reasoning_flags, _ATTENTION)) not in (None, *ATTENTION_BACKENDS):
        raise UsageError(
            f"One server for both models attends by {' and '.join(ATTENTION_BACKENDS)}, not {attention}.",
            f"Use one of these, or two servers (leave out {argument('fused')}).",
        )
    demand = options.demand
    if not found:
        raise UsageError("No NVIDIA GPU was found (the driver names none).", f"Use {argument('device', 'cpu')}.")
    if len(found) < options.replicas:
        raise UsageError(
            f"{options.replicas} servers for both models need a GPU each; {len(found)} are visible.",
            f"Use {argument('replicas', len(found))} or fewer.",
        )
    own_split = flag_value(options.reasoning_flags, *SIZE_FLAGS) is not None
    unplanned = flag_value(options.reasoning_flags, _MOST_TOKENS) is None
    flags = dict(GPU_FLAGS) | {"--max-running-requests": str(demand.concurrency or MOST_DRAFTED)}
    planned: list[_Planned] = []
    notes = []
    for gpu in found[: options.replicas]:
        if own_split:
            planned.append((flags | demand_flags(demand), (gpu.uuid,)))
            notes += [f"GPU {gpu.index}: {_UNPLANNED}"] if unplanned else []
        else:
            plan = plan_both(base, reasoning, gpu.free_bytes, demand, draft_tokens)
            notes += [f"GPU {gpu.index}: {line}" for line in plan.describe()]
            planned.append((flags | plan.flags(plan.shares[0]), (gpu.uuid,)))
    notes.append("one server for both models was written for GPUs after SGLang's own workers, and has not run on one yet")
    return planned, tuple(notes)


def arrange_fused(
    base: Server, reasoning: Server, options: ServingOptions, gpus: Sequence[Gpu] | None = None
) -> Arrangement:
    """The models of two servers in one, or in several alike behind a router.

    Args:
        base, reasoning: the models' servers, as they would run alone.
        options: what is wanted.
        gpus: what there is; None looks.

    Raises:
        UsageError: an option that such servers do not take, the models do not fit, or a GPU or the router is missing.
        PairMismatchError: the models cannot share a vocabulary.
    """
    if options.base_gpus or options.reasoning_gpus or options.base_flags != options.reasoning_flags:
        raise UsageError(
            "One server for both models takes no GPUs and no flags for one of the models.",
            f"Leave these options out, or {argument('fused')}.",
        )
    if options.ports[0]:
        raise UsageError(
            "One server for both models has one port.",
            f"Name it by {argument('reasoning_port')}, or leave {argument('fused')} out.",
        )
    check_places(options)
    base.flags, reasoning.flags = options.base_flags, options.reasoning_flags
    sizes, draft_tokens = model_sizes(base, reasoning), options.draft_tokens or DRAFT_TOKENS
    notes: tuple[str, ...] = ()
    planned: list[_Planned] = [(demand_flags(options.demand), ())] * options.replicas
    if options.device == "cuda" or (options.device == "auto" and (gpus is not None or has_gpu())):
        draft_tokens = options.draft_tokens or DRAFT_TOKENS_ON_GPU
        planned, notes = on_gpus(*sizes, options, draft_tokens, visible_gpus() if gpus is None else gpus)
    servers = [
        BothModels(
            reasoning.model,
            NAME if len(planned) == 1 else f"{NAME}-{number}",
            reasoning.log_dir,
            options.reasoning_flags,
            port=options.ports[1] if len(planned) == 1 else 0,
            device=options.device,
            served_name=reasoning.served_name,
            planned=flags,
            gpus=uuids,
            key=options.key or own_key(),
            base_model=base.model,
            draft_tokens=draft_tokens,
            steering=options.steering,
            gates=options.gates,
        )
        for number, (flags, uuids) in enumerate(planned)
    ]
    serving: Serving = servers[0] if len(servers) == 1 else Replicas(NAME, servers, options.ports[1])
    return Arrangement(ServedPair(serving, serving), notes)


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
