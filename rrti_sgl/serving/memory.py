"""How one GPU's memory is split among the servers on it. Pure arithmetic: sizes in, a plan or a refusal with figures out.

A server needs, in this order: its CUDA context, its weights, its KV cache, and a reserve for what comes and goes (CUDA
graphs, activations, the log-probabilities of a prefill). SGLang sizes the KV cache, once the weights are loaded, as

    free_after_loading - free_before_loading * (1 - mem_fraction_static)

with `free` the memory of the whole GPU that nobody uses. So the fraction is one of the memory that was free when *that
server* started: servers that share a GPU must start one after the other, and the later one's fraction is of what the
earlier left. It is given for the least that may then be free, and `--max-total-tokens` caps each cache at what is planned,
so that no server takes what another is to have.

The reserve is an estimate (the one that SGLang makes for itself, but never less than three float32 copies of the logits of a
prefill chunk, which scoring needs); no forward pass was measured for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.serving.model_size import ModelSize
from rrti_sgl.serving.versions import GRAPH_BATCH_FLAG

MIB, GIB = 1 << 20, 1 << 30
CUDA_CONTEXT_BYTES = 768 * MIB
FIXED_RESERVE_BYTES = 1024 * MIB  # attention workspaces, prefill graphs, the plugin's float32 blocks
GRAPH_BYTES_PER_SEQUENCE = 2 * MIB
ACTIVATION_BYTES_PER_TOKEN = 3 * MIB // 2
LOGIT_COPIES = 3
PREFILL_CHUNKS = (2048, 1024, 512)  # tokens; the largest that leaves room is taken
DEFAULT_CONTEXT = 4096
COMFORTABLE_SEQUENCES = 16  # below this many at once a smaller prefill chunk is preferred
MOST_SEQUENCES = 256
MOST_DRAFTED = 64  # sequences of one server for both models, where nobody says how many
ROUND_COPIES = 8  # float32: logits and log-probabilities of both models, what is made of them, and what comes and goes
_GRAPH_BATCH = 64  # largest captured batch where nobody says how many sequences there will be


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of the servers.

    Args:
        context: tokens of the longest sequence, prompt and answer; None plans with 4,096 and does not limit the servers.
        concurrency: sequences of that length at once; None takes as many as there is room for.
    """

    context: int | None = None
    concurrency: int | None = None

    def planned_context(self, models: Sequence[ModelSize]) -> int:
        """Tokens that a sequence is planned with: no more than the models were made for."""
        return self.context or min(DEFAULT_CONTEXT, *(model.max_context for model in models))


@dataclass(frozen=True, slots=True)
class Share:
    """One server's part of a GPU, in bytes.

    Args:
        model: what is served.
        tokens: capacity of its KV cache.
        kv_bytes: the same in bytes.
        reserve_bytes: for graphs, activations and logits.
        fraction: its `--mem-fraction-static`.
    """

    model: ModelSize
    tokens: int
    kv_bytes: int
    reserve_bytes: int
    fraction: float

    @property
    def total_bytes(self) -> int:
        """All that the server may take."""
        return CUDA_CONTEXT_BYTES + self.model.weight_bytes + self.kv_bytes + self.reserve_bytes


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A GPU's memory, split. The servers are to be started in the order of `shares`, each once the one before is ready.

    Args:
        free_bytes: what there was.
        prefill_chunk: tokens that a server prefills at a time.
        sequences: sequences of the planned context that are in every cache at once.
        demand: what was asked.
        shares: one for each server.
    """

    free_bytes: int
    prefill_chunk: int
    sequences: int
    demand: Demand
    shares: tuple[Share, ...]

    @property
    def total_bytes(self) -> int:
        """All that the servers may take together."""
        return sum(share.total_bytes for share in self.shares)

    def flags(self, share: Share) -> dict[str, str]:
        """SGLang's flags of one server of this plan."""
        return demand_flags(self.demand) | {
            "--mem-fraction-static": f"{share.fraction:.3f}",
            "--max-total-tokens": str(share.tokens),
            "--chunked-prefill-size": str(self.prefill_chunk),
            GRAPH_BATCH_FLAG: str(_graph_batch(self.demand)),
        }

    def describe(self) -> list[str]:
        """The plan in words, a line for each server."""
        return [
            f"{share.model.name}: weights {_gib(share.model.weight_bytes)}, KV cache {_gib(share.kv_bytes)} "
            f"({share.tokens:,} tokens), reserve {_gib(share.reserve_bytes + CUDA_CONTEXT_BYTES)}, "
            f"--mem-fraction-static {share.fraction:.3f}"
            for share in self.shares
        ]


