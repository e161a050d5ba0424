"""pass@k as an SGLang program: the samples of a problem are forks of one prompt, which each server prefills once.

`rrti run --samples N` decodes the same samples in fewer and fuller batches and keeps their grades in the store. This is
the same question in SGLang's own language, under whatever gate the backend has, to start one's own programs from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.statistics.estimates import pass_at_k as unbiased_pass_at_k
from rrti_sgl.statistics.resampling import Interval, ProblemBootstrap

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU


@sgl.function  # type: ignore[untyped-decorator]  # SGLang is not typed
def draw_solutions(s: Any, question: str, samples: int, temperature: float, max_tokens: int) -> None:
    """Continue one prompt in so many forks; `state["solutions"]` has their texts."""
    s += question
    forks = s.fork(samples)
    forks += sgl.gen("solution", max_tokens=max_tokens, temperature=temperature)
    s["solutions"] = [fork["solution"] for fork in forks]
    forks.join()


@dataclass(frozen=True, slots=True)
class PassAtK:
    """pass@k over problems: its unbiased estimate with a 95 % interval, and the right samples of each problem (P,)."""

    k: int
    samples: int
    estimate: Interval
    correct: Sequence[int]


def pass_at_k(
    backend: InterventionBackend,
    problem_set: ProblemSet,
    *,
    samples: int = 8,
    k: int | None = None,
    temperature: float = 0.8,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> PassAtK:
    """Draw samples of every problem under intervention, grade them, and estimate pass@k.

    Args:
        backend: the pair and the gate; its store, if it has one, keeps the traces.
        problem_set: problems with gold answers; each question is the whole prompt.
        samples: drawn for each problem.
        k: None takes all samples.
        temperature: of the draws.
        max_new_tokens: most tokens of a solution; None takes the problem set's.
        seed: of the interval's resampling.

    Raises:
        UsageError: k is not in 1..samples, or a problem has no gold answer.
        EndpointError: a server failed.
    """
    k = samples if k is None else k
    if not 1 <= k <= samples:
        raise UsageError(f"k = {k} is not in 1..{samples}.", "Draw more samples, or ask for a smaller k.")
    for problem in problem_set.problems:
        if problem.answer is None:
            raise UsageError(f"Problem {problem.problem_id} has no gold answer.", "pass@k needs one for every problem.")
    limit = max_new_tokens or problem_set.max_new_tokens
    arguments = [(problem.question, samples, temperature, limit) for problem in problem_set.problems]
    states = draw_solutions.run_batch(arguments, backend=backend)
    correct = [
        sum(bool(problem_set.grader.grade(problem, text).correct) for text in state["solutions"])
        for problem, state in zip(problem_set.problems, states, strict=True)
    ]
    passed = unbiased_pass_at_k(samples, correct, k)
    return PassAtK(k, samples, ProblemBootstrap(len(passed), seed=seed, exact=True).share(passed, 1.0), correct)
