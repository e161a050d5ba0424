"""`diagnose`: base rollouts, scored by both models at every position (part 1 of the paper).

Nothing is changed. `score` holds the chosen metric, and every divergence, both entropies and both top-k lists are stored, so
that sparsity, position, uncertainty, planning and failure can be asked of the store, and gates calibrated on it.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program
from rrti_sgl.science.gates import NeverGate

PROGRAM = Program(
    name="diagnose",
    summary="base rollouts scored by both models",
    make_gate=lambda options, context: NeverGate(options.metric),
)
