"""A divergence where the base model doubts: takeovers where its entropy is high *and* the models disagree.

The signal is the divergence where `entropy_base > entropy_tau`, and 0 elsewhere, so that one score, with tau of at least 0,
replays both conditions. The local mean is of these scores, and so is a rolling one.

With js as the divergence this is what routers of single tokens call entropy and JS (Entropy_JS): doubt first, and where
there is any, Jensen-Shannon. We know it from code that builds on that of R2R (arXiv 2505.21600), and from no paper: "Sparse
but Critical" (arXiv 2603.22446) selects by JS and looks at entropy beside it, as far as its abstract tells. There the larger
model is asked only where there is doubt; here it is asked everywhere, so that every metric is stored of every token. That
any divergence may stand in the place of JS is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from rrti_sgl.errors import UsageError
from rrti_sgl.records import FloatArray, Json
from rrti_sgl.science.gates import DivergenceGate, ThresholdRule
from rrti_sgl.science.threshold import is_number


class DoubtGate(DivergenceGate):
    """Fires where the base model's entropy exceeds one threshold and a divergence another.

    Args:
        metric: the divergence.
        entropy_tau: of the base model's entropy, nats.
        rule: of the divergence.
    """

    name = "doubt"

    def __init__(self, metric: str, entropy_tau: float, rule: ThresholdRule) -> None:
        super().__init__(metric, rule)
        if not is_number(entropy_tau) or not 0 <= entropy_tau < math.inf:
            raise UsageError(f"entropy_tau = {entropy_tau!r} is no entropy.", "Give nats, at least 0.")
        if rule.tau < 0:
            raise UsageError(f"tau = {rule.tau:g} is below 0, which the score is without doubt.", "Give at least 0.")
        self.entropy_tau = entropy_tau

    @property
    def computed(self) -> tuple[str, ...]:
        """The divergence, and the base model's entropy."""
        return (*super().computed, "entropy_base")

    def params(self) -> dict[str, Json]:
        """Those of the divergence, and `entropy_tau`."""
        return super().params() | {"entropy_tau": self.entropy_tau}

    def combined(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """The divergence where there is doubt, else 0."""
        assert self.metric is not None
        return np.where(values["entropy_base"] > self.entropy_tau, values[self.metric], 0.0)
