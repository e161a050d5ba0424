"""What tokens and sentences did to their solutions, as a call gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.programs.public.store import Run
from rrti_sgl.programs.running.counterfactual import Effect
from rrti_sgl.programs.tables.numbers import IDENTIFIER
from rrti_sgl.programs.tables.table import Column, Table, rows_table

_BRACKETS = "In brackets: 95 % intervals of one {unit} each, over its continuations."
_SHOWN = 16  # characters
_TITLES = {
    "token": ("Effect of takeovers", "position"),
    "sentence": ("Effect of sentences", "sentence"),
    "pivotal": ("Pivotal tokens, and stretches left open", "token or stretch"),
}
_STRETCH = (Column("first", kind=IDENTIFIER), Column("position", "last"), Column("begins"))
_SHARES = ((Column("taken", "with"), Column("denied", "without")), (Column("taken"), Column("denied")))
_ANSWERS = "answers: half the squared distance of the two distributions of answers, 0 to 1."


@dataclass(frozen=True)
class Counterfactual:
    """What single tokens or sentences did.

    Args:
        run: the continuations, as a run of program `counterfactual`.
        effects: one for each token or sentence that was tried, or token that was found.
    """

    run: Run
    effects: Sequence[Effect]

    @property
    def table(self) -> Table:
        """A row each: what stands there, the share of right solutions with and without it, and the difference."""
        return effects_table(self.effects, self.run.record.config["arms"]["unit"])

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def effects_table(effects: Sequence[Effect], unit: str) -> Table:
    """What single tokens or sentences did, a row each; of sentences and found tokens the beginning of the text is shown.

    Args:
        effects: of one run.
        unit: one of `rrti_sgl.programs.running.arms.UNITS`.
    """
    drawn = all(each.continuations > 1 for each in effects)
    rows = [_row(each, drawn=drawn) for each in effects]
    shown = [Column("score"), Column("continuations", "of each"), *_SHARES[unit == "token"], Column("effect")]
    shown += [*([Column("answers")] if drawn else []), Column("necessary")]
    own = [Column("position"), Column("base_token", "base"), Column("reasoning_token", "reasoning")]
    columns = [*(own if unit == "token" else _STRETCH), *shown] if rows else []
    notes, brackets = [_ANSWERS] if drawn else [], _BRACKETS.format(unit=_TITLES[unit][1])
    return rows_table(_TITLES[unit][0], rows, columns, notes=notes, brackets=brackets)


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
