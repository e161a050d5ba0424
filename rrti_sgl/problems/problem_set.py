"""The record of a loaded problem set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rrti_sgl.grading import Grader, PlantedDecisions
from rrti_sgl.records import ProblemRecord


@dataclass(frozen=True)
class ProblemSet:
    """Problems with a name, their grader, and what suits them where the user does not say otherwise.

    Args:
        name: what the store calls the set.
        problems: the problems that were selected.
        grader: grades their solutions.
        base_template: `name@version` of the base model's prompt template.
        reasoning_template: the same for the reasoning model.
        max_new_tokens: most tokens of a solution.
        planted: knows the planted decisions, where the set plants any.
    """

    name: str
    problems: Sequence[ProblemRecord]
    grader: Grader
    base_template: str = "question-answer@1"
    reasoning_template: str = "chat@1"
    max_new_tokens: int = 2048
    planted: PlantedDecisions | None = None


def problem_id(question: str) -> str:
    """Content hash of a question: 12 hex digits."""
    return hashlib.sha256(question.encode()).hexdigest()[:12]
