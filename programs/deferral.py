"""`deferral`: takeovers by a deferral rule of speculative cascades (arXiv 2405.19261) in place of a divergence.

`--deferral` names the rule and `--tau` is its parameter. With `like` tau is what as large a share of that run's tokens
exceeds as were its takeovers, by the rule's signal over the lists that are stored of them: the budgets come out near each
other.
"""

from __future__ import annotations

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.program import GateContext, GateOptions, Program
from rrti_sgl.science.calibration import separating
from rrti_sgl.science.deferral import DeferralGate
from rrti_sgl.science.gates import Gate


def _make_gate(options: GateOptions, context: GateContext) -> Gate:
    if options.like:
        followed = context.follow(options)
        signals = followed.signals(DeferralGate(options.deferral, 0.0))
        return DeferralGate(options.deferral, separating(signals, followed.rho))
    if options.tau is None:
        remedy = f"Give {argument('tau')}, or a run to take over as often as: {argument('like')}."
        raise UsageError(f"The deferral rule {options.deferral!r} has no parameter.", remedy)
    return DeferralGate(options.deferral, options.tau)


PROGRAM = Program(
    name="deferral",
    summary="one-token takeovers by a rule of speculative cascades",
    make_gate=_make_gate,
    follows=True,
)
