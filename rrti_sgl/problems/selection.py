"""Which problems of a set are taken: a part of it, a seeded sample, the first so many.

Everything here depends on the problems' ids alone, so it does not change with the order of a file or with problems that are
added to it: a problem stays in its part for ever, and a smaller sample of one seed lies within a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.records import ProblemRecord

Part = Literal["all", "calibration", "evaluation"]
PARTS: tuple[Part, ...] = get_args(Part)
CALIBRATION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Selection:
    """Which problems to take; applied in the order of the fields.

    Args:
        part: "calibration" and "evaluation" share no problem; "all" takes both.
        sample: draw so many at random; None takes all.
        seed: of that draw.
        limit: the first so many; None takes all.

    Raises:
        UsageError: an unknown part, or a number below 1.
    """

    part: Part = "all"
    sample: int | None = None
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise UsageError(f"{argument('split', text=repr(self.part))} is unknown.", f"Use {', '.join(PARTS)}.")
        for option, value in (("limit", self.limit), ("sample_problems", self.sample)):
            if value is not None and value < 1:
                raise UsageError(f"{argument(option, value)} leaves no problem.", "Use at least 1.")

    def apply(self, problems: Sequence[ProblemRecord]) -> list[ProblemRecord]:
        """The selected problems, in the order of the set.

        Raises:
            UsageError: none is left.
        """
        chosen = [problem for problem in problems if self.part in ("all", part_of(problem.problem_id))]
        if self.sample is not None:
            drawn = sorted(chosen, key=lambda problem: _rank(f"{self.seed}\n{problem.problem_id}"))[: self.sample]
            ids = {problem.problem_id for problem in drawn}
            chosen = [problem for problem in chosen if problem.problem_id in ids]
        chosen = chosen[: self.limit]
        if not chosen:
            raise UsageError(
                f"{argument('split', self.part)} of {len(problems)} problems is empty.", "Take all, or a larger set."
            )
        return chosen


def part_of(problem_id: str) -> Part:
    """The part that a problem belongs to: about a fifth is for calibration."""
    return "calibration" if _rank(f"part\n{problem_id}") < CALIBRATION_SHARE * 2.0**64 else "evaluation"


def _rank(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
