"""Drawing a takeover token on our side, where that is exactly what the server would do."""

from __future__ import annotations

import numpy as np

from rrti_sgl.engines.wire import Sampling
from rrti_sgl.science.distributions import Distributions


def draw(distribution: Distributions, sampling: Sampling, uniform: float) -> int | None:
    """Draw one token of a single-row distribution, or say that its top k do not determine the draw.

    The draw is exact in three cases: greedy; the whole vocabulary is there; or temperature 1 with the nucleus inside the top
    k. A temperature other than 1 rescales the unknown tail, so a truncated list is not enough then.

    Args:
        distribution: one row, most probable first.
        sampling: temperature and top-p. The nucleus is the smallest set of most probable tokens whose mass exceeds top-p,
            as SGLang takes it.
        uniform: number in [0, 1) that decides.

    Returns:
        The token id; None where only the server can draw it.
    """
    if sampling.greedy:
        return int(distribution.ids[0, 0])
    logprobs = distribution.logprobs[0].astype(np.float64)
    if not distribution.is_full:
        inside = float(np.exp(logprobs[:-1]).sum()) > sampling.top_p
        if sampling.temperature != 1.0 or not inside:
            return None
    scaled = logprobs / sampling.temperature
    probabilities = np.exp(scaled - scaled.max())
    if distribution.is_full:
        probabilities /= probabilities.sum()
    else:
        probabilities = np.exp(logprobs)
    before = np.cumsum(probabilities) - probabilities
    probabilities = np.where(before > sampling.top_p, 0.0, probabilities)
    cumulative = np.cumsum(probabilities)
    column = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return int(distribution.ids[0, min(column, len(cumulative) - 1)])
