r"""Problem sets: where questions come from, and how a solution is graded.

Two sources: the bundled pair's procedural world (`world:heldout`, `world:calibration`), and any JSONL file whose lines hold
a question and, for grading, an answer. Problem ids are hashes of the content, so they are the same in every run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rrti_sgl.errors import ProblemFileError, UsageError
from rrti_sgl.records import ProblemRecord

WORLD_SETS = {"world:heldout": "heldout", "world:calibration": "calibration"}
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Grader(Protocol):
    """Finds the answer in a solution and says whether it is right."""

    name: str

    def grade(self, problem: ProblemRecord, text: str) -> tuple[str | None, bool | None]:
        """Return the answer found (None: there is none) and whether it is right (None: the problem has no answer)."""

    def planted_positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int] | None:
        """Return the positions of planted decisions in a rollout, or None where the problem set plants none."""


class LastNumberGrader:
    r"""Compares the last number of a solution, after `####` or in `\boxed{}` if there is one, with the gold number."""

    name = "last-number-v1"

    def grade(self, problem: ProblemRecord, text: str) -> tuple[str | None, bool | None]:
        """Grade by numeric equality; a gold answer without a number is compared as text."""
        answer = self._extract(text)
        if problem.answer is None:
            return answer, None
        gold = self._extract(problem.answer) or problem.answer.strip()
        return answer, answer is not None and self._equal(answer, gold)

    def planted_positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int] | None:
        """No decision points are known."""
        return None

    @staticmethod
    def _extract(text: str) -> str | None:
        for marker in ("####", "\\boxed{"):
            if marker in text:
                text = text.rpartition(marker)[2]
                found = _NUMBER.search(text)
                return found.group().replace(",", "") if found else None
        numbers = _NUMBER.findall(text)
        return numbers[-1].replace(",", "") if numbers else None

    @staticmethod
    def _equal(answer: str, gold: str) -> bool:
        try:
            return float(answer) == float(gold)
        except ValueError:
            return answer == gold


class WorldGrader:
    """Grades solutions of the bundled world, and knows its planted decision points."""

    name = "world-v1"

    def grade(self, problem: ProblemRecord, text: str) -> tuple[str | None, bool | None]:
        """Compare the number after the last `answer`."""
        from rrti_sgl.tinypair.solutions import grade

        return grade(problem.answer or "", text)

    def planted_positions(self, problem: ProblemRecord, tokens: Sequence[str]) -> list[int] | None:
        """Follow the rollout through the problem's plans."""
        from rrti_sgl.tinypair.problems import WorldProblem
        from rrti_sgl.tinypair.solutions import planted_positions

        return planted_positions(WorldProblem.from_dict(dict(problem.metadata["world"])), tokens)


@dataclass(frozen=True)
class ProblemSet:
    """Problems with a name, their grader, and what suits them where the user does not say otherwise."""

    name: str
    problems: Sequence[ProblemRecord]
    grader: Grader
    base_prompt: str = "Question: {question}\nAnswer:"
    reasoning_prompt: str = "chat"
    max_new_tokens: int = 2048


def load_problems(
    source: str, *, limit: int | None = None, question_field: str = "question", answer_field: str = "answer"
) -> ProblemSet:
    """Load a problem set by name or from a JSONL file.

    Args:
        source: `world:heldout`, `world:calibration`, or the path of a JSONL file.
        limit: take the first so many; None takes all (1,000 of a world set).
        question_field: name of the question's field in the file.
        answer_field: name of the answer's field in the file; lines may lack it, they are not graded then.

    Raises:
        UsageError: unknown name, missing file, bad limit.
        ProblemFileError: an empty file or a malformed line.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves no problem.", "Use a limit of at least 1.")
    if source in WORLD_SETS:
        problems = _world_problems(source, limit or 1000)
        return ProblemSet(source, problems, WorldGrader(), "{question}", "{question}", max_new_tokens=110)
    path = Path(source)
    if not path.is_file():
        raise UsageError(
            f"Problem set {source!r} is neither a known name ({', '.join(WORLD_SETS)}) nor a file.",
            "Give one of these names or the path of a JSONL file.",
        )
    return ProblemSet(path.stem, _file_problems(path, limit, question_field, answer_field), LastNumberGrader())


def _world_problems(source: str, n: int) -> list[ProblemRecord]:
    from rrti_sgl.tinypair.solutions import prompt
    from rrti_sgl.tinypair.world import generate

    return [
        ProblemRecord(
            problem_id=problem_id(prompt(problem)),
            problem_set=source,
            question=prompt(problem),
            answer=problem.answer,
            metadata={
                "traps": list(problem.traps),
                "decisions": [
                    {"kind": d.kind, "step": d.step, "right": d.right, "fallen": d.fallen} for d in problem.decisions
                ],
                "world": problem.to_dict(),
            },
        )
        for problem in generate(0, WORLD_SETS[source], n)  # type: ignore[arg-type]
    ]


def _file_problems(path: Path, limit: int | None, question_field: str, answer_field: str) -> list[ProblemRecord]:
    problems: dict[str, ProblemRecord] = {}
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                raise ProblemFileError(f"{path}, line {number}: not UTF-8.", "Save the file as UTF-8.") from error
            record = _file_problem(path, number, line, question_field, answer_field)
            problems.setdefault(record.problem_id, record)
            if limit is not None and len(problems) == limit:
                break
    if not problems:
        raise ProblemFileError(f"{path} holds no problem.", "Write one JSON object a line.")
    return list(problems.values())


def _file_problem(path: Path, number: int, line: str, question_field: str, answer_field: str) -> ProblemRecord:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ProblemFileError(
            f"{path}, line {number}: no valid JSON ({error.msg} at column {error.colno}).", "Write one object a line."
        ) from error
    if not isinstance(fields, dict):
        raise ProblemFileError(f"{path}, line {number}: a {type(fields).__name__}, not an object.")
    question = fields.get(question_field)
    if not isinstance(question, str) or not question.strip():
        raise ProblemFileError(
            f"{path}, line {number}: field {question_field!r} is missing or no text; fields there: {sorted(fields)}.",
            "Name the right one with --question-field.",
        )
    answer = fields.get(answer_field)
    return ProblemRecord(
        problem_id=problem_id(question),
        problem_set=path.stem,
        question=question,
        answer=None if answer is None else str(answer),
        metadata={name: value for name, value in fields.items() if name not in (question_field, answer_field)},
    )


def problem_id(question: str) -> str:
    """Content hash of a question: 12 hex digits."""
    return hashlib.sha256(question.encode()).hexdigest()[:12]
