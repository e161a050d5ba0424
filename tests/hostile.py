"""A store whose every text tries to do something to whoever looks at it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rrti_sgl.db.store import Store
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace

# Titles, colours and the cursor of a terminal; DEL, C1 and overrides of direction; markup of three kinds of pages.
TEXTS = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m\x7f\x85",
    "\u202egnp.exe\u2066\u2029",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"\input{/etc/passwd}^^5cinput $\immediate\write18{id}$ % &",
    "a | b\n| c | `d` |\n# e",
    "````<script>`[x](javascript:alert(1))",
    "[bold]markup[/] [/red]",
    "\r\roverwritten\b\b",
)
ALL = " ".join(TEXTS)
# Programs, and which answers are right.
PROGRAMS = {"diagnose": "1001110011", "base": "1000100100", "guided": "1101110111", "reasoning": "1111111101", ALL: "1"}
_SENT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def codes(shown: str) -> list[str]:
    """The control codes that are sent and not shown."""
    return _SENT.findall(shown)


def sample_of(path: Path, run_id: str) -> str:
    """A sample of a run."""
    with Store.open_readonly(path) as store:
        query = "SELECT min(sample_id) FROM samples WHERE run_id = $run"
        return str(store.sql(query, {"run": run_id}).column(0)[0])


def make_hostile_store(path: Path) -> Path:
    """Four runs that every statistic can be made of, and one of a program of that kind."""
    texts: Iterator[str] = iter(TEXTS * 10_000)
    draws = np.random.default_rng(0)
    server = {"version": ALL, "hardware": ALL, "dtype": ALL, "url": ALL}
    named = {"problem_set": ALL, "base_model": ALL, "reasoning_model": ALL + "/" + ALL, "tagger": ALL, "grader": ALL}
    served = {"base_server": server, "reasoning_server": server, "package_version": ALL, "error": ALL}
    with Store.open(path) as store:
        problems = [f"p{i} {text}" for i, text in enumerate(TEXTS)]
        for name in problems:
            store.add_problems([make_problem(name, problem_set=ALL, question=ALL, answer=next(texts))])
        for number, (program, right) in enumerate(PROGRAMS.items()):
            run_id, taking = f"run-{number}", program == "guided"
            gate = {"gate": ALL, "gate_params": {ALL: ALL}} if taking else {"gate": "never", "tau": None}
            size = {"n_problems": len(right), "samples_per_problem": 1}
            store.begin_run(make_run(run_id, program=program, **size, **gate, **named, **served, warmup=ALL))
            for name, flag in zip(problems, right, strict=False):
                ce = draws.exponential(size=12).round(3)
                tokens = {
                    "token_text": [next(texts) for _ in range(12)],
                    "base_token_text": [next(texts) for _ in range(12)],
                    "planning_tag": ["plan" if j % 4 == 0 else None for j in range(12)],
                    "entropy_base": (ce * draws.uniform(0.2, 0.9, 12)).round(3),
                    "fired": [taking and j in (2, 5) for j in range(12)],
                    "base_token_id": np.arange(12, dtype=np.int32) + (11 if taking else 10),
                }
                more = {"tokens": tokens, "answer": next(texts), "base_prompt": ALL}
                store.write_samples([make_trace(run_id, name, 0, ce, correct=flag == "1", **more)])
        store.add_calibration(make_calibration("cal", run_id="run-0", base_model=ALL, reasoning_model=ALL))
    return path
