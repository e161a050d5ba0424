"""What tokens and sentences did to their solutions, as a call gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.programs.public.store import Run
from rrti_sgl.programs.running.counterfactual import Effect
from rrti_sgl.programs.tables.table import Column, Table, rows_table

_BRACKETS = "In brackets: 95 % intervals of one {unit} each, over its continuations."
_SHOWN = 16  # characters
_ANSWERS = "answers: half the squared distance of the two distributions of answers, 0 to 1."


@dataclass(frozen=True)
class Counterfactual:
    """What single tokens or sentences did.

    Args:
        run: the continuations, as a run of program `counterfactual`.
        effects: one for each token or sentence that was tried.
    """

    run: Run
    effects: Sequence[Effect]

    @property
    def table(self) -> Table:
        """A row each: what stands there, the share of right solutions with and without it, and the difference."""
        return effects_table(self.effects)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def effects_table(effects: Sequence[Effect]) -> Table:
    """What single tokens or sentences did, a row each; of a sentence the beginning of its text is shown."""
    drawn = all(each.continuations > 1 for each in effects)
    shown = [Column("score"), Column("continuations", "of each"), Column("taken"), Column("denied"), Column("effect")]
    shown += [*([Column("answers")] if drawn else []), Column("necessary")]
    notes = [_ANSWERS] if drawn else []
    rows = [_row(each, drawn=drawn) for each in effects]
    if any(each.instead is not None for each in effects):
        columns = [Column("position"), Column("base_token", "base"), Column("reasoning_token", "reasoning"), *shown]
        return rows_table("Effect of takeovers", rows, columns, notes=notes, brackets=_BRACKETS.format(unit="position"))
    columns = [Column("first"), Column("position", "last"), Column("begins"), *shown]
    return rows_table("Effect of sentences", rows, columns, notes=notes, brackets=_BRACKETS.format(unit="sentence"))


def _row(effect: Effect, *, drawn: bool) -> dict[str, Any]:
    own = {"first": effect.unit.first, "text": effect.text, "begins": effect.text[:_SHOWN]}
    if effect.instead is not None:
        own = {"base_token": effect.instead, "reasoning_token": effect.text}
    names = ("score", "continuations", "taken", "denied", "effect", "necessary")
    row = {"position": effect.position, **own, **{name: getattr(effect, name) for name in names}}
    if drawn:
        row |= dict(zip(("effect_low", "effect_high"), effect.interval, strict=True))
        row |= dict(zip(("answers", "answers_low", "answers_high"), effect.answers, strict=True))
    return row
