"""A bundled pair of small models with one tokenizer, and the procedural world that they were trained on."""

from rrti_sgl.tinypair.bundle import BundledPair, bundled_pair, calibration_problems, heldout_problems
from rrti_sgl.tinypair.problems import PlanItem, PlantedDecision, Split, TrapKind, WorldProblem, split_of
from rrti_sgl.tinypair.solutions import equations, extract_answer, grade, planted_positions, prompt, right_solution
from rrti_sgl.tinypair.world import generate

__all__ = [
    "BundledPair",
    "PlanItem",
    "PlantedDecision",
    "Split",
    "TrapKind",
    "WorldProblem",
    "bundled_pair",
    "calibration_problems",
    "equations",
    "extract_answer",
    "generate",
    "grade",
    "heldout_problems",
    "planted_positions",
    "prompt",
    "right_solution",
    "split_of",
]
