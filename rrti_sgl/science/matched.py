"""Gates of the control `matched`: takeovers at random, as often at each position or token as in another run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, Json
from rrti_sgl.science.gates import Steps, ThresholdGate, ThresholdRule, counter_uniform


class PositionGate(ThresholdGate):
    """Control: each position with a probability of its own, whatever the models say.

    The signal is the probability less a hash of (sample seed, position), uniform in (0, 1), and tau = 0.

    Args:
        edges: (n,) first position of each bin, ascending from 0; the last bin has no end.
        rates: (n,) probability of a takeover at each position of a bin.
    """

    name = "position"
    needs_reasoning = False
    needs_base = False

    def __init__(self, edges: Sequence[int], rates: Sequence[float]) -> None:
        super().__init__(ThresholdRule(0.0))
        self.edges, self.rates = _whole("edges", edges), _probabilities(rates)
        if len(self.edges) != len(self.rates) or list(self.edges[:1]) != [0] or (np.diff(self.edges) <= 0).any():
            raise UsageError(f"edges = {list(edges)!r} do not begin bins.", "Give as many as rates, ascending from 0.")

    def params(self) -> dict[str, Json]:
        """`edges` and `rates`."""
        return {"edges": self.edges.tolist(), "rates": self.rates.tolist()}

    def signal(self, steps: Steps) -> FloatArray:
        """What the probabilities exceed uniform numbers by."""
        bins = np.searchsorted(self.edges, steps.positions, side="right") - 1
        excess: FloatArray = self.rates[bins] - counter_uniform(steps.sample_seed, steps.positions)
        return excess


class TokenGate(ThresholdGate):
    """Control: takeovers at random, with a probability for each token that the base model draws.

    The signal is that probability less a hash of (sample seed, position), uniform in (0, 1), and tau = 0.

    Args:
        ids: (n,) tokens, each once.
        rates: (n,) probability of a takeover where the base model draws it; that of all other tokens is 0.
    """

    name = "token"
    needs_reasoning = False
    needs_base = False

    def __init__(self, ids: Sequence[int], rates: Sequence[float]) -> None:
        super().__init__(ThresholdRule(0.0))
        tokens, chances = _whole("ids", ids), _probabilities(rates)
        if len(tokens) != len(chances) or len(np.unique(tokens)) != len(tokens) or not len(tokens):
            raise UsageError(
                f"ids holds {len(tokens)} tokens, rates {len(chances)}.", "Give each token once, with its rate."
            )
        order = np.argsort(tokens)
        self.ids, self.rates = tokens[order], chances[order]

    def params(self) -> dict[str, Json]:
        """`ids` and `rates`."""
        return {"ids": self.ids.tolist(), "rates": self.rates.tolist()}

    def signal(self, steps: Steps) -> FloatArray:
        """What the probabilities exceed uniform numbers by."""
        drafted = np.asarray(steps.drafted, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.ids, drafted), len(self.ids) - 1)
        rates = np.where(self.ids[places] == drafted, self.rates[places], 0.0)
        excess: FloatArray = rates - counter_uniform(steps.sample_seed, steps.positions)
        return excess


def _whole(name: str, values: Sequence[int]) -> NDArray[np.int64]:
    """(n,) whole numbers of a parameter."""
    found = np.asarray(values)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise UsageError(f"{name} = {values!r:.60} are no whole numbers.", "Give a list of them.")
    return found.astype(np.int64)


def _probabilities(values: Sequence[float]) -> FloatArray:
    """(n,) probabilities of a parameter."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not ((found >= 0) & (found <= 1)).all():
        raise UsageError(f"rates = {list(values)!r:.60} are no probabilities.", "Give a list of numbers from 0 to 1.")
    return found
