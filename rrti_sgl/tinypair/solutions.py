"""Solutions as text: writing, grading, and where in a rollout a planted decision is made.

A solution executes its plan step by step::

    first double : 1 4 * 2 = 2 8 . then add 4 : 2 8 + 4 = 3 2 . so answer 3 2

A step opens with a marker (``first``, later ``then`` or ``next``), names the plan item and is executed after ``:``, or is
taken back with ``wait``; ``then skip 5 .`` passes over a clause. A guess is ``answer 3 2`` and nothing before it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from rrti_sgl.tinypair.problems import PlanItem, WorldProblem, digits

FIRST_MARKER = "first"
LATER_MARKERS = {"then": 0.6, "next": 0.4}
END_MARKER = "so"
ANSWER_WORD = "answer"
EXECUTE_WORD = ":"
TAKE_BACK_WORD = "wait"
QUESTION_WORD = "question"
SOLUTION_WORD = "solution"


def prompt(problem: WorldProblem) -> str:
    """Return the prompt that both models are given."""
    return f"{QUESTION_WORD} {problem.question} {SOLUTION_WORD}"


def render(start: int, steps: Sequence[tuple[PlanItem, bool]], rng: random.Random | None = None) -> list[str]:
    """Write a solution.

    Parameters
    ----------
    steps
        Plan items in order, each with whether it is kept (executed) or taken back.
    rng
        Draws the markers of later steps; without it they are all ``then``.
    """
    words: list[str] = []
    value = start
    executed = False
    for item, kept in steps:
        words += [_marker(executed, rng), *item.words()]
        if kept:
            words += _execution(item, value)
            value = item.apply(value)
            executed = True
        else:
            words.append(TAKE_BACK_WORD)
    return [*words, END_MARKER, ANSWER_WORD, *digits(value)]


def _execution(item: PlanItem, value: int) -> list[str]:
    return ["."] if item.operation == "skip" else [EXECUTE_WORD, *item.equation(value), "."]


def right_solution(problem: WorldProblem) -> str:
    """Return the right solution with plain markers."""
    return " ".join(render(problem.start, [(item, True) for item in problem.plan]))


def guess(value: int) -> list[str]:
    """Return a solution that guesses at once."""
    return [ANSWER_WORD, *digits(value)]


def _marker(executed: bool, rng: random.Random | None) -> str:
    if not executed:
        return FIRST_MARKER
    if rng is None:
        return next(iter(LATER_MARKERS))
    return rng.choices(list(LATER_MARKERS), list(LATER_MARKERS.values()))[0]


def extract_answer(solution: str) -> str | None:
    """Return the number after the last ``answer`` of a solution, or ``None`` where there is none."""
    _, found, rest = f" {solution} ".rpartition(f" {ANSWER_WORD} ")
    number = "".join(itertools.takewhile(lambda word: len(word) == 1 and word.isdigit(), rest.split()))
    return number if found and number else None


def grade(problem: WorldProblem | str, solution: str) -> tuple[str | None, bool]:
    """Return the answer found in a solution and whether it is right. ``problem`` may be the right answer alone."""
    answer = extract_answer(solution)
    return answer, answer == (problem if isinstance(problem, str) else problem.answer)


def equations(solution: str) -> list[tuple[str, bool]]:
    """Return every complete written equation of a solution with whether it holds."""
    found = []
    for step in solution.split(f" {EXECUTE_WORD} ")[1:]:
        equation = step.split(" .")[0].split()
        try:
            left, right = " ".join(equation).split(" = ")
            a, sign, b = _split_sign(left)
            value = {"+": a + b, "-": a - b, "*": a * b}[sign]
            found.append((" ".join(equation), str(value) == right.replace(" ", "")))
        except (ValueError, KeyError):
            found.append((" ".join(equation), False))
    return found


def _split_sign(left: str) -> tuple[int, str, int]:
    sign = next((word for word in left.split() if word in "+-*"), "")
    if not sign:
        raise ValueError(left)
    a, b = left.split(f" {sign} ")
    return int(a.replace(" ", "")), sign, int(b.replace(" ", ""))


def planted_positions(problem: WorldProblem, tokens: Sequence[str]) -> list[int]:
    """Return the positions of a rollout (0 is the first generated token) at which a planted decision is made.

    Three kinds of decision are planted: whether to start on a plan or to guess (position 0); at a trap, the first token
    at which the plans of those who fall and of those who do not part; and after an item that only a trap-faller writes,
    whether to execute it or to take it back. A rollout that has left every planted plan has no further planted position.

    Parameters
    ----------
    tokens
        Generated tokens, with or without the end token.
    """
    plans = [problem.plan_when(f) for f in itertools.product((False, True), repeat=len(problem.traps))]
    positions = [0] if tokens else []
    position = 0
    executed: list[PlanItem] = []
    value = problem.start
    while position < len(tokens):
        alive = [plan for plan in plans if list(plan[: len(executed)]) == executed]
        heads = {tuple(_step_head(plan, len(executed))): plan for plan in alive}
        parted, head = _follow(list(heads), tokens[position:])
        positions += [position + offset for offset in parted]
        if head is None or head[0] == END_MARKER:
            break
        position += len(head)
        if position >= len(tokens):
            break
        careful = _careful_head(problem, executed)
        if careful is not None and head != careful:
            positions.append(position)
        if tokens[position] == TAKE_BACK_WORD:
            position += 1
            continue
        item = heads[head][len(executed)]
        step = _execution(item, value)
        if list(tokens[position : position + len(step)]) != step:
            break
        position += len(step)
        value = item.apply(value)
        executed.append(item)
    return sorted(set(positions))


def _step_head(plan: Sequence[PlanItem], step: int) -> list[str]:
    """Marker and item words of a plan's step, every marker of a step written alike; the end of the plan is ``so``."""
    if step == len(plan):
        return [END_MARKER]
    return [FIRST_MARKER, *plan[step].words()]


def _careful_head(problem: WorldProblem, executed: Sequence[PlanItem]) -> tuple[str, ...] | None:
    """Return the head that is right after ``executed`` given the falls so far, or ``None`` where no plan fits.

    Among the plans that agree with what was executed, the right one falls for the fewest traps.
    """
    fits = [(sum(falls), problem.plan_when(falls)) for falls in itertools.product((False, True), repeat=len(problem.traps))]
    alive = [(n, plan) for n, plan in fits if list(plan[: len(executed)]) == list(executed)]
    if not alive:
        return None
    fewest = min(n for n, _ in alive)
    return tuple(_step_head(next(plan for n, plan in alive if n == fewest), len(executed)))


def _follow(heads: Sequence[tuple[str, ...]], tokens: Sequence[str]) -> tuple[list[int], tuple[str, ...] | None]:
    """Walk along the heads that agree with the tokens.

    Returns the offsets at which they part, and the head that the tokens spell out in full (``None`` where they leave
    every head or end before).
    """
    parted: list[int] = []
    alive = list(heads)
    for offset, token in enumerate(tokens):
        done = [head for head in alive if len(head) == offset]
        if done and token in (EXECUTE_WORD, ".", TAKE_BACK_WORD, ANSWER_WORD):
            return parted, done[0]
        longer = [head for head in alive if len(head) > offset]
        if len({head[offset] if len(head) > offset else EXECUTE_WORD for head in alive}) > 1:
            parted.append(offset)
        word = FIRST_MARKER if token in LATER_MARKERS else token
        alive = [head for head in longer if head[offset] == word]
        if not alive:
            return parted, None
    complete = [head for head in alive if len(head) == len(tokens)]
    return parted, complete[0] if complete else None
