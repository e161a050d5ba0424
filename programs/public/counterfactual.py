"""What single takeovers did to their solutions, as a call gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rrti_sgl.programs.public.store import Run
from rrti_sgl.programs.running.counterfactual import Effect
from rrti_sgl.programs.tables.table import Column, Table, rows_table


@dataclass(frozen=True)
class Counterfactual:
    """What single takeovers did.

    Args:
        run: the continuations, as a run of program `counterfactual`.
        effects: one for each position that was tried.
    """

    run: Run
    effects: Sequence[Effect]

    @property
    def table(self) -> Table:
        """One row a position: both tokens, the share of right solutions with each, and the difference with its interval."""
        return effects_table(self.effects)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def effects_table(effects: Sequence[Effect]) -> Table:
    """What single takeovers did, one row a position."""
    names = ("position", "base_token", "reasoning_token", "score", "continuations", "taken", "denied", "effect", "necessary")
    rows = [
        {name: getattr(each, name) for name in names}
        | ({} if each.continuations == 1 else dict(zip(("effect_low", "effect_high"), each.interval, strict=True)))
        for each in effects
    ]
    labels = {"base_token": "base", "reasoning_token": "reasoning", "continuations": "of each"}
    brackets = "In brackets: 95 % intervals of one position each, over its continuations (Agresti and Caffo)."
    columns = [Column(name, labels.get(name)) for name in names]
    return rows_table("Effect of takeovers", rows, columns, brackets=brackets)
