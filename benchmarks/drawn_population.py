"""A population of problems, and runs on problems drawn from it: the ground of the coverage of intervals.

Problems differ in how large their scores are, and with that in how often they are solved (`synthetic_store.py`); each has
the same solutions in every run that draws it, others under a second seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from drawn_continuations import continued, write_continued
from synthetic_store import PLANS, Plan, run_record, trace

from rrti_sgl.db.store import Store
from rrti_sgl.records import ProblemRecord, SampleTrace, sample_key

POPULATION, SAMPLES, MEAN_LENGTH = 1000, 2, 45
CHOSEN = {plan.program: plan for plan in PLANS if plan.run_id in ("diagnose", "guided-high", "base", "reasoning")}
OF_SEEDS = ("base", "guided", "reasoning")
TAU = 1.2
SETS = ("synthetic", "synthetic-2")


@dataclass(frozen=True, slots=True)
class Draw:
    """Runs on problems that are drawn with replacement: `<program>-<name>`; every other draw is of another problem set."""

    name: str
    problem_set: str
    problems: Sequence[int]


WHOLE = Draw("all", SETS[0], range(POPULATION))


def draws_of(n_problems: int, repetitions: int, rng: np.random.Generator) -> list[Draw]:
    """Draws of so many problems."""
    return [Draw(f"{n_problems}-{i:04d}", SETS[i % 2], rng.integers(0, POPULATION, n_problems)) for i in range(repetitions)]


class Population:
    """Problems with the solutions that each program gives, and continuations from positions of the guided ones."""

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        hardness = rng.lognormal(0, 0.25, POPULATION)
        self._solved = {plan.program: [_solutions(plan, float(each), rng) for each in hardness] for plan in CHOSEN.values()}
        # Last, so that what was drawn before them is what it was.
        self._solved["guided"] = _with_lists(self._solved["guided"], np.random.default_rng(12))
        self._again = {name: [_solutions(CHOSEN[name], float(each), rng) for each in hardness] for name in OF_SEEDS}
        others = np.random.default_rng(13)
        self._continued = [continued(of_problem[0], others) for of_problem in self._solved["guided"]]

    def write(self, store: Store, draws: Sequence[Draw]) -> None:
        """The runs of some draws."""
        names = {each: [f"{each}-{i:04d}" for i in range(POPULATION)] for each in SETS}
        store.add_problems([ProblemRecord(name, each, "?", "1") for each in SETS for name in names[each]])
        for draw in draws:
            for seed, solved in enumerate((self._solved, self._again)):
                for program, solutions in solved.items():
                    drawn = [solutions[i] for i in draw.problems]
                    _write(store, CHOSEN[program], draw, seed, drawn, names[draw.problem_set])

    def continue_guided(self, store: Store, draws: Sequence[Draw]) -> None:
        """The counterfactual runs on the first guided solution of each problem of some draws that were written."""
        for draw in draws:
            names = [f"{draw.problem_set}-{i:04d}" for i in range(len(draw.problems))]
            continuations = zip(names, (self._continued[i] for i in draw.problems), strict=True)
            write_continued(store, run_of("guided", draw.name), draw.problem_set, dict(continuations), TAU)


def _solutions(plan: Plan, hardness: float, rng: np.random.Generator) -> list[SampleTrace]:
    lengths = np.clip(rng.lognormal(np.log(MEAN_LENGTH), 0.4, SAMPLES), 10, 300).astype(int)
    found = [trace(plan, "p", index, int(length), hardness, TAU, rng) for index, length in enumerate(lengths)]
    return [replace(each, sample=replace(each.sample, **_costs(each.sample.n_tokens, rng))) for each in found]


def _with_lists(solved: Sequence[list[SampleTrace]], rng: np.random.Generator) -> list[list[SampleTrace]]:
    """The solutions of each problem with both models' candidates; in some problems the emitted token ranks lower."""
    tilts = rng.beta(2, 2, len(solved)).tolist()
    return [[_listed(each, tilt, rng) for each in of_problem] for of_problem, tilt in zip(solved, tilts, strict=True)]


def _listed(solution: SampleTrace, tilt: float, rng: np.random.Generator) -> SampleTrace:
    tokens, n = solution.tokens, len(solution.tokens.ce)
    both = []
    for likely in (tilt, 0.9):  # a place of the emitted token in the host's list, and near the top of the guest's
        ids = np.tile(np.arange(-7, -1, dtype=np.int32)[None, :] + 2**20, (n, 1))
        places = np.minimum(rng.geometric(max(0.05, likely), n) - 1, 6)
        there = places < 6
        ids[there, places[there]] = np.asarray(tokens.token_id)[there]
        p = -np.sort(-rng.dirichlet(np.full(7, 0.5), n)[:, :6], axis=1)
        both.append((ids, np.log(np.maximum(p, 1e-9)).astype(np.float32)))
    (base_ids, base), (reasoning_ids, reasoning) = both
    listed = {"base_topk_ids": base_ids, "base_topk_logprobs": base}
    listed |= {"reasoning_topk_ids": reasoning_ids, "reasoning_topk_logprobs": reasoning}
    return replace(solution, tokens=replace(tokens, **listed))


def _costs(length: int, rng: np.random.Generator) -> dict[str, Any]:
    """Calls, tokens and times of a sample that vary between samples of one length."""
    calls, drafted = 1 + rng.poisson(length / 12), length + rng.poisson(length / 5)
    prompt = 40 * length
    return {
        **{"base_calls": int(calls), "reasoning_calls": int(1 + rng.poisson(length / 12))},
        **{"base_prompt_tokens": prompt, "base_cached_tokens": int(prompt * rng.beta(9, 1))},
        **{"reasoning_prompt_tokens": prompt, "reasoning_cached_tokens": int(prompt * rng.beta(7, 3))},
        **{"tokens_drafted": int(drafted), "tokens_discarded": int(drafted - length), "tokens_scored": int(drafted)},
        **{"base_ms": float(length * rng.gamma(9, 1 / 9)), "reasoning_ms": float(length * rng.gamma(4, 1 / 8))},
        "wall_ms": float(length * rng.gamma(30, 1 / 10)),
    }


def run_of(program: str, draw: str, seed: int = 0) -> str:
    """The run of a program on a draw: `<program>-<draw>`, under the second seed `again-<program>-<draw>`."""
    return f"{'again-' * seed}{program}-{draw}"


def _write(
    store: Store, plan: Plan, draw: Draw, seed: int, drawn: Sequence[Sequence[SampleTrace]], names: Sequence[str]
) -> None:
    run = run_of(plan.program, draw.name, seed)
    record = replace(run_record(plan, TAU, SAMPLES, len(drawn)), run_id=run, problem_set=draw.problem_set, seed=seed)
    store.begin_run(replace(record, config={"plan": plan.program}))
    batch = []
    for name, solutions in zip(names, drawn, strict=False):
        for index, each in enumerate(solutions):
            key = sample_key(run, name, index)
            sample = replace(each.sample, run_id=run, sample_id=key, problem_id=name, sample_index=index)
            batch.append(replace(each, sample=sample))
    store.write_samples(batch)
    store.finish_run(run, "finished")
