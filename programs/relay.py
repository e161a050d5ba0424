"""`relay`: as `guided`, but a takeover is several tokens long (`relay_tokens`), not one.

Answers whether the choice of exactly one token costs anything. The gate is asked about the first token of a takeover;
the others are written by the reasoning model without asking, are stored with source "reasoning" and without a score, and
count in rho.
"""

from __future__ import annotations

from rrti_sgl.programs.program import Program, disagreement_gate

PROGRAM = Program(
    name="relay",
    summary="takeovers of several tokens where the models disagree",
    make_gate=disagreement_gate,
    calibrated_on=lambda options: options.metric,
    takeover_tokens=lambda options: options.relay_tokens,
)
