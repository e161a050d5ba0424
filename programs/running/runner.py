"""Runs a program over a problem set on a connected pair, into a store."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rrti_sgl import __version__
from rrti_sgl.db.continuing import find_unfinished
from rrti_sgl.db.store import Store
from rrti_sgl.db.writer import TraceWriter
from rrti_sgl.decoding.engine import Concurrency, Decoding, decode
from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.errors import RRTIError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.program import GateContext, Program
from rrti_sgl.programs.registry import find_program
from rrti_sgl.programs.running.preconditions import check_disjoint, check_gold, check_special_tokens
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import newest_calibration
from rrti_sgl.records import CalibrationRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.science.calibration import check_compatible
from rrti_sgl.science.gates import AlwaysGate, Gate, load_gate
from rrti_sgl.science.planning import LexicalTagger, PlanningTagger, load_tagger
from rrti_sgl.sinks.refusals import check_unchanged


@dataclass
class Progress:
    """Where a run stands. `done` counts the samples stored before, too."""

    run_id: str
    total: int
    done: int = 0
    tokens: int = 0
    takeovers: int = 0
    correct: int = 0

    def add(self, trace: SampleTrace) -> None:
        """Count one finished sample."""
        self.done += 1
        self.tokens += trace.sample.n_tokens
        self.takeovers += trace.sample.n_takeovers
        self.correct += bool(trace.sample.correct)


OnProgress = Callable[[Progress], None]


def new_run_id(program: str) -> str:
    """A readable, unique id: program, UTC time to the second, four random hex digits."""
    return f"{program}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class PreparedRun:
    """A run with everything checked and built, before the first token."""

    record: RunRecord
    gate: Gate
    jobs: list[SampleJob]
    options: DecodeOptions
    finisher: Finisher
    decoding: Decoding
    done: frozenset[str] = frozenset()
    command: str = "rrti run"  # what continues it, with --resume
    continue_with: str | None = None  # or else this, as it is


async def run_program(
    store: Store,
    pair: Pair,
    settings: RunSettings,
    *,
    concurrency: Concurrency | None = None,
    resume: str | None = None,
    anew: bool = True,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Run a program to its end and return its record.

    Samples are written as they finish. If a server dies or the caller is cancelled, what is finished is kept and the run is
    marked failed or interrupted; `resume` continues it with the samples that are missing.

    Args:
        store: open for writing.
        pair: connected servers.
        settings: what to run.
        concurrency: how many samples at once.
        resume: id of a stored run of the same settings to continue.
        anew: False continues the newest run of the very same settings that did not get to its end, where there is one.
        on_progress: called after each finished sample.

    Raises:
        RRTIError: anything that the settings, the servers or the store do not allow; found before the first token is
            generated as far as it can be.
    """
    prepared = prepare(store, pair, settings, resume=resume, anew=anew)
    return await execute(store, pair, prepared, concurrency=concurrency, on_progress=on_progress)


