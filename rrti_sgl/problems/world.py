"""The bundled pair's procedural world as problem sets."""

from __future__ import annotations

import functools

from rrti_sgl.problems.problem_set import problem_id
from rrti_sgl.records import ProblemRecord

WORLD_SETS = {"world:heldout": "heldout", "world:calibration": "calibration"}


@functools.lru_cache(maxsize=8)
def world_problems(source: str, n: int) -> tuple[ProblemRecord, ...]:
    """The first n problems of a world set; drawn once, as drawing a whole set takes most of a second."""
    from rrti_sgl.tinypair.solutions import prompt
    from rrti_sgl.tinypair.world import generate

    return tuple(
        ProblemRecord(
            problem_id=problem_id(prompt(problem)),
            problem_set=source,
            question=prompt(problem),
            answer=problem.answer,
            metadata={
                "traps": list(problem.traps),
                "decisions": [
                    {"kind": d.kind, "step": d.step, "right": d.right, "fallen": d.fallen} for d in problem.decisions
                ],
                "world": problem.to_dict(),
            },
        )
        for problem in generate(0, WORLD_SETS[source], n)  # type: ignore[arg-type]
    )
