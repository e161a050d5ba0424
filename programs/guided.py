"""`guided`: disagreement-guided intervention (part 2 of the paper).

Where the divergence of the two models exceeds tau (and, with the lambda condition on, lambda times its local mean), the
reasoning model takes over for exactly one token; then the base model goes on. With `entropy_tau` the base model has to doubt
there, too.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program, disagreement_gate

PROGRAM = Program(
    name="guided",
    summary="one-token takeovers where the models disagree",
    make_gate=disagreement_gate,
    calibrated_on=lambda options: options.metric,
)
