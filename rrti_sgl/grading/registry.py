"""Graders by name."""

from __future__ import annotations

from collections.abc import Callable

from rrti_sgl.errors import UsageError
from rrti_sgl.grading.choice import ChoiceGrader
from rrti_sgl.grading.grader import Grader
from rrti_sgl.grading.last_number import LastNumberGrader
from rrti_sgl.grading.mathematics import MathGrader
from rrti_sgl.grading.world import WorldGrader
from rrti_sgl.science.own_classes import load_own

GRADERS: dict[str, Callable[[], Grader]] = {
    "last-number": LastNumberGrader,
    "math-verify": MathGrader,
    "choice": ChoiceGrader,
    "world": WorldGrader,
}


def load_grader(spec: str) -> Grader:
    """A grader by its name, or a user's own, `package.module:Class` called without arguments.

    Args:
        spec: "math-verify", the name under which a run was stored ("math-verify-v2+0.9.0"), or a class.

    Raises:
        UsageError: no such grader, or no grader.
    """
    if ":" in spec:
        own: Grader = load_own(spec, "grader", "grade")
        return own
    if spec in GRADERS:
        return GRADERS[spec]()
    for make in GRADERS.values():
        grader = make()
        if grader.name.partition("+")[0] == spec.partition("+")[0]:
            return grader
    raise UsageError(
        f"Grader {spec!r} is unknown.", f"Use {', '.join(GRADERS)}, or a class of your own: package.module:Class."
    )
