"""From two models and what is wanted to the servers to be started; all is checked before the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.errors import PairMismatchError, UsageError, argument
from rrti_sgl.records import Json
from rrti_sgl.serving.gpus import Gpu, Placement, place, visible_gpus
from rrti_sgl.serving.memory import Demand, alone_flags, check_demand, demand_flags, plan_memory
from rrti_sgl.serving.model_size import ModelSize, read_model_size
from rrti_sgl.serving.router import Replicas, check_router_installed
from rrti_sgl.serving.server import ServedPair, Server, Serving, has_gpu

_TENSOR_PARALLEL = ("--tp-size", "--tp", "--tensor-parallel-size")
SIZE_FLAGS = ("--mem-fraction-static", "--max-total-tokens")


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How a pair is to be served.

    Args:
        base_flags: SGLang flags of the base model's servers; like the next two they override what is chosen here.
        reasoning_flags: SGLang flags of the reasoning model's servers.
        device: "cpu", "cuda", or "auto" (a GPU if there is one).
        demand: context and concurrency to have memory for.
        base_gpus: indices of the base model's GPUs; None chooses.
        reasoning_gpus: the same for the reasoning model.
        replicas: servers of each model; from 2 on a router stands before them.
        ports: of the two addresses; 0 takes a free one.
        key: what all servers ask of who uses them; None takes this process's own.
        draft_tokens: most tokens that one server for both models drafts in a round; None takes its default.
        steering: what requests to it leave out, such as tau (see `rrti_sgl.fused.protocol.Steering`).
        gates: gates of one's own that requests to it may name, `package.module:Class`.
    """

    base_flags: Sequence[str] = ()
    reasoning_flags: Sequence[str] = ()
    device: str = "auto"
    demand: Demand = field(default_factory=Demand)
    base_gpus: Sequence[int] | None = None
    reasoning_gpus: Sequence[int] | None = None
    replicas: int = 1
    ports: tuple[int, int] = (0, 0)
    key: str | None = field(default=None, repr=False)
    draft_tokens: int | None = None
    steering: Mapping[str, Json] = field(default_factory=dict)
    gates: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What is to be started, and the memory plan in words."""

    pair: ServedPair
    notes: tuple[str, ...] = ()


def check_places(options: ServingOptions) -> None:
    """Refuse one port for two servers, and a number of replicas that is none, or where no router can be put before them.

    Raises:
        UsageError: names the port or the number, or what is missing.
    """
    base, reasoning = options.ports
    if base and base == reasoning:
        raise UsageError(f"{argument('base_port', base)} is the reasoning model's port, too.", "Name two ports.")
    if options.replicas < 1:
        raise UsageError(f"{argument('replicas', options.replicas)} is below 1.", "Use 1 or more.")
    if options.replicas > 1:
        check_router_installed()


def flag_value(flags: Sequence[str], *names: str) -> str | None:
    """The value that a command line gives to a flag under any of its names, the last one if it is there twice."""
    value = None
    for at, flag in enumerate(flags):
        name, equals, inline = flag.partition("=")
        if name in names:
            value = inline if equals else (flags[at + 1] if at + 1 < len(flags) else "")
    return value


def model_sizes(base: Server, reasoning: Server) -> tuple[ModelSize, ModelSize]:
    """Sizes of both models in the types that their flags ask for.

    Raises:
        PairMismatchError: their output distributions differ in size.
        UsageError: a size cannot be had.
    """
    sizes = [
        read_model_size(
            server.model,
            dtype=flag_value(server.flags, "--dtype") or "auto",
            kv_dtype=flag_value(server.flags, "--kv-cache-dtype") or "auto",
        )
        for server in (base, reasoning)
    ]
    if sizes[0].vocab_size != sizes[1].vocab_size:
        raise PairMismatchError(
            f"The base model's distribution has {sizes[0].vocab_size} entries, the reasoning model's {sizes[1].vocab_size}.",
            "Choose two models whose config.json has the same vocab_size.",
        )
    return sizes[0], sizes[1]


def check_tokenizers(base: Server, reasoning: Server) -> None:
    """Refuse models that do not share a vocabulary before either is loaded.

    Raises:
        PairMismatchError: they do not.
        UsageError: a tokenizer cannot be loaded.
    """
    from rrti_sgl.tokens.vocabulary import check_same_vocabulary, load_vocabulary, matching

    first, second = (
        load_vocabulary(flag_value(server.flags, "--tokenizer-path") or server.model) for server in (base, reasoning)
    )
    check_same_vocabulary(first, matching(first, second))


def arrange(base: Server, reasoning: Server, options: ServingOptions, gpus: Sequence[Gpu] | None = None) -> Arrangement:
    """Decide which server runs where and with what share of the memory.

    Args:
        base: the base model's server, as it would run alone; the copies that are started are made of it.
        reasoning: the same for the reasoning model.
        options: what is wanted.
        gpus: what there is; None looks.

    Raises:
        UsageError: the models do not fit, or a GPU or the router is missing; with the figures.
        PairMismatchError: the models cannot share a vocabulary.
    """
    check_places(options)
    base.flags, reasoning.flags = options.base_flags, options.reasoning_flags
    if options.key is not None:
        base.key = reasoning.key = options.key
    on_cpu = options.device == "cpu" or (gpus is None and options.device == "auto" and not has_gpu())
    if on_cpu:
        return _arrange_on_cpu(base, reasoning, options)
    found = list(visible_gpus() if gpus is None else gpus)
    own_split = any(flag_value(server.flags, *SIZE_FLAGS) is not None for server in (base, reasoning))
    if not found:
        raise UsageError(
            "No NVIDIA GPU was found (the driver names none), so memory cannot be planned.",
            f"Use {argument('device', 'cpu')}, or start the servers yourself and name them: {argument('base_url')} and "
            f"{argument('reasoning_url')}.",
        )
    unnamed = options.base_gpus is None and options.reasoning_gpus is None
    if unnamed and any(_tensor_parallel(server) > 1 for server in (base, reasoning)):
        raise UsageError(
            "Tensor parallelism needs to know the GPUs.",
            f"Name them: {argument('base_gpus')} and {argument('reasoning_gpus')}.",
        )
    placement = place(len(found), replicas=options.replicas, base=options.base_gpus, reasoning=options.reasoning_gpus)
    if own_split:
        flags = [demand_flags(options.demand)] * options.replicas
        planned, notes = (flags, flags), list[str]()
    else:
        planned, notes = _plan(model_sizes(base, reasoning), placement, found, options.demand)
    return Arrangement(
        ServedPair(
            _serving(base, placement.base, found, planned[0], options.ports[0]),
            _serving(reasoning, placement.reasoning, found, planned[1], options.ports[1]),
            in_turn=placement.shared,
        ),
        tuple(notes),
    )


def _arrange_on_cpu(base: Server, reasoning: Server, options: ServingOptions) -> Arrangement:
    if options.base_gpus is not None or options.reasoning_gpus is not None:
        raise UsageError(
            "GPUs were named, but the servers run on the CPU.",
            f"Leave out {argument('base_gpus')} and {argument('reasoning_gpus')}.",
        )
    if options.demand != Demand():
        check_demand(model_sizes(base, reasoning), options.demand)
    flags = demand_flags(options.demand)
    copies: list[tuple[dict[str, str], tuple[str, ...]]] = [(flags, ())] * options.replicas
    return Arrangement(ServedPair(_copies(base, copies, options.ports[0]), _copies(reasoning, copies, options.ports[1])))


def _tensor_parallel(server: Server) -> int:
    text = flag_value(server.flags, *_TENSOR_PARALLEL)
    if text is None:
        return 1
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise UsageError(f"The {server.name} server's tensor parallelism {text!r} is no number.", "Use --tp 2, for example.")
    return int(text)


_Planned = tuple[list[dict[str, str]], list[dict[str, str]]]


def _plan(
    sizes: tuple[ModelSize, ModelSize], placement: Placement, gpus: Sequence[Gpu], demand: Demand
) -> tuple[_Planned, list[str]]:
    """Flags of every server of both models, in the order of the placement, and the plans of shared GPUs in words."""
    planned: _Planned = ([], [])
    notes = []
    for both in zip(placement.base, placement.reasoning, strict=True):
        parts = [size.on_each_of(len(on)) for size, on in zip(sizes, both, strict=True)]
        if set(both[0]) == set(both[1]):
            plan = plan_memory(parts, _least_free(gpus, both[0]), demand)
            for flags, share in zip(planned, plan.shares, strict=True):
                flags.append(plan.flags(share))
            notes += [f"GPU {','.join(map(str, both[0]))}: {line}" for line in plan.describe()]
        else:
            for flags, part, on in zip(planned, parts, both, strict=True):
                flags.append(alone_flags(part, _least_free(gpus, on), demand))
    return planned, notes


def _least_free(gpus: Sequence[Gpu], indices: Sequence[int]) -> int:
    return min(gpus[index].free_bytes for index in indices)


def _serving(
    server: Server, placed: Sequence[Sequence[int]], gpus: Sequence[Gpu], planned: Sequence[dict[str, str]], port: int
) -> Serving:
    copies = []
    for indices, flags in zip(placed, planned, strict=True):
        asked = flag_value(server.flags, *_TENSOR_PARALLEL)
        if asked is not None and _tensor_parallel(server) != len(indices):
            raise UsageError(
                f"The {server.name} server has {len(indices)} GPUs, but its flags ask for tensor parallelism over {asked}.",
                f"Name {asked} GPUs for each replica, or leave the flag out: it follows from the GPUs.",
            )
        split = {"--tp-size": str(len(indices))} if len(indices) > 1 and asked is None else {}
        copies.append((flags | split, tuple(gpus[index].uuid for index in indices)))
    return _copies(server, copies, port)


def _copies(server: Server, copies: Sequence[tuple[dict[str, str], tuple[str, ...]]], port: int) -> Serving:
    """One server, or as many as there are copies behind a router."""
    servers = [
        Server(
            server.model,
            server.name if len(copies) == 1 else f"{server.name}-{number}",
            Path(server.log_dir),
            server.flags,
            device=server.device,
            served_name=server.served_name,
            planned=flags,
            gpus=uuids,
            key=server.key,
        )
        for number, (flags, uuids) in enumerate(copies)
    ]
    if len(servers) > 1:
        return Replicas(server.name, servers, port)
    servers[0].port = port
    return servers[0]
