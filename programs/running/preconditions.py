"""What is checked before the first token of a run is generated, beside what the records check of themselves."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import CalibrationRecord, RunRecord

logger = logging.getLogger(__name__)

_NAMED, _REFUSED = 5, 3


def check_special_tokens(pair: Pair, settings: RunSettings) -> None:
    """Refuse a pair whose special tokens were matched otherwise than the run says.

    Raises:
        UsageError: names both.
    """
    renumbered = pair.reasoning_vocabulary.renumbered or pair.vocabulary.renumbered
    if pair.special_tokens != settings.special_tokens and renumbered:
        raise UsageError(
            f"The run takes special tokens {settings.special_tokens!r}, the pair is connected with {pair.special_tokens!r}.",
            f"Give the same {argument('special_tokens')}.",
        )


def check_gold(problem_set: ProblemSet) -> None:
    """Let the grader refuse gold answers that it could not grade with, and name those that it compares as text.

    Raises:
        UsageError: names the first problems that it refuses, and how many there are.
    """
    check = getattr(problem_set.grader, "check_gold", lambda problem: None)
    compares_as_text = getattr(problem_set.grader, "compares_as_text", lambda problem: False)
    wrong: list[UsageError] = []
    for problem in problem_set.problems:
        try:
            check(problem)
        except UsageError as error:
            wrong.append(error)
    if wrong:
        more = f" And {len(wrong) - _REFUSED} more." if len(wrong) > _REFUSED else ""
        raise UsageError(" ".join(error.message for error in wrong[:_REFUSED]) + more, wrong[0].remedy)
    texts = [problem for problem in problem_set.problems if compares_as_text(problem)]
    if texts:
        counted = f"{len(texts)} of {len(problem_set.problems)} gold answers"
        named = [f"{problem.problem_id} {(problem.answer or '')[-60:]!r}" for problem in texts]
        logger.warning("%s compares %s as text: %s", problem_set.grader.name, counted, _first(named))


def warn_of_special_tokens(pair: Pair, problem_set: ProblemSet) -> None:
    """Name the questions that spell a special token: in a prompt it is that token, to both models.

    A solution that is given as text is another matter: see `rrti_sgl.programs.scoring.jobs`.
    """
    vocabularies = (pair.vocabulary, pair.reasoning_vocabulary)
    special = {token for known in vocabularies for token, i in known.token_ids.items() if i in known.skipped_ids}
    found = [(problem, token) for problem in problem_set.problems for token in sorted(special) if token in problem.question]
    if found:
        counted = f"{len({problem.problem_id for problem, _ in found})} of {len(problem_set.problems)} questions"
        named = [f"{problem.problem_id} {token}" for problem, token in found]
        logger.warning("%s spell special tokens, which both models read as such: %s", counted, _first(named))


def _first(named: Sequence[str]) -> str:
    return "; ".join(named[:_NAMED]) + (" ..." if len(named) > _NAMED else "")


def check_followed(pair: Pair, followed: RunRecord, settings: RunSettings, problem_set: ProblemSet) -> None:
    """Refuse to take over as often as a run of other models, of another problem set, or of another sampling.

    Raises:
        UsageError: lists what differs, with both values.
    """
    own = {
        "base_model": pair.base.info.model,
        "reasoning_model": pair.reasoning.info.model,
        "problem_set": problem_set.name,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
    }
    differs = [
        f"{name} is {getattr(followed, name)!r} there, {value!r} here"
        for name, value in own.items()
        if getattr(followed, name) != value
    ]
    if differs:
        raise UsageError(
            f"Run {followed.run_id} is no measure for this one: {'; '.join(differs)}.",
            f"Name a run that decodes alike on the same problems: {argument('like')}.",
        )


def calibrated_on(store: Store, calibration: CalibrationRecord) -> set[str]:
    """Ids of the problems that a calibration was made on."""
    query = "SELECT DISTINCT problem_id FROM samples WHERE run_id = $run"
    return {row["problem_id"] for row in store.sql(query, {"run": calibration.run_id}).to_pylist()}


def check_disjoint(used: Collection[str], problem_set: ProblemSet, calibration: str) -> None:
    """Refuse to evaluate on problems that the thresholds were taken from.

    Args:
        used: ids of the calibration's problems.
        problem_set: what is evaluated.
        calibration: what the message calls it.

    Raises:
        UsageError: says how many.
    """
    shared = [problem for problem in problem_set.problems if problem.problem_id in used]
    if shared:
        raise UsageError(
            f"{len(shared)} of {len(problem_set.problems)} problems of {problem_set.name} were used by {calibration}, "
            f"the first of them {shared[0].problem_id}.",
            f"Use {argument('split', 'calibration')} there and {argument('split', 'evaluation')} here, other problems, or "
            f"{argument('allow_overlap', True)}.",
        )
