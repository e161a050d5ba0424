"""The models of an experiment as servers: tokenizers, sizes, and the memory that they need together."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.programs.experiments.spec import BUNDLED, ExperimentSpec, ModelSpec
from rrti_sgl.serving.arrangement import ServingOptions, arrange, flag_value
from rrti_sgl.serving.fused import arrange_fused
from rrti_sgl.serving.gpus import MIB, Gpu, visible_gpus
from rrti_sgl.serving.memory import GIB, Demand
from rrti_sgl.serving.model_size import ModelSize, read_model_size
from rrti_sgl.serving.server import Server
from rrti_sgl.tinypair.bundle import bundled_pair

# SGLang takes inputs that are shorter than its context by so many tokens.
CONTEXT_KEPT = 6


@dataclass(frozen=True, slots=True)
class PlannedEngine:
    """A model before it is served: what is known of it. It answers nothing.

    Args:
        info: as its server would report it, where that is known.
    """

    info: EngineInfo

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Refuse.

        Raises:
            EndpointError: always.
        """
        raise EndpointError(f"{self.info.name} is not served yet.", "Start its server.")

    async def flush(self) -> None:
        """There is nothing to forget."""

    async def close(self) -> None:
        """There is nothing to let go of."""


def planned_engine(spec: ExperimentSpec, sizes: Mapping[str, ModelSize], side: str, vocab_size: int) -> PlannedEngine:
    """A model of an experiment as its server would report it; where its context is not known here, it has no end."""
    model, context = spec.models.by_side[side].model, context_of(spec, sizes, side)
    name = f"bundled/{side}" if model == BUNDLED else model
    longest = sys.maxsize if context is None else context - CONTEXT_KEPT
    return PlannedEngine(EngineInfo(name, name, tokenizer_of(spec, side), "", vocab_size, longest, 0))


def context_of(spec: ExperimentSpec, sizes: Mapping[str, ModelSize], side: str) -> int | None:
    """Tokens that a model's server takes, prompt and solution together; None where that is not known here."""
    known = [spec.servers.context, sizes[side].max_context if side in sizes else None]
    return min((context for context in known if context is not None), default=None)


def tokenizer_of(spec: ExperimentSpec, side: str) -> str:
    """Folder or hub id of a model's tokenizer."""
    model = spec.models.by_side[side]
    if model.model == BUNDLED:
        return str(bundled_pair().base if side == "base" else bundled_pair().reasoning)
    return model.tokenizer or model.model


def flags_of(spec: ExperimentSpec, side: str) -> tuple[str, ...]:
    """SGLang flags of a model's server; its own come last, and win. One server for both models has those of all servers."""
    if spec.servers.fused:
        return spec.servers.flags
    model = spec.models.by_side[side]
    tokenizer = ("--tokenizer-path", model.tokenizer) if model.tokenizer is not None else ()
    return (*spec.servers.flags, *tokenizer, *model.flags)


def pair_sizes(spec: ExperimentSpec, sizes: dict[str, ModelSize], notes: list[str]) -> None:
    """Read the sizes of the models from their config.json, or from that of a tokenizer folder; note what cannot be had."""
    for side in spec.models.by_side:
        if spec.servers.running and not _has_config(spec.models.by_side[side]):
            continue
        flags = flags_of(spec, side)
        dtypes = {
            "dtype": flag_value(flags, "--dtype") or "auto",
            "kv_dtype": flag_value(flags, "--kv-cache-dtype") or "auto",
        }
        try:
            sizes[side] = read_model_size(_config_place(spec, side), **dtypes)
        except UsageError as error:
            notes.append(f"Memory and context of the {side} model are not checked here: {error.message}")


def plan_servers(spec: ExperimentSpec, sizes: dict[str, ModelSize]) -> list[str]:
    """How the servers share the GPUs, in words; nothing for running servers and for the CPU.

    Raises:
        UsageError: they do not fit, or a GPU is missing; with the figures.
        PairMismatchError: their distributions differ in size.
    """
    if spec.servers.running or spec.bundled or spec.servers.device == "cpu":
        return []
    pairs = [("base", side) for side in spec.models.by_side if side != "base"]
    found = visible_gpus()
    if not found and spec.servers.gpu_gib is None:
        return ["No GPU was found here, so memory is not planned. For a plan name one: gpu_gib = 80 in [servers]."]
    supposed = "" if found else f" on a supposed GPU of {spec.servers.gpu_gib:g} GiB"
    gpus = found or _supposed_gpus(spec)
    notes = []
    for pair in pairs:
        if set(pair) <= set(sizes):
            servers = [Server(_config_place(spec, side), side, Path("logs")) for side in pair]
            arranging = arrange_fused if spec.servers.fused else arrange
            arranged = arranging(servers[0], servers[1], serving_options(spec, pair[1]), gpus)
            described = [_with_names(spec, pair, note) for note in arranged.notes]
            notes += [f"Memory, base with {pair[1]}{supposed}: {note}." for note in described]
    return notes


def _with_names(spec: ExperimentSpec, pair: tuple[str, str], note: str) -> str:
    """A memory plan that names the models, where their sizes were read beside their tokenizers."""
    for side in pair:
        for end in (":", " and "):
            note = note.replace(f" {_config_place(spec, side)}{end}", f" {spec.models.by_side[side].model}{end}")
    return note


def serving_options(spec: ExperimentSpec, reasoning_side: str) -> ServingOptions:
    """How the base model and one of the reasoning models are to be served."""
    servers = spec.servers
    return ServingOptions(
        base_flags=flags_of(spec, "base"),
        reasoning_flags=flags_of(spec, reasoning_side),
        device=servers.device,
        demand=Demand(servers.context, servers.concurrency),
        base_gpus=servers.base_gpus,
        reasoning_gpus=servers.reasoning_gpus,
        replicas=servers.replicas,
        gates=sorted({gate for program in spec.programs for gate in program.option("gate") if gate is not None}),
    )


def _supposed_gpus(spec: ExperimentSpec) -> list[Gpu]:
    servers = spec.servers
    named = [*(servers.base_gpus or ()), *(servers.reasoning_gpus or ())]
    n = max([servers.replicas - 1, *named]) + 1
    size = int((servers.gpu_gib or 0) * GIB)
    # A driver keeps some of it for itself.
    return [Gpu(index, str(index), "supposed", size, size - 512 * MIB) for index in range(n)]


def _config_place(spec: ExperimentSpec, side: str) -> str:
    """Where the config.json of a model is: its own, or one beside a named tokenizer."""
    model = spec.models.by_side[side]
    if model.model == BUNDLED or Path(model.model).is_dir():
        return tokenizer_of(spec, side) if model.model == BUNDLED else model.model
    return model.tokenizer if model.tokenizer and _has_config(model) else model.model


def _has_config(model: ModelSpec) -> bool:
    folders = [model.model, *([model.tokenizer] if model.tokenizer else [])]
    return model.model == BUNDLED or any((Path(folder) / "config.json").is_file() for folder in folders)
