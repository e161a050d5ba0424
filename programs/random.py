"""`random`: a control. Takeovers at random positions, each with probability `budget`."""

from __future__ import annotations

from rrti_sgl.programs.program import Program
from rrti_sgl.science.gates import RandomGate

PROGRAM = Program(
    name="random",
    summary="control: takeovers at random positions",
    make_gate=lambda options, context: RandomGate(options.budget),
)
