"""Grading on the bundled world, and its planted decisions."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.grading.grader import Grade
from rrti_sgl.records import ProblemRecord


class WorldGrader:
    """Compares the number after the last `answer` with the world's own result."""

    name = "world-v1"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """Grade one solution of a world problem."""
        from rrti_sgl.tinypair.solutions import grade

        answer, correct = grade(problem.answer or "", text)
        return Grade(answer, correct if problem.answer is not None else None, None if answer is None else "answer-word")


class WorldDecisions:
    """The decision points that the world plants in every problem."""

    name = "world-v1"

    def positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int]:
        """Follow the rollout through the problem's plans."""
        from rrti_sgl.tinypair.problems import WorldProblem
        from rrti_sgl.tinypair.solutions import planted_positions

        return planted_positions(WorldProblem.from_dict(dict(problem.metadata["world"])), tokens)
