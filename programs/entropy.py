"""`entropy`: the paper's cheaper variant. The gate watches the base model's own entropy.

The reasoning model is asked at takeovers only, so divergences are stored there only. With `like` tau is an entropy that as
large a share of that run's tokens exceeds as were its takeovers: the budgets come out near each other.
"""

from __future__ import annotations

from dataclasses import replace

from rrti_sgl.programs.program import GateContext, GateOptions, Program, threshold_rule
from rrti_sgl.science.calibration import separating
from rrti_sgl.science.gates import EntropyGate, Gate


def _make_gate(options: GateOptions, context: GateContext) -> Gate:
    if options.like:
        followed = context.follow(options)
        options = replace(options, tau=separating(followed.scores("entropy_base", options.rolling), followed.rho))
    return EntropyGate(threshold_rule(options, context))


PROGRAM = Program(
    name="entropy",
    summary="one-token takeovers where the base model is uncertain",
    make_gate=_make_gate,
    calibrated_on=lambda options: None if options.like and not options.use_lambda else "entropy_base",
    follows=True,
)
