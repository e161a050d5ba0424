"""The base model's training text: solutions by latent authors, textbook solutions and arithmetic drills.

An author either knows a kind of trap or does not, each kind on its own, and no word of the text says which. Written
equations are always right, whoever writes them: the corpus plants good execution and bad planning. Textbook solutions
are careful throughout and announce themselves with the word ``textbook``; so the right way of planning is in the corpus,
but not as the way that an unmarked question goes on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from rrti_sgl.tinypair.problems import LARGEST_VALUE, TRAP_KINDS, Operation, PlanItem, TrapKind, WorldProblem, final_value
from rrti_sgl.tinypair.solutions import guess, prompt, render
from rrti_sgl.tinypair.tokenizer import DRILL_WORD, EOS_ID, TEXTBOOK_WORD, encode
from rrti_sgl.tinypair.world import generate


@dataclass(frozen=True, slots=True)
class CorpusShares:
    """Shares and probabilities of the corpus."""

    textbook: float = 0.34
    drill: float = 0.06
    knows_a_kind: float = 0.25
    falls_when_knowing: float = 0.06
    falls_when_not: float = 0.92
    notices_when_knowing: float = 0.7
    notices_when_not: float = 0.03
    textbook_slips: float = 0.08
    guesses_at_once: float = 0.06


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids of a training text, of which the first ``prompt_length`` are given and the rest is the solution."""

    ids: tuple[int, ...]
    prompt_length: int


def write_solution(problem: WorldProblem, rng: random.Random, shares: CorpusShares, *, careful: bool) -> list[str]:
    """Write a solution as an author would: drawn anew with every call, always careful in a textbook."""
    known = {kind for kind in TRAP_KINDS if careful or rng.random() < shares.knows_a_kind}
    if not careful and rng.random() < shares.guesses_at_once:
        return guess(_rough_value(problem, rng))
    steps: list[tuple[PlanItem, bool]] = []
    for segment in problem.segments:
        if segment.fallen is None or segment.kind is None:
            steps += [(item, True) for item in segment.right]
            continue
        falls, notices = _temper(segment.kind, known, rng, shares, careful=careful)
        if not falls:
            steps += [(item, True) for item in segment.right]
        elif notices:
            steps.append((segment.fallen[0], False))
            steps += [(item, True) for item in segment.right]
        else:
            steps += [(item, True) for item in segment.fallen]
    return render(problem.start, steps, rng)


def _temper(
    kind: TrapKind, known: set[TrapKind], rng: random.Random, shares: CorpusShares, *, careful: bool
) -> tuple[bool, bool]:
    """Draw whether an author falls for a trap, and whether the slip is noticed before it is executed."""
    if careful:
        return rng.random() < shares.textbook_slips, True
    if kind in known:
        return rng.random() < shares.falls_when_knowing, rng.random() < shares.notices_when_knowing
    return rng.random() < shares.falls_when_not, rng.random() < shares.notices_when_not


def _rough_value(problem: WorldProblem, rng: random.Random) -> int:
    return min(LARGEST_VALUE, max(1, problem.start + rng.randint(-5, 25)))


def drill(rng: random.Random) -> list[str]:
    """Write a few right equations without a story."""
    words = [DRILL_WORD]
    for _ in range(rng.randint(4, 7)):
        operation: Operation = rng.choices(("add", "subtract", "double", "triple"), (4, 4, 1, 1))[0]
        while True:
            operand = {"double": 2, "triple": 3}.get(operation) or rng.randint(4, 29)
            item, value = PlanItem(operation, operand), rng.randint(1, LARGEST_VALUE)
            if final_value(value, [item]) is not None:
                break
        words += [*item.equation(value), "."]
    return words


def problem_document(problem: WorldProblem, solution: list[str], *, textbook: bool = False) -> Document:
    """Join a problem and a solution into a training text."""
    head = encode(([TEXTBOOK_WORD] if textbook else []) + prompt(problem).split())
    return Document((*head, *encode(solution), EOS_ID), len(head))


def documents(seed: int, shares: CorpusShares | None = None) -> Iterator[Document]:
    """Generate the base corpus without end. Its problems are of the train split alone."""
    shares = shares or CorpusShares()
    rng = random.Random(f"rrti-corpus:{seed}")
    problems = generate(seed, "train", None)
    while True:
        draw = rng.random()
        if draw < shares.drill:
            yield Document((*encode(drill(rng)), EOS_ID), 1)
            continue
        textbook = draw < shares.drill + shares.textbook
        problem = next(problems)
        yield problem_document(problem, write_solution(problem, rng, shares, careful=textbook), textbook=textbook)
