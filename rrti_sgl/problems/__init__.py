"""Problem sets: where questions come from, which of them are taken, and what suits them.

Four sources: the bundled pair's procedural world (`world:heldout`, `world:calibration`), benchmarks by name
(`benchmarks.toml`), any JSONL, Parquet or CSV file with a map of its fields, and rows in memory. Problem ids are hashes of
the question, so they are the same in every run and on every machine.
"""

from rrti_sgl.problems.benchmarks import BENCHMARKS, Benchmark
from rrti_sgl.problems.fields import FieldMap
from rrti_sgl.problems.given_rows import GivenRows
from rrti_sgl.problems.loading import in_world, load_problems, one_question, problem_set_of
from rrti_sgl.problems.problem_set import ProblemSet, problem_id
from rrti_sgl.problems.selection import PARTS, Part, Selection
from rrti_sgl.problems.world import WORLD_SETS

__all__ = [
    "BENCHMARKS",
    "PARTS",
    "WORLD_SETS",
    "Benchmark",
    "FieldMap",
    "GivenRows",
    "Part",
    "ProblemSet",
    "Selection",
    "in_world",
    "load_problems",
    "one_question",
    "problem_id",
    "problem_set_of",
]
