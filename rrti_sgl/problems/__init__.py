"""Problem sets: where questions come from, which of them are taken, and what suits them.

Three sources: the bundled pair's procedural world (`world:heldout`, `world:calibration`), benchmarks by name
(`benchmarks.toml`), and any JSONL, Parquet or CSV file with a map of its fields. Problem ids are hashes of the question, so
they are the same in every run and on every machine.
"""

from rrti_sgl.problems.benchmarks import BENCHMARKS, Benchmark
from rrti_sgl.problems.fields import FieldMap
from rrti_sgl.problems.loading import load_problems, one_question
from rrti_sgl.problems.problem_set import ProblemSet, problem_id
from rrti_sgl.problems.selection import PARTS, Part, Selection
from rrti_sgl.problems.world import WORLD_SETS

__all__ = [
    "BENCHMARKS",
    "PARTS",
    "WORLD_SETS",
    "Benchmark",
    "FieldMap",
    "Part",
    "ProblemSet",
    "Selection",
    "load_problems",
    "one_question",
    "problem_id",
]
