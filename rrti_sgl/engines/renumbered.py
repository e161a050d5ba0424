"""An engine whose special tokens have other ids than its pair's: requests and answers are renumbered on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rrti_sgl.engines.engine import Engine, EngineInfo
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.tokens.special_tokens import Renumbering


class RenumberedEngine:
    """An `Engine` that speaks the pair's ids to us and its own to the model.

    Args:
        engine: of the model.
        to_pair: the model's own ids to the pair's.
    """

    def __init__(self, engine: Engine, to_pair: Renumbering) -> None:
        self._engine, self._to_pair, self._to_own = engine, to_pair, to_pair.inverse

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return self._engine.info

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Answer a batch; every id in it and in the answers is the pair's."""
        answers = await self._engine.generate([renumber_request(request, self._to_own) for request in requests])
        return [_renumber_generation(answer, self._to_pair) for answer in answers]

    async def flush(self) -> None:
        """Forget cached prefixes."""
        await self._engine.flush()

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()


def renumber_request(request: GenerateRequest, ids: Renumbering) -> GenerateRequest:
    """A request with all its token ids renumbered."""
    return replace(
        request,
        input_ids=ids.ids(request.input_ids),
        stop_token_ids=tuple(ids.ids(request.stop_token_ids)),
        logprob_ids=tuple(ids.ids(request.logprob_ids)),
        named_ids=None if request.named_ids is None else ids.array(request.named_ids),
    )


def _renumber_generation(generation: Generation, ids: Renumbering) -> Generation:
    return replace(
        generation,
        output_ids=ids.array(generation.output_ids),
        output=_renumber_rows(generation.output, ids),
        input=_renumber_rows(generation.input, ids),
    )


def _renumber_rows(rows: Distributions, ids: Renumbering) -> Distributions:
    exact = rows.exact and replace(rows.exact, named_ids=ids.array(rows.exact.named_ids))
    return replace(rows, ids=ids.array(rows.ids), exact=exact)
