"""What a call asks for: its options as settings, and a run of one question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import GivenRows, ProblemSet, one_question
from rrti_sgl.programs.running.preparing import PreparedRun, prepare
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.tinypair.bundle import BASE_NAME

# Of a run's options those that choose its problems; one text has none.
_CHOOSING = ("problems", "limit", "samples", "split", "sample_problems", "problem_seed", "grader")


def asked(settings_of: Callable[..., RunSettings], options: Mapping[str, Any]) -> tuple[RunSettings, ProblemSet | None]:
    """The settings that options make, and the problems where they are rows in memory.

    Raises:
        UsageError: an unknown option, or a value that does not fit.
    """
    if isinstance(problems := options.get("problems", ""), str | PurePath):
        return settings_of(**{**options, **({"problems": str(problems)} if problems else {})}), None
    rows = GivenRows.of(problems)
    settings = settings_of(**{**options, "problems": rows.name})
    return settings, settings.load_problems(rows)


def question_options(given: Mapping[str, Any], newest: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one question: those of the newest run of its program, but for its problems, and those given.

    Raises:
        UsageError: one that is given chooses problems.
    """
    if chosen := [name for name in given if name in _CHOOSING]:
        raise UsageError(f"{chosen[0]!r} chooses problems, and the question is one.", "Leave it out, or use `run`.")
    return {**{name: value for name, value in newest.items() if name not in _CHOOSING}, **given, "allow_overlap": True}


def question_run(pair: Pair, store: Store | None, settings: RunSettings, text: str) -> PreparedRun:
    """A run of one sample of one question; the bundled pair is shown it as its world writes one.

    Args:
        pair: the models.
        store: where calibrations are.
        settings: of `question_options`.
        text: the question.

    Raises:
        RRTIError: what the settings, the models or the store do not allow.
    """
    problem_set = one_question(text, world=pair.base.info.model == BASE_NAME)
    return prepare(pair, settings, store, problem_set=problem_set)