def plan_memory(models: Sequence[ModelSize], free_bytes: int, demand: Demand | None = None) -> MemoryPlan:
    """Split the free memory of one GPU among the servers of `models`, in the order in which they will start.

    All caches hold the same number of tokens, because the models see the same sequences. All room that is left is cache, up
    to 256 sequences.

    Args:
        models: what this GPU has to hold (its part, under tensor parallelism).
        free_bytes: of the GPU, before any of the servers starts.
        demand: context and concurrency.

    Raises:
        UsageError: the demand does not fit this GPU or these models; with the figures.
    """
    demand = demand or Demand()
    check_demand(models, demand)
    context = demand.planned_context(models)
    wanted = demand.concurrency or COMFORTABLE_SEQUENCES
    for chunk in PREFILL_CHUNKS:
        tokens = _tokens(models, free_bytes, demand, chunk)
        if tokens >= wanted * context:
            break
    if tokens < (demand.concurrency or 1) * context:
        raise UsageError(
            _does_not_fit(models, free_bytes, demand, chunk, tokens), _what_would(demand.concurrency, tokens, context)
        )
    tokens = min(tokens, max(wanted, MOST_SEQUENCES) * context)
    shares = []
    left = free_bytes
    for model in models:
        reserve = reserve_bytes(model, demand, chunk)
        kv_bytes = tokens * model.kv_bytes_per_token
        graphs = GRAPH_BYTES_PER_SEQUENCE * _graph_batch(demand)  # inside the fraction where SGLang sizes after capture
        static = model.weight_bytes + kv_bytes + graphs
        fraction = math.ceil(static / (left - CUDA_CONTEXT_BYTES) * 1000) / 1000
        share = Share(model, tokens, kv_bytes, reserve, fraction)
        left -= share.total_bytes
        shares.append(share)
    return MemoryPlan(free_bytes, chunk, tokens // context, demand, tuple(shares))


def plan_both(
    base: ModelSize, reasoning: ModelSize, free_bytes: int, demand: Demand | None = None, draft_tokens: int = 8
) -> MemoryPlan:
    """The free memory of one GPU for one server that holds both models, each with a cache of as many tokens.

    SGLang sizes the reasoning model's cache by the fraction and the cap, and then makes the base model's with as many tokens
    beside it. A round holds the logits of all its drafted tokens in several copies, of both models; they are set aside too.

    Args:
        base, reasoning: what the GPU has to hold.
        free_bytes: of the GPU, before the server starts.
        demand: context and concurrency; without one, 64 sequences are drafted at once.
        draft_tokens: of a round.

    Raises:
        UsageError: the demand does not fit this GPU or these models; with the figures.
    """
    demand = demand or Demand()
    both = ModelSize(
        f"{base.name} and {reasoning.name}",
        base.weight_bytes + reasoning.weight_bytes,
        base.kv_bytes_per_token + reasoning.kv_bytes_per_token,
        min(base.kv_heads, reasoning.kv_heads),
        reasoning.vocab_size,
        min(base.max_context, reasoning.max_context),
    )
    return plan_memory([both], free_bytes - round_bytes(reasoning, demand, draft_tokens), demand)


def round_bytes(model: ModelSize, demand: Demand, draft_tokens: int) -> int:
    """What the logits of a round take, see `plan_both`."""
    return 4 * ROUND_COPIES * (demand.concurrency or MOST_DRAFTED) * draft_tokens * model.vocab_size


def alone_flags(model: ModelSize, free_bytes: int, demand: Demand) -> dict[str, str]:
    """Flags of a server that has its GPUs to itself: checked like a shared one, then left to SGLang's own sizing.

    Raises:
        UsageError: the demand does not fit.
    """
    plan_memory([model], free_bytes, demand)
    return demand_flags(demand)


def reserve_bytes(model: ModelSize, demand: Demand, prefill_chunk: int) -> int:
    """What a server needs beside weights and cache: an estimate, see the module."""
    logits = LOGIT_COPIES * 4 * model.vocab_size
    graphs = GRAPH_BYTES_PER_SEQUENCE * _graph_batch(demand)
    return FIXED_RESERVE_BYTES + graphs + prefill_chunk * max(ACTIVATION_BYTES_PER_TOKEN, logits)


def check_demand(models: Sequence[ModelSize], demand: Demand) -> None:
    """Refuse a demand that no GPU could meet.

    Raises:
        UsageError: a number below 1, or a context that a model was not made for.
    """
    for name, value in (("context", demand.context), ("concurrency", demand.concurrency)):
        if value is not None and value < 1:
            raise UsageError(f"{argument(name, value)} is below 1.", "Use 1 or more.")
    for model in models:
        if demand.context is not None and demand.context > model.max_context:
            raise UsageError(
                f"A context of {demand.context} tokens was asked for, but {model.name!r} was made for {model.max_context}.",
                f"Use {argument('context', model.max_context)} or less.",
            )


def _tokens(models: Sequence[ModelSize], free_bytes: int, demand: Demand, chunk: int) -> int:
    """Tokens that every cache can hold, 0 where not even the rest fits."""
    fixed = sum(CUDA_CONTEXT_BYTES + model.weight_bytes + reserve_bytes(model, demand, chunk) for model in models)
    return max(0, (free_bytes - fixed) // sum(model.kv_bytes_per_token for model in models))


def _graph_batch(demand: Demand) -> int:
    return min(demand.concurrency or _GRAPH_BATCH, MOST_SEQUENCES)


def demand_flags(demand: Demand) -> dict[str, str]:
    """SGLang's flags for what was asked; nothing is limited that was not asked for."""
    flags = {"--max-running-requests": demand.concurrency, "--context-length": demand.context}
    return {flag: str(value) for flag, value in flags.items() if value is not None}


def _does_not_fit(models: Sequence[ModelSize], free_bytes: int, demand: Demand, chunk: int, tokens: int) -> str:
    concurrency, context = demand.concurrency or 1, demand.planned_context(models)
    kv_bytes = concurrency * context * sum(model.kv_bytes_per_token for model in models)
    weights = " and ".join(f"{_gib(model.weight_bytes)} of {model.name}" for model in models)
    reserve = sum(CUDA_CONTEXT_BYTES + reserve_bytes(model, demand, chunk) for model in models)
    needed = sum(model.weight_bytes for model in models) + reserve + kv_bytes
    return (
        f"The GPU is too small: {_gib(free_bytes)} are free, {_gib(needed)} are needed: the weights ({weights}), "
        f"{_gib(kv_bytes)} of KV cache for {concurrency} sequence(s) of {context:,} tokens, and {_gib(reserve)} for CUDA "
        f"and activations. There is room for {tokens:,} tokens."
    )


def _what_would(concurrency: int | None, tokens: int, context: int) -> str:
    apart = f"a GPU for each model ({argument('base_gpus')}, {argument('reasoning_gpus')})"
    if concurrency is not None and (fitting := tokens // context):
        return f"Use {argument('concurrency', fitting)} or fewer, a shorter {argument('context')}, or {apart}."
    if tokens >= 256:
        return f"Use {argument('context', tokens)} with {argument('concurrency', 1)}, or {apart}."
    return f"Use a larger GPU, {apart}, or a smaller model."


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / GIB:.1f} GiB"
