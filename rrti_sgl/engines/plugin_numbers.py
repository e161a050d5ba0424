"""Exact numbers from a server that has our plugin: asking whether they come.

The plugin itself is `rrti_sgl.server_plugin`; what it tells of a distribution is `rrti_sgl.science.exact_numbers.Exact`.
"""

from __future__ import annotations

import numpy as np

from rrti_sgl.engines.engine import Engine
from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import EndpointError, argument
from rrti_sgl.server_plugin import VARIABLE


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
