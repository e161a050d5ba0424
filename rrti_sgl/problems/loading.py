"""Loading a problem set by name or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rrti_sgl.errors import ProblemFileError, UsageError, argument
from rrti_sgl.grading import load_grader
from rrti_sgl.grading.world import WorldDecisions, WorldGrader
from rrti_sgl.problems.benchmarks import BENCHMARKS, Benchmark
from rrti_sgl.problems.fields import FieldMap, problems_of
from rrti_sgl.problems.given_rows import PREFIX, GivenRows
from rrti_sgl.problems.problem_set import ProblemSet, problem_id
from rrti_sgl.problems.selection import Selection
from rrti_sgl.problems.world import WORLD_SETS, world_problems
from rrti_sgl.records import ProblemRecord
from rrti_sgl.rows import Complaints, is_file, kind_of, name_of, rows_of

_WORLD_SIZE = 1000
_WORLD_TOKENS = 110  # no solution is longer


def load_problems(
    source: str,
    *,
    limit: int | None = None,
    question_field: str = "question",
    answer_field: str = "answer",
    choices_field: str | None = None,
    selection: Selection | None = None,
    grader: str | None = None,
    rows: GivenRows | None = None,
) -> ProblemSet:
    """Load a problem set by name, from a JSONL, Parquet or CSV file, or from rows in memory.

    Args:
        source: `world:heldout`, `world:calibration`, a benchmark's name, or the path of a file.
        limit: take the first so many; None takes all (1,000 of a world set). Short for `selection`.
        question_field, answer_field, choices_field: fields of a file; a benchmark has its own map.
        selection: which problems to take.
        grader: by name (`rrti_sgl.grading.load_grader`); None takes the set's own.
        rows: in place of `source`; the rules for fields are those of a file.

    Raises:
        UsageError: unknown name or grader, missing file, hub out of reach, an empty selection.
        ProblemFileError: an empty file, a malformed line, a field that is not there.
    """
    selection = selection or Selection(limit=limit)
    fields = FieldMap(question_field, answer_field, choices_field)
    if rows is not None:
        loaded = _rows(rows, fields, selection)
    elif source in WORLD_SETS:
        loaded = _world(source, selection)
    elif source in BENCHMARKS:
        loaded = _benchmark(BENCHMARKS[source], selection)
    else:
        loaded = _file(source, fields, selection)
    return loaded if grader is None else replace(loaded, grader=load_grader(grader))


def one_question(question: str, *, world: bool = False) -> ProblemSet:
    """A question without a gold answer, as a problem set of its own.

    Args:
        question: as it is asked.
        world: it is in the language of the bundled pair's world; the words that begin and end a question there may be
            left out.
    """
    problems = [ProblemRecord(problem_id(question), "question", question, None)]
    found = ProblemSet("question", problems, load_grader("last-number"))
    return in_world(found) if world else found


def in_world(problem_set: ProblemSet, *, grade: bool = True) -> ProblemSet:
    """Problems as the bundled pair knows them: its prompt, its grader and its length.

    Args:
        problem_set: problems in the language of its world; the words that begin and end a question there may be left out of
            all of them.
        grade: also with its grader.
    """
    whole = all(problem.question.startswith("question ") for problem in problem_set.problems)
    template = "bare@1" if whole else "world@1"
    return replace(
        problem_set,
        grader=WorldGrader() if grade else problem_set.grader,
        base_template=template,
        reasoning_template=template,
        max_new_tokens=_WORLD_TOKENS,
    )


def _world(source: str, selection: Selection) -> ProblemSet:
    if selection.part != "all":
        raise UsageError(
            f"{argument('split', selection.part)} does not go with {source}.",
            "The world's parts are the sets world:calibration and world:heldout.",
        )
    n = _WORLD_SIZE if selection.sample is not None else selection.limit or _WORLD_SIZE
    return ProblemSet(
        source,
        selection.apply(world_problems(source, n)),
        WorldGrader(),
        base_template="bare@1",
        reasoning_template="bare@1",
        max_new_tokens=_WORLD_TOKENS,
        planted=WorldDecisions(),
    )


def _benchmark(known: Benchmark, selection: Selection) -> ProblemSet:
    problems = known.load(selection.part)
    if known.calibration_split is not None:  # the parts are splits of their own
        selection = replace(selection, part="all")
    return ProblemSet(
        known.name,
        selection.apply(problems),
        load_grader(known.grader),
        known.base_template,
        known.reasoning_template,
        known.max_new_tokens,
    )


def _file(source: str, fields: FieldMap, selection: Selection) -> ProblemSet:
    if source.startswith(PREFIX):
        raise UsageError(
            f"The problems {source!r} were rows in memory.",
            f"Go on from Python, with the same rows: {argument('problems')}.",
        )
    path, complaints = Path(source), Complaints()
    if not is_file(path):
        raise UsageError(
            f"Problem set {source!r} is neither a known name ({', '.join((*WORLD_SETS, *BENCHMARKS))}) nor a file.",
            "Give one of these names or the path of a JSONL, Parquet or CSV file.",
        )
    rows, tabular = rows_of(path, complaints), kind_of(path) == "parquet"
    problems = problems_of(rows, name_of(path), fields, complaints, nan_is_missing=tabular)
    if not problems:
        raise ProblemFileError(f"{path} holds no problem.", "Write one JSON object a line.")
    return problem_set_of(name_of(path), selection.apply(problems), choices=fields.choices is not None)


def _rows(given: GivenRows, fields: FieldMap, selection: Selection) -> ProblemSet:
    complaints = Complaints()
    problems = problems_of(given.placed(complaints), given.name, fields, complaints)
    if not problems:
        raise ProblemFileError(f"{argument('problems')} holds no problem.", "Give a dict for each, with its question.")
    return problem_set_of(given.name, selection.apply(problems), choices=fields.choices is not None)


def problem_set_of(name: str, problems: Sequence[ProblemRecord], *, choices: bool = False) -> ProblemSet:
    """Problems of a file or of rows as a set, with the grader and the templates that suit them."""
    templates = ("choice@1", "chat-choice@1") if choices else ("question-answer@1", "chat@1")
    return ProblemSet(name, problems, load_grader("choice" if choices else "last-number"), *templates)
