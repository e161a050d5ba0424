"""What is seen of a sample while it is decoded, in order: tokens as they are settled, takeovers, and the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.science.gates import Decision


@dataclass(frozen=True, slots=True)
class TokensAccepted:
    """The base model's tokens `token_ids`, from `position` on, are kept."""

    position: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Takeover:
    """At `position` the reasoning model wrote `token_id`; the base model had drawn `drawn` (None: it was not asked)."""

    position: int
    token_id: int
    drawn: int | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class TextSettled:
    """Further text that no later token can take back; only where a text is kept.

    `trace` is the sample's so far, with every token whose text this is.
    """

    text: str
    trace: TraceBuilder = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Finished:
    """The sample is whole."""

    job: SampleJob
    trace: TraceBuilder


Event = TokensAccepted | Takeover | TextSettled | Finished


def token_events(trace: TraceBuilder, start: int) -> Iterator[TokensAccepted | Takeover]:
    """The events of a trace's tokens from index `start` on; runs of base tokens are one event."""
    index = start
    while index < len(trace):
        end = index
        while end < len(trace) and trace.sources[end] == "base":
            end += 1
        if end > index:
            yield TokensAccepted(index, tuple(trace.token_ids[index:end]))
        if end < len(trace):
            drawn = trace.base_token_ids[end]
            yield Takeover(end, trace.token_ids[end], None if drawn < 0 else drawn, trace.decisions[end])
            end += 1
        index = end
