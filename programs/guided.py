"""`guided`: disagreement-guided intervention (part 2 of the paper).

Where the divergence of the two models exceeds tau (and, with the lambda condition on, lambda times its local mean), the
reasoning model takes over for exactly one token; then the base model goes on.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program, threshold_rule
from rrti_sgl.science.gates import DivergenceGate

PROGRAM = Program(
    name="guided",
    summary="one-token takeovers where the models disagree",
    make_gate=lambda options, context: DivergenceGate(options.metric, threshold_rule(options, context)),
    calibrated_on=lambda options: options.metric,
)
