"""`reasoning`: the reasoning model alone. The upper reference, and the 100 % of recovery.

Stored as a takeover at every position (rho = 1); the base model is never asked.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program
from rrti_sgl.science.gates import AlwaysGate

PROGRAM = Program(
    name="reasoning",
    summary="the reasoning model alone",
    make_gate=lambda options, context: AlwaysGate(),
)
