"""`matched`: a control. Takeovers at random positions that are distributed over a solution as those of another run.

At each position a takeover has the probability with which the run that is followed (`like`) took over there. As many
takeovers, as early or late in a solution: what is left of that run's lead is which of these tokens it chose.
"""

from __future__ import annotations

from rrti_sgl.programs.program import GateContext, GateOptions, Program
from rrti_sgl.science.gates import Gate, PositionGate


def _make_gate(options: GateOptions, context: GateContext) -> Gate:
    return PositionGate(*context.follow(options).rates())


PROGRAM = Program(
    name="matched",
    summary="control: takeovers at random positions, distributed as another run's",
    make_gate=_make_gate,
    follows=True,
)
