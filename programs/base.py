"""`base`: the base model alone. The lower end of every comparison.

Every position keeps the base model's distribution and entropy; the reasoning model is never asked, so no divergence is
known. Use `diagnose` to have both models score the same kind of rollout.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program
from rrti_sgl.science.gates import NeverGate

PROGRAM = Program(
    name="base",
    summary="the base model alone",
    make_gate=lambda options, context: NeverGate(),
)
