"""`oracle`: takeovers exactly at the planted decision points, on worlds that know them.

The gate's signal is 1 at a planted position and 0 elsewhere, so this is what a perfect detector of planted decisions would
reach, and at which budget. What guided decoding does better or worse is then known apart from the takeover itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import PlantedDecisions
from rrti_sgl.programs.program import Program
from rrti_sgl.records import FloatArray, Json, ProblemRecord
from rrti_sgl.science.gates import Steps, ThresholdGate, ThresholdRule
from rrti_sgl.tokens.vocabulary import Vocabulary


class OracleGate(ThresholdGate):
    """Fires where the problem plants a decision, given the tokens so far."""

    name = "oracle"
    needs_reasoning = False

    def __init__(self, planted: PlantedDecisions | None, vocabulary: Vocabulary) -> None:
        super().__init__(ThresholdRule(0.5))
        if planted is None:
            raise UsageError(
                "The problem set plants no decision points, so there is no oracle for it.", "Use a world:... problem set."
            )
        self._decisions, self._vocabulary = planted, vocabulary

    def params(self) -> dict[str, Json]:
        """What knows the planted positions."""
        return {"grader": self._decisions.name}

    def signal(self, steps: Steps) -> FloatArray:
        """1 at planted positions, else 0."""
        planted = set(self._planted(steps.problem, (*steps.prefix, *steps.drafted)))
        return np.asarray([float(int(position) in planted) for position in steps.positions])

    def _planted(self, problem: ProblemRecord | None, token_ids: Sequence[int]) -> list[int]:
        words = [self._vocabulary.token_text(int(i)).strip() for i in token_ids]
        return [] if problem is None else self._decisions.positions(problem, words)


PROGRAM = Program(
    name="oracle",
    summary="takeovers at planted decision points",
    make_gate=lambda options, context: OracleGate(context.planted, context.vocabulary),
)
