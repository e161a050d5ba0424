"""`random`: a control. Takeovers at random positions, each with probability `budget`, or with the realised one of `like`."""

from __future__ import annotations

from rrti_sgl.programs.program import Program
from rrti_sgl.science.gates import RandomGate

PROGRAM = Program(
    name="random",
    summary="control: takeovers at random positions",
    make_gate=lambda options, context: RandomGate(context.follow(options).rho if options.like else options.budget),
    follows=True,
)
