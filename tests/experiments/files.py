"""Experiment files for tests, and a folder in which the shipped ones find tokenizers and problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rrti_sgl.problems import BENCHMARKS
from rrti_sgl.programs.experiments.grid import Grid, build_grid
from rrti_sgl.programs.experiments.loading import load_experiment
from rrti_sgl.programs.experiments.preflight import Findings, check_experiment
from rrti_sgl.tinypair.bundle import bundled_pair

BASE, REASONING = bundled_pair().base, bundled_pair().reasoning
BUNDLED = """\
out = "out"
[models.base]
model = "bundled"
[models.reasoning]
model = "bundled"
[decoding]
k = 0
"""
SMALL = (
    BUNDLED
    + """\
[calibration]
problems = "world:calibration"
limit = 12
[[evaluations]]
name = "greedy"
problems = "world:heldout"
limit = 4
[[programs]]
program = "base"
[[programs]]
program = "guided"
spike_ratio = 0.08
[[programs]]
program = "reasoning"
"""
)
ROWS: dict[str, dict[str, Any]] = {
    "olympiadbench": {"question": "Find {i} + {i}.", "final_answer": ["{twice}"]},
    "math500": {"problem": "Find {i} + {i}.", "answer": "{twice}"},
    "aime24": {"problem": "Find {i} + {i}, 2024.", "answer": "{twice}"},
    "aime25": {"problem": "Find {i} + {i}, 2025.", "answer": "{twice}"},
    "gsm8k": {"question": "What is {i} and {i}?", "answer": "Twice.\n#### {twice}"},
    "gsm8k-train": {"question": "What are {i} and {i}?", "answer": "Twice.\n#### {twice}"},
    "amc23": {"question": "Twice {i}?", "answer": "{twice}.0"},
    "gpqa-diamond": {
        "Question": "Which is {i}?",
        "Correct Answer": "{i}",
        **{f"Incorrect Answer {n}": f"-{n}" for n in (1, 2, 3)},
    },
}


def pair(base: str = str(BASE), reasoning: str = str(REASONING)) -> str:
    """`SMALL` with two folders as its models, by default those of the bundled pair."""
    return SMALL.replace('model = "bundled"', f"model = {base!r}", 1).replace('model = "bundled"', f"model = {reasoning!r}")


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def checked(source: str) -> tuple[Grid, Findings, list[str]]:
    """Grid, findings, and the faults as they are told."""
    loaded = load_experiment(source)
    grid = build_grid(loaded.spec, loaded.complaints)
    findings = check_experiment(loaded.spec, grid, loaded.complaints)
    return grid, findings, [str(complaint) for complaint in loaded.complaints.found]


def write_benchmarks(folder: Path, n: int = 6) -> None:
    """A few made-up problems for every benchmark, in the shape of its rows."""
    assert {name.removesuffix("-train") for name in ROWS} == set(BENCHMARKS)
    for name, row in ROWS.items():
        lines = [json.dumps(row).replace("{i}", str(i)).replace("{twice}", str(2 * i)) for i in range(1, n + 1)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
