"""Grading: finding the answer in a solution and comparing it with the gold answer.

`grader` has the protocol and the record, `registry` finds a grader by name, one module each holds the graders, and
`extraction` says where in a text an answer is looked for. Mathematics is brought into one `notation` and tested for
`equality` in a process of its own (`judge`, `judging`), so that no expression can hang a run.
"""

from rrti_sgl.grading.grader import Grade, Grader, PlantedDecisions, grade_solution
from rrti_sgl.grading.registry import GRADERS, load_grader

__all__ = ["GRADERS", "Grade", "Grader", "PlantedDecisions", "grade_solution", "load_grader"]