def prepare(
    store: Store,
    pair: Pair,
    settings: RunSettings,
    *,
    stored_as: str | None = None,
    problem_ids: Collection[str] | None = None,
    resume: str | None = None,
    anew: bool = True,
) -> PreparedRun:
    """Check and build everything that a run needs, and put the run into the store.

    Args:
        store: open for writing.
        pair: connected servers.
        settings: what to run.
        stored_as: program name of the run record; None takes the settings'.
        problem_ids: only these problems of the set; None takes all.
        resume: id of a stored run of the same settings to continue.
        anew: see `run_program`.

    Raises:
        RRTIError: see `run_program`.
    """
    program = find_program(settings.program)
    problem_set = settings.load_problems()
    if problem_ids is not None:
        problem_set = replace(
            problem_set, problems=[problem for problem in problem_set.problems if problem.problem_id in problem_ids]
        )
    settings = settings.resolved(problem_set, pair.vocab_size)
    check_k(settings.k, pair.vocab_size)
    check_special_tokens(pair, settings)
    check_gold(problem_set)
    calibration = _calibration(store, pair, program, settings)
    if calibration is not None and not settings.allow_overlap and stored_as is None:
        check_disjoint(store, calibration, problem_set)
    settings = replace(settings, calibration_id=calibration.calibration_id if calibration else None)
    gate = make_gate(program, settings, GateContext(calibration, problem_set.planted, pair.vocabulary))
    tagger: PlanningTagger = load_tagger(settings.tagger) if settings.tagger else LexicalTagger()
    run_id = resume or new_run_id(stored_as or program.name)
    record = run_record(pair, settings, problem_set, gate, calibration, tagger, run_id)
    record = replace(record, program=stored_as or program.name)
    if resume is None and not anew and (resume := find_unfinished(store, record)):
        run_id = resume
        record = replace(record, run_id=run_id)
    limit = record.max_new_tokens
    jobs = list(_jobs(pair, settings, problem_set, run_id))
    for job in jobs:
        pair.check_lengths(job.base_prompt_ids, job.reasoning_prompt_ids, limit)
    options = DecodeOptions(
        k=settings.k,
        max_new_tokens=limit,
        sampling=settings.sampling,
        stop_token_ids=pair.stop_token_ids,
        draft_tokens=limit if program.whole_solutions else settings.draft_tokens,
        takeover_tokens=program.takeover_tokens(settings.gate),
        exact=record.score_kind == "plugin",
    )
    whole = isinstance(gate, AlwaysGate)
    stops = solution_stops(settings, whole=whole)
    finisher = Finisher(pair.vocabulary, problem_set.grader, tagger, problem_set.planted, stops, whole)
    done = frozenset(begin_run(store, record, problem_set, resume))
    return PreparedRun(record, gate, jobs, options, finisher, settings.decoding, done)


