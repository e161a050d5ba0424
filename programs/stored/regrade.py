"""Grading stored solutions again, with another grader and without generating anything."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rrti_sgl.db import record_rows
from rrti_sgl.db.grades import replace_grades
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, command
from rrti_sgl.grading import Grade, Grader, grade_solution, load_grader
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.preconditions import check_gold
from rrti_sgl.programs.running.preparing import solution_stops
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import ProblemRecord, RunRecord
from rrti_sgl.science.gates import AlwaysGate
from rrti_sgl.sinks.refusals import COMMON, differences

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GradedSample:
    """A stored sample with its grade before and now."""

    sample_id: str
    problem_id: str
    truncated: bool
    before: Grade
    now: Grade


@dataclass(frozen=True)
class Regrading:
    """A run's samples, graded again.

    Args:
        run_id: the run.
        before, now: names of the two graders.
        samples: all samples of the run.
        stored: whether the new grades replaced the old ones.
    """

    run_id: str
    before: str
    now: str
    samples: tuple[GradedSample, ...]
    stored: bool

    @property
    def changed(self) -> list[GradedSample]:
        """Samples that were right and are wrong, or the reverse."""
        return [sample for sample in self.samples if sample.before.correct != sample.now.correct]

    @property
    def methods(self) -> Counter[str]:
        """How many answers were found by which method; "none": no answer."""
        return Counter(sample.now.method or "none" for sample in self.samples)

    def summary(self) -> dict[str, Any]:
        """Counts. Truncated samples, which reached the limit, are among the right and wrong ones and counted apart too."""
        graded = [sample for sample in self.samples if sample.now.correct is not None]
        right = [sample for sample in graded if sample.now.correct]
        truncated = [sample for sample in self.samples if sample.truncated]
        return {
            "run_id": self.run_id,
            "grader": self.now,
            "graded_before_by": self.before,
            "samples": len(self.samples),
            "graded": len(graded),
            "right": len(right),
            "accuracy": len(right) / len(graded) if graded else None,
            "right_before": sum(bool(sample.before.correct) for sample in self.samples),
            "became_right": sum(bool(sample.now.correct) for sample in self.changed),
            "became_wrong": sum(sample.now.correct is False for sample in self.changed),
            "no_answer": sum(sample.now.answer is None for sample in self.samples),
            "truncated": len(truncated),
            "truncated_right": sum(bool(sample.now.correct) for sample in truncated),
        }


def regrade(store: Store, run_id: str, grader: str, *, keep: bool = False) -> Regrading:
    """Grade all samples of a finished run again.

    The gold answers are those that are stored with the problems. The run's `config` then names the new grader, and under
    "regraded" every grader before it, with the time.

    Args:
        store: open for writing, unless `keep`.
        run_id: the run.
        grader: by name or `package.module:Class`.
        keep: leave the store as it is.

    Raises:
        UsageError: no such run or grader, a run that has not ended, a counterfactual (its samples hold only the ends of
            solutions), or a gold answer that the grader cannot compare with.
        StoreError: the run is sealed, and its grades are to be replaced.
    """
    run = store.get_run(run_id)
    if run.kind == "counterfactual":
        raise UsageError(f"Run {run_id} is a counterfactual: its samples hold the ends of solutions only.", "Grade another.")
    if run.status != "finished":
        raise UsageError(f"Run {run_id} is {run.status}.", f"Finish it first: `{command('run', resume=run_id)}`.")
    judge = load_grader(grader)
    problems = _problems(store, run)
    check_gold(ProblemSet(run.problem_set, list(problems.values()), judge))
    samples = _graded(store, run, judge, problems)
    if not keep:
        _replace(store, run, judge, samples, {"grader": grader})
    return Regrading(run_id, run.grader, judge.name, samples, stored=not keep)


def regrade_unfinished(store: Store, now: RunRecord, judge: Grader) -> None:
    """Grade what an unfinished run has as its rest will be graded, if its grader has another version by now.

    A finished run is left as it is; so are one of other settings and a counterfactual, which a sink refuses to continue.

    Args:
        store: open for writing.
        now: the record with which the run is continued.
        judge: the grader that continues it, which can compare with the gold answers.

    Raises:
        UsageError: there is no such run.
        StoreError: the run is sealed.
    """
    run = store.get_run(now.run_id)
    if run.grader == now.grader or run.status == "finished" or run.kind == "counterfactual" or differences(run, now, COMMON):
        return
    samples = _graded(store, run, judge, _problems(store, run))
    _replace(store, run, judge, samples, {})
    message = "Run %s was graded by %s so far and goes on with %s: its samples are graded again (%d)."
    logger.warning(message, run.run_id, run.grader, judge.name, len(samples))


def _graded(store: Store, run: RunRecord, judge: Grader, problems: Mapping[str, ProblemRecord]) -> tuple[GradedSample, ...]:
    whole = run.gate == AlwaysGate.name
    stops = _stops(run, whole=whole)
    rows = store.sql(
        """
        SELECT sample_id, problem_id, text, finish_reason, answer, correct, answer_method, reasoning_prompt
        FROM samples
        WHERE run_id = $run ORDER BY problem_id, sample_index
        """,
        {"run": run.run_id},
    ).to_pylist()
    samples = []
    for row in rows:
        prompt = row["reasoning_prompt"] if whole else None
        now = grade_solution(judge, problems[row["problem_id"]], row["text"], stops, prompt)
        before = Grade(row["answer"], row["correct"], row["answer_method"])
        truncated = row["finish_reason"] == "length"
        samples.append(GradedSample(row["sample_id"], row["problem_id"], truncated, before, now))
    return tuple(samples)


def _replace(
    store: Store, run: RunRecord, judge: Grader, samples: Sequence[GradedSample], changed: Mapping[str, Any]
) -> None:
    before = {"grader": run.grader, "until": datetime.now(UTC).isoformat(timespec="seconds")}
    config = {**run.config, **changed, "regraded": [*run.config.get("regraded", ()), before]}
    replace_grades(store, run.run_id, judge.name, config, {sample.sample_id: sample.now for sample in samples})


def _problems(store: Store, run: RunRecord) -> dict[str, ProblemRecord]:
    query = """
        SELECT * FROM problems
        WHERE problem_set = $set AND problem_id IN (SELECT problem_id FROM samples WHERE run_id = $run)
    """
    rows = store.sql(query, {"set": run.problem_set, "run": run.run_id}).to_pylist()
    return {row["problem_id"]: record_rows.record_of(ProblemRecord, row) for row in rows}


def _stops(run: RunRecord, *, whole: bool) -> tuple[str, ...]:
    if run.kind in ("frontend", "api"):  # programs and requests end their generations themselves
        return ()
    if run.kind == "score":  # prompts may be the texts' own
        return tuple(run.config["stops"])
    return solution_stops(RunSettings.from_dict(run.config, trust=None), whole=whole)
