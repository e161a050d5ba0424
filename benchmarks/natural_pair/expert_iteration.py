"""One round of training on reward: sample solutions with `rrti run`, keep what is right."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rrti_sgl.db.store import Store

HERE = Path(__file__).parent
SERVER_FLAGS = "--max-total-tokens 24576 --max-running-requests 32 --dtype bfloat16"  # as in natural.toml
Solved = list[tuple[str, str]]


def sample(base: Path, model: Path, problems: Path, samples: int, store: Path) -> None:
    """Sample solutions of a problem file into a store, on SGLang servers; what was stopped is continued.

    Raises:
        subprocess.CalledProcessError: the command failed, and has said why.
    """
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "run", "reasoning", "--db", str(store)]
    command += ["--base", str(base), "--reasoning", str(model), "--server-flags", SERVER_FLAGS]
    command += ["--base-template", str(HERE / "base.toml"), "--reasoning-template", str(HERE / "reasoning.toml")]
    command += ["--problems", str(problems), "--samples", str(samples), "--temperature", "1", "--max-new-tokens", "100"]
    command += ["--in-flight", "32", "--k", "1"]
    subprocess.run(command, check=True)


def right_solutions(store: Path, kept: int, seed: int) -> tuple[Solved, float]:
    """(question, solution) of right and finished samples, at most `kept` different ones a problem; and the share right.

    Problems of which every sample is right teach little: they give one solution.
    """
    with Store.open_readonly(store) as opened:
        rows = opened.sql(
            """
            SELECT question, text, correct AND finish_reason = 'stop' AS good
            FROM samples JOIN runs USING (run_id) JOIN problems USING (problem_set, problem_id)
            ORDER BY problem_id, sample_index
            """
        ).to_pylist()
    return chosen([(row["question"], row["text"].strip(), bool(row["good"])) for row in rows], kept, random.Random(seed))


def chosen(sampled: Sequence[tuple[str, str, bool]], kept: int, rng: random.Random) -> tuple[Solved, float]:
    """The same from (question, solution, whether it is right)."""
    verdicts: dict[str, list[bool]] = defaultdict(list)
    right: dict[str, list[str]] = defaultdict(list)
    for question, text, good in sampled:
        verdicts[question].append(good)
        if good and text not in right[question]:
            right[question].append(text)
    solved = []
    for question, texts in right.items():
        most = 1 if all(verdicts[question]) else kept
        solved += [(question, text) for text in rng.sample(texts, min(most, len(texts)))]
    return solved, sum(good for *_, good in sampled) / len(sampled)
