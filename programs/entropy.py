"""`entropy`: the paper's cheaper variant. The gate watches the base model's own entropy.

The reasoning model is asked at takeovers only, so divergences are stored there only.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program, threshold_rule
from rrti_sgl.science.gates import EntropyGate

PROGRAM = Program(
    name="entropy",
    summary="one-token takeovers where the base model is uncertain",
    make_gate=lambda options, context: EntropyGate(threshold_rule(options, context)),
    calibrated_on=lambda options: "entropy_base",
)
