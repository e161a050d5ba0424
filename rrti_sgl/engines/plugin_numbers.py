"""Exact numbers from a server that has our plugin: saying once that they are missing, and asking whether they come.

The plugin itself is `rrti_sgl.server_plugin`; what it tells of a distribution is `rrti_sgl.science.exact_numbers.Exact`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError, argument
from rrti_sgl.server_plugin import VARIABLE

logger = logging.getLogger(__name__)


class MissingNumbers:
    """Says, once for each reason, that exact numbers did not come; what is computed then falls back to the top k.

    Args:
        name: of the engine.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str | None] = {None}

    def warn(self, generations: Iterable[Generation]) -> None:
        """Log the reasons that are new."""
        for reason in {generation.exact_missing for generation in generations} - self._said:
            logger.warning("%s: no exact numbers, falling back to top-k: %s", self._name, reason)
            self._said.add(reason)


async def check_exact(engine: Engine) -> None:
    """Refuse an engine that gives no exact numbers; found by trying.

    Raises:
        EndpointError: names it and says why.
    """
    ids = np.zeros((1, 1), dtype=np.int32)
    [probe] = await engine.generate([GenerateRequest((0,), max_new_tokens=1, k=1, exact=True, named_ids=ids)])
    if probe.exact_missing is not None:
        raise EndpointError(
            f"{engine.info.name} gives no exact numbers: {probe.exact_missing}.",
            f"Start it with `rrti serve`, or with rrti-sgl installed beside SGLang and {VARIABLE}=1 in its "
            f"environment; or use {argument('score_kind', 'topk')}.",
        )