async def execute(
    store: Store,
    pair: Pair,
    prepared: PreparedRun,
    *,
    concurrency: Concurrency | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Decode what a prepared run has not stored yet, and return its record. See `run_program`."""
    run_id = prepared.record.run_id
    progress = Progress(run_id, total=len(prepared.jobs), done=len(prepared.done))
    missing = (job for job in prepared.jobs if job.sample_id not in prepared.done)
    try:
        if prepared.options.exact:
            await pair.check_exact()
        decoding = decode(
            pair, missing, prepared.gate, prepared.options, decoding=prepared.decoding, concurrency=concurrency
        )
        async with TraceWriter(store) as writer, aclosing(decoding) as decoded:
            async for job, trace in decoded:
                # A comparison of answers may take seconds; the servers go on meanwhile.
                finished = await asyncio.to_thread(prepared.finisher.finish, job, trace)
                await writer.put(finished)
                progress.add(finished)
                if on_progress is not None:
                    on_progress(progress)
    except BaseException as error:
        status: RunStatus = "failed" if isinstance(error, Exception) else "interrupted"
        store.finish_run(run_id, status, str(error) or type(error).__name__)
        if isinstance(error, RRTIError):
            go_on = f"{prepared.command} --resume {run_id} --db {store.path} (and the same models or addresses)"
            error.remedy = f"{error.remedy} Continue with: {prepared.continue_with or go_on}.".strip()
        raise
    store.finish_run(run_id, "finished")
    return store.get_run(run_id)


def solution_stops(settings: RunSettings, *, whole: bool) -> tuple[str, ...]:
    """What ends a solution in its text, beside an end token: as the template of the model says that writes it.

    Args:
        settings: resolved.
        whole: whether the reasoning model writes all of it.
    """
    template = settings.reasoning_prompt if whole else settings.base_prompt
    return template.stops if template is not None else ()


def make_gate(program: Program, settings: RunSettings, context: GateContext) -> Gate:
    """The program's gate, or the user's own where the settings name one."""
    if settings.gate.gate is not None:
        return load_gate(settings.gate.gate, settings.gate.gate_params)
    return program.make_gate(settings.gate, context)


def _calibration(store: Store, pair: Pair, program: Program, settings: RunSettings) -> CalibrationRecord | None:
    """The calibration that the settings name, or else the newest that fits; None where the program needs none."""
    metric = program.calibrated_on(settings.gate)
    if metric is None or settings.gate.gate is not None:
        return None
    if settings.calibration_id is not None:
        calibration = store.get_calibration(settings.calibration_id)
    elif settings.gate.tau is None or settings.gate.use_lambda:
        calibration = newest_calibration(
            store,
            pair,
            metric,
            settings.k,
            pair.score_kind(settings.k, settings.score_kind),
            settings.gate.spike_ratio,
        )
    else:
        return None
    check_compatible(
        calibration,
        metric=metric,
        score_kind=pair.score_kind(settings.k, settings.score_kind),
        k=settings.k,
        base_model=pair.base_info.model,
        reasoning_model=pair.reasoning_info.model,
        tokenizer_hash=pair.vocabulary.digest,
    )
    return calibration


def run_record(
    pair: Pair,
    settings: RunSettings,
    problem_set: ProblemSet,
    gate: Gate,
    calibration: CalibrationRecord | None,
    tagger: PlanningTagger,
    run_id: str,
) -> RunRecord:
    """The record of a run that begins now, with everything that it depends on."""
    rule = gate.rule
    finite = rule if rule is not None and math.isfinite(rule.tau) else None
    return RunRecord(
        run_id=run_id,
        program=settings.program,
        status="running",
        created_at=datetime.now(UTC),
        config=settings.to_dict(),
        config_hash=settings.digest(problem_set),
        base_model=pair.base_info.model,
        reasoning_model=pair.reasoning_info.model,
        tokenizer_hash=pair.vocabulary.digest,
        vocab_size=pair.vocab_size,
        problem_set=problem_set.name,
        n_problems=len(problem_set.problems),
        samples_per_problem=settings.samples,
        k=settings.k,
        score_kind=pair.score_kind(settings.k, settings.score_kind),
        metric=gate.metric,
        gate=gate.name,
        gate_params=gate.params(),
        tau=finite.tau if finite else None,
        lambda_=finite.lambda_ if finite else None,
        window=finite.window if finite else None,
        warmup=finite.warmup if finite else None,
        calibration_id=calibration.calibration_id if calibration else None,
        tagger=tagger.name,
        grader=problem_set.grader.name,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens or problem_set.max_new_tokens,
        seed=settings.seed,
        package_version=__version__,
        base_server=pair.base_info.info,
        reasoning_server=_with_renumbering(pair),
    )


def _with_renumbering(pair: Pair) -> dict[str, Any]:
    """What the reasoning server said of itself, and which of its token ids stand for another one here."""
    renumbered = pair.reasoning_vocabulary.renumbered.to_pair
    return {**pair.reasoning_info.info, **({"renumbered_tokens": dict(renumbered)} if renumbered else {})}


def begin_run(store: Store, record: RunRecord, problem_set: ProblemSet, resume: str | None) -> set[str]:
    """Put the run and its problems into the store, or take up a stored run. Returns the ids of finished samples."""
    store.add_problems(problem_set.problems)
    if resume is None:
        store.begin_run(record)
        return set()
    stored = store.get_run(resume)
    check_unchanged(stored, record)
    store.resume_run(resume)
    return store.finished_samples(resume)


def _jobs(pair: Pair, settings: RunSettings, problem_set: ProblemSet, run_id: str) -> Iterator[SampleJob]:
    """First one sample of every problem, then a second of every problem, and so on.

    In this order a problem's later samples find its prompt in the radix cache; side by side they would all prefill it.
    """
    assert settings.base_prompt is not None
    assert settings.reasoning_prompt is not None  # resolved
    settings.base_prompt.check(pair.vocabulary)
    settings.reasoning_prompt.check(pair.reasoning_vocabulary)
    first = []
    for problem in problem_set.problems:
        base_text, base_ids = settings.base_prompt.render(problem.question, pair.vocabulary)
        reasoning_text, reasoning_ids = settings.reasoning_prompt.render(problem.question, pair.reasoning_vocabulary)
        first.append(SampleJob(run_id, problem, 0, settings.seed, base_text, base_ids, reasoning_text, reasoning_ids))
    for index in range(settings.samples):
        yield from (replace(job, sample_index=index) for job in first)
