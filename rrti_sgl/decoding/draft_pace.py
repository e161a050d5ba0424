"""How far drafts go on two servers: as far as one more token is worth its step, by how often takeovers changed one lately.

A round of n drafted tokens costs n steps and what its two requests cost, and keeps each token with the chance that none
before it was changed. Going on pays while that chance is worth more than a step at the mean cost of a token kept so far: the
condition for the least ratio of two sums, as in `rrti_sgl.fused.pacing`, which can ask it after every step.

All samples of a gate draft equally far. A batch waits for its longest draft, and how often a sample's own takeovers changed
a token says nothing more of it, by simulation on stored traces (docs/performance.md).
"""

from __future__ import annotations

from typing import Final

ROUND: Final = 4.0
"""Drafted tokens that cost as much as the requests of a round: where a takeover changes 2.6 % of the tokens, drafts of 12 to
16 are cheapest (docs/performance.md)."""
_ASKED: Final = 200.0  # tokens that count for the given length before anything is known
_REMEMBERED: Final = 0.9995  # weight of what was, at each new token


class DraftPace:
    """How often one gate's takeovers changed a token lately; every sample of the gate adds to it."""

    def __init__(self) -> None:
        self._asked = self._changed = 0.0

    def add(self, tokens: int, *, changed: bool) -> None:
        """The gate was asked about so many tokens of a draft; a takeover changed the last of them, or none."""
        forgotten = _REMEMBERED**tokens
        self._asked = forgotten * self._asked + tokens
        self._changed = forgotten * self._changed + changed

    def length(self, most: int) -> int:
        """Tokens of a draft, at most so many, which is what is drafted until changes are seen."""
        best_at_most = ROUND / (most * (ROUND + most / 2))  # the share of changed tokens at which `most` pays, nearly
        rate = min((_ASKED * best_at_most + self._changed) / (_ASKED + self._asked), 1.0)
        length, kept, survives = 1, 1.0, 1 - rate
        while length < most and survives * (ROUND + length) > kept:
            length, kept, survives = length + 1, kept + survives, survives * (1 - rate)
        return length
