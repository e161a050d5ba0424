"""The seam between decoding and whatever runs a model: one method that answers requests, and what must be known beforehand.

Decoding states (`rrti_sgl.decoding`), batching (`rrti_sgl.engines.batching`) and the session know an engine by this protocol
alone. `rrti_sgl.engines.sglang` is the implementation over HTTP; a test brings its own in forty lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rrti_sgl.engines.wire import GenerateRequest, Generation


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is, and its limits.

    Args:
        name: what messages call it: the address of a server.
        model: the model's name as the engine reports it.
        tokenizer: folder or hub id of the model's tokenizer.
        version: of the software that runs it.
        vocab_size: entries of the model's output distribution; 0 while it is not known.
        max_input_tokens: longest input that it takes, tokens.
        max_running_requests: sequences that it works on at once.
        details: what else it says of itself (dtype, device, ...); kept with the run.
    """

    name: str
    model: str
    tokenizer: str
    version: str
    vocab_size: int
    max_input_tokens: int
    max_running_requests: int
    details: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """One model that answers requests.

    `generate` may be called again while earlier calls are under way, from one event loop. Cancelling a call ends its work.
    An answer is the same whatever else is in its batch, up to the arithmetic of the engine.
    """

    @property
    def info(self) -> EngineInfo:
        """What it is and what it takes; known from the start."""

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Answer a batch, in the order of the requests.

        Raises:
            EndpointError: the engine failed for good, or gave no answer that can be read.
            UsageError: a request that it must refuse (no tokens, k above the vocabulary).
        """

    async def flush(self) -> None:
        """Forget cached prefixes."""

    async def close(self) -> None:
        """Let go of connections; closing again changes nothing."""
