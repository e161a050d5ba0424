"""The seam for an engine that holds both models and decodes whole samples itself, gate included."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.science.gates import Gate


class GuidedEngine(Protocol):
    """What a session asks of such an engine in place of two: the trace that decoding with two engines would have given."""

    def decode(
        self, job: SampleJob, gate: Gate, options: DecodeOptions, *, streamed: bool
    ) -> AsyncGenerator[TraceBuilder, None]:
        """Decode one sample; yields its growing trace after every piece, the last time finished.

        Closing the generator ends the work. Where it is not `streamed`, one piece will do.

        Raises:
            UsageError: a gate or an option that it does not know.
            EndpointError: it failed.
        """
