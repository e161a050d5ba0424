"""`early`: a control. Takeovers at the first share of the positions.

How long a solution will be is not known while it is written, so the share is taken of a typical base solution's length, the
mean of the calibration's rollouts: the first `round(budget * mean_length)` positions. With `like` they are as many as the
takeovers of a sample of that run, on average.
"""

from __future__ import annotations

from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.programs.program import GateContext, GateOptions, Program
from rrti_sgl.science.gates import EarlyGate, Gate


def _make_gate(options: GateOptions, context: GateContext) -> Gate:
    if options.like:
        return EarlyGate(context.follow(options).a_sample)
    calibration = context.calibration
    length = options.mean_length if options.mean_length is not None else calibration.mean_length if calibration else None
    if length is None:
        raise UsageError(
            "The length of a typical solution is not known.",
            f"Run `{command('calibrate')}`, or give {argument('mean_length')}.",
        )
    return EarlyGate(round(options.budget * length))


PROGRAM = Program(
    name="early",
    summary="control: takeovers at the first positions",
    make_gate=_make_gate,
    calibrated_on=lambda options: None if options.mean_length is not None or options.like else options.metric,
    follows=True,
)
