"""What single takeovers did to their solutions, as a call gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rrti_sgl.programs.public.store import Run
from rrti_sgl.programs.running.counterfactual import Effect
from rrti_sgl.programs.tables.table import Table, rows_table


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
        """One row a position: both tokens, the share of right solutions with each, and the difference."""
        names = ("position", "base_token", "reasoning_token", "score", "taken", "denied", "effect", "necessary")
        return rows_table("Effect of takeovers", [{name: getattr(each, name) for name in names} for each in self.effects])

    def _repr_html_(self) -> str:
        return self.table._repr_html_()
