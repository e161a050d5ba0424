"""What a run checks before its first token, for every run of a grid: without servers, and once more when they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.errors import RRTIError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.experiments.grid import Cell
from rrti_sgl.programs.running.gating import choose_gate
from rrti_sgl.programs.running.preconditions import check_special_tokens
from rrti_sgl.programs.running.preparing import as_known, check_room, first_jobs, in_roles
from rrti_sgl.programs.running.settings import RunSettings

# What is checked, in this order; an error of it is about a field of the file that goes by another name.
Checked = Literal["few_shot", "k", "templates", "room", "gate"]
Noting = Callable[[Cell, Checked], AbstractContextManager[None]]


@contextlib.contextmanager
def told_with(beginning: str) -> Iterator[None]:
    """Put a text before the message of the error that the block raises on purpose, if it does."""
    try:
        yield
    except RRTIError as error:
        error.message = f"{beginning}{error.message}"
        raise


def check_cells(pair: Pair, cells: Sequence[Cell], problem_sets: Mapping[str, ProblemSet], noting: Noting) -> None:
    """Check the runs of one pair: prompts once for every evaluation, and gates that need no calibration.

    Args:
        pair: the models, or what is known of them before they are served.
        cells: the runs.
        problem_sets: by name of the evaluation; what is not there is not checked.
        noting: is entered for each check, and does with its error what is to be done.
    """
    seen: set[str] = set()
    for cell in cells:
        name = cell.evaluation.name
        problem_set = problem_sets.get(name)
        if problem_set is None:
            continue
        problem_set = as_known(problem_set, cell.settings, pair.base.info.model)
        if name not in seen:
            seen.add(name)
            _check_prompts(pair, cell, problem_set, noting)
        if cell.threshold is None and cell.followed is None:
            settings = cell.settings
            k = settings.k or pair.vocab_size
            with noting(cell, "gate"):
                choose_gate(in_roles(pair, settings), settings.program, settings.gate, k=k, planted=problem_set.planted)


def _check_prompts(pair: Pair, cell: Cell, problem_set: ProblemSet, noting: Noting) -> None:
    resolved, jobs = list[RunSettings](), list[SampleJob]()
    with noting(cell, "few_shot"):
        resolved.append(cell.settings.resolved(problem_set, pair.vocab_size))
    for settings in resolved:
        with noting(cell, "k"):
            check_k(settings.k, pair.vocab_size)
            check_special_tokens(pair, settings)
        with noting(cell, "templates"):
            jobs += first_jobs(in_roles(pair, settings), settings, problem_set)
        if jobs:
            with noting(cell, "room"):
                check_room(in_roles(pair, settings), jobs, settings.max_new_tokens or problem_set.max_new_tokens)
