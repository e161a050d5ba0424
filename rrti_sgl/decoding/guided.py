"""Which engine decodes whole samples of a pair."""

from __future__ import annotations

from rrti_sgl.decoding.endpoint import EndpointDecoding
from rrti_sgl.decoding.fused import FusedDecoding
from rrti_sgl.decoding.guided_engine import GuidedEngine
from rrti_sgl.engines.endpoint import EndpointSide
from rrti_sgl.engines.fused_server import FusedSide
from rrti_sgl.engines.pair import Pair


def guided_by(pair: Pair) -> GuidedEngine | None:
    """What decodes whole samples of a pair; None where its models are two servers'."""
    if isinstance(pair.base, FusedSide):
        return FusedDecoding(pair.base.servers, pair.vocab_size)
    return EndpointDecoding(pair.base, pair.vocab_size) if isinstance(pair.base, EndpointSide) else None
