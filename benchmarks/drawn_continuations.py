"""Continuations of the solutions of a population: with and without takeovers and sentences, and searches for pivotal tokens.

Each solution has a course: how likely each answer is to follow its first t tokens. It changes at a few of them, where the
score is large more often than elsewhere, and the searches are planned as `rrti counterfactual` plans them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
from synthetic_store import Plan, run_record, trace

from rrti_sgl.db import inserting
from rrti_sgl.db.store import Store
from rrti_sgl.programs.running.arms import Arms
from rrti_sgl.programs.running.contrasts import Branch, Outcome
from rrti_sgl.records import RunRecord, SampleTrace, sample_key

ANSWERS = ("1", "2", "3", "")  # the first is right
CONTINUATIONS, OF_SEARCH, GAP = 8, 16, 0.3  # the most of a branch
TRIED, SENTENCES = 3, 4  # tokens, and sentences of equal length
PLAN = Plan("counterfactual", "counterfactual", 0.0, None, 0.0)


@dataclass(frozen=True, slots=True)
class Continued:
    """What came of one counterfactual run: its arms, of a sample that is named when it is stored, and their outcomes."""

    arms: Arms
    outcomes: Sequence[tuple[Branch, Outcome]]


def course(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(L + 1, 4) chances of each answer after the first t tokens of a solution with these scores (L,)."""
    right, wrong, found = rng.beta(3, 2), rng.dirichlet(np.ones(3)), []
    for score in (0.0, *scores):
        if rng.random() < (0.01 if score < 1 else 0.3):
            change = rng.uniform(0.35, 0.6) * rng.choice([-1, 1])
            right, wrong = right + (change if 0 < right + change < 1 else -change), rng.dirichlet(np.ones(3))
        right = min(max(right, 0.0), 1.0)
        found.append([right, *((1 - right) * wrong)])
    return np.array(found)


def continued(solution: SampleTrace, rng: np.random.Generator) -> list[Continued]:
    """The counterfactual runs on one solution, one of each unit."""
    scores = np.asarray(solution.tokens.ce)
    chances, n = course(scores, rng), len(scores)
    instead = rng.dirichlet([0.5, 1, 1, 1], n)

    def drawn(branch: Branch) -> Outcome:
        likely = chances[branch.position + 1]
        if branch.arm == "denied":  # what the takeover mends, by as much as the score is large
            lost = 0.7 * min(1.0, scores[branch.position])
            likely = (1 - lost) * likely + lost * instead[branch.position]
        answer = int(np.searchsorted(np.cumsum(likely[:-1]), rng.random(), side="right"))
        return Outcome(answer == 0, ANSWERS[answer])

    ends = [-1, *(np.arange(1, SENTENCES + 1) * n // SENTENCES - 1).tolist()]
    spans = {
        "token": [(position, position) for position in sorted(rng.permutation(n)[:TRIED].tolist())],
        "sentence": [(before + 1, last) for before, last in pairwise(ends)],
    }
    runs = [Arms("", unit, tuple(of_unit), CONTINUATIONS) for unit, of_unit in spans.items()]
    runs.append(Arms("", "pivotal", ((0, n - 1),), OF_SEARCH, gap=GAP))
    return [Continued(arms, outcomes_of(arms, drawn)) for arms in runs]


def outcomes_of(arms: Arms, drawn: Callable[[Branch], Outcome]) -> list[tuple[Branch, Outcome]]:
    """What a run comes to that is planned anew after each step, as one on servers is."""
    seen: dict[Branch, dict[int, Outcome]] = {}
    n = -1
    while n < (n := sum(map(len, seen.values()))):
        for branch, wanted in arms.plan.planned(seen).wanted.items():
            there = seen.setdefault(branch, {})
            there |= {index: drawn(branch) for index in range(len(there), wanted)}
    return [(branch, outcome) for branch, of_branch in seen.items() for outcome in of_branch.values()]


def write_continued(
    store: Store, guided: str, problem_set: str, drawn: Mapping[str, Sequence[Continued]], tau: float
) -> None:
    """The counterfactual runs on the first solutions of a guided run, by problem: one of each unit."""
    short = trace(PLAN, "p", 0, 1, 1.0, tau, np.random.default_rng(0))
    records: list[RunRecord] = []
    traces: list[SampleTrace] = []
    for problem, of_problem in drawn.items():
        parent = sample_key(guided, problem, 0)
        for each in of_problem:
            run = f"{each.arms.unit}-{guided}-{problem}"
            config = {"kind": "counterfactual", "arms": asdict(replace(each.arms, sample=parent))}
            record = replace(run_record(PLAN, tau, 1, 1), run_id=run, status="finished", config=config)
            records.append(replace(record, problem_set=problem_set))
            traces += _samples(short, run, problem, parent, each.outcomes)
    with store.writing() as cursor:  # all at once: there are thousands
        inserting.insert_records(cursor, "runs", records)
    store.write_samples(traces)


def _samples(
    short: SampleTrace, run: str, problem: str, parent: str, outcomes: Sequence[tuple[Branch, Outcome]]
) -> Iterator[SampleTrace]:
    for index, (branch, outcome) in enumerate(outcomes):
        own = {"run_id": run, "sample_id": sample_key(run, problem, index), "problem_id": problem, "sample_index": index}
        origin = {"parent_sample_id": parent, "parent_position": branch.position, "arm": branch.arm}
        came_to = {"correct": outcome.right, "answer": outcome.answer or None}
        yield replace(short, sample=replace(short.sample, **own, **origin, **came_to))
