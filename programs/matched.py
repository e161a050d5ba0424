"""`matched`: a control. Takeovers at random positions that are distributed over a solution as those of another run.

At each position a takeover has the probability with which the run that is followed (`like`) took over there. As many
takeovers, as early or late in a solution: what is left of that run's lead is which of these tokens it chose. With
`match="token"` the probability is that of the token that the base model draws: as many takeovers of each token of the
vocabulary, so what is left is where such a token stands.
"""

from __future__ import annotations

from rrti_sgl.programs.program import GateContext, GateOptions, Program
from rrti_sgl.science.gates import Gate
from rrti_sgl.science.matched import PositionGate, TokenGate


def _make_gate(options: GateOptions, context: GateContext) -> Gate:
    followed = context.follow(options)
    return TokenGate(*followed.token_rates()) if options.match == "token" else PositionGate(*followed.rates())


PROGRAM = Program(
    name="matched",
    summary="control: takeovers at random positions, distributed as another run's",
    make_gate=_make_gate,
    follows=True,
)
