"""Runs a prepared run on a session, into a sink."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from rrti_sgl import bounds
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import RRTIError, StoreError, UsageError, argument
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.preparing import PreparedRun, prepare
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.regrade import regrade_unfinished
from rrti_sgl.records import RunRecord, RunStatus
from rrti_sgl.sinks.refusals import identity
from rrti_sgl.sinks.sink import Sink


@dataclass
class Progress:
    """Where a run stands. `done` counts the samples stored before, too."""

    run_id: str
    total: int
    done: int = 0
    tokens: int = 0
    takeovers: int = 0
    correct: int = 0

    def add(self, tokens: int, takeovers: int, correct: bool | None) -> None:
        """Count one finished sample."""
        self.done += 1
        self.tokens += tokens
        self.takeovers += takeovers
        self.correct += bool(correct)


OnProgress = Callable[[Progress], None]
Further = Callable[[], list[SampleJob]]
"""Asked once all jobs of a run are stored: all of the run, with those that follow of what came out; the same ones end it."""


class Workers(Protocol):
    """Pairs elsewhere that share the samples of a run among them (`rrti_sgl.programs.cluster`), in place of one session."""

    @property
    def pair(self) -> Pair:
        """What they have in common; its engines answer nothing here."""

    def gather(self, store: Store, run_id: str) -> None:
        """Take into the store what an earlier driver of a run has left elsewhere.

        Raises:
            StoreError: somebody else is at it, or the store takes nothing.
        """

    async def decode(self, store: Store, prepared: PreparedRun, on_progress: OnProgress | None) -> None:
        """Decode what the store lacks of a run that is begun in it, into the store.

        Args:
            store: open for writing.
            prepared: the run.
            on_progress: called as samples are finished.

        Raises:
            RRTIError: see `run_program`.
        """


async def run_program(
    session: PairSession | Workers,
    store: Store,
    settings: RunSettings,
    *,
    resume: str | None = None,
    anew: bool = True,
    problem_set: ProblemSet | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Run a program into a store and return its record.

    Samples are written as they finish. If a server dies or the caller is cancelled, what is finished is kept and the run is
    marked failed or interrupted; `resume` continues it with the samples that are missing.

    Args:
        session: on the pair; or many pairs elsewhere.
        store: open for writing; calibrations are taken from it.
        settings: what to run.
        resume: id of a stored run of the same settings to continue.
        anew: False continues the newest run of the very same settings that did not get to its end, where there is one.
        problem_set: the problems that the settings name, where they are loaded already; None loads them.
        on_progress: called after each finished sample.

    Raises:
        RRTIError: anything that the settings, the servers or the store do not allow; found before the first token is
            generated as far as it can be.
    """
    prepared = prepare(session.pair, settings, store, run_id=resume, problem_set=problem_set)
    if resume is None and not anew and (resume := store.find_unfinished(identity(prepared.record))):
        prepared = prepared.under(resume)
    prepared = prepared.resumed_by("run", store)
    return await execute_into(store, session, prepared, resume=resume is not None, on_progress=on_progress)


async def run_seeds(
    session: PairSession | Workers,
    store: Store,
    settings: RunSettings,
    seeds: int,
    *,
    anew: bool = False,
    problem_set: ProblemSet | None = None,
    track: Callable[[RunSettings], OnProgress | None] = lambda settings: None,
) -> list[RunRecord]:
    """Run a program with several seeds, from that of the settings on: a group that statistics treat as one.

    Asked for again, it goes on where it was: what is finished is not run again, and more seeds make only what is new.

    Args:
        session, store, settings: see `run_program`.
        seeds: how many.
        anew: make all of them, whatever is there.
        problem_set: see `run_program`.
        track: gives what is called after each finished sample of a run.

    Raises:
        RRTIError: see `run_program`.
        UsageError: fewer than one, or too many.
    """
    if not 1 <= seeds <= bounds.RUNS:
        raise UsageError(f"{argument('seeds', seeds)} makes no run.", f"Give 1 to {bounds.RUNS}.")
    records = []
    for seeded in (replace(settings, seed=settings.seed + number) for number in range(seeds)):
        prepared = None if anew else prepare(session.pair, seeded, store, problem_set=problem_set)
        if prepared is not None and (finished := store.find_finished(identity(prepared.record))):
            records.append(store.get_run(finished))
        else:
            record = await run_program(session, store, seeded, anew=anew, problem_set=problem_set, on_progress=track(seeded))
            records.append(record)
    return records


async def execute_into(
    store: Store,
    session: PairSession | Workers,
    prepared: PreparedRun,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    further: Further | None = None,
) -> RunRecord:
    """`execute` into a store, here or, unless more may follow, by many pairs elsewhere."""
    if resume:
        run_id = store.get_run(prepared.record.run_id).run_id  # refused where there is none, before it gets a folder
        if not isinstance(session, PairSession):
            await asyncio.to_thread(session.gather, store, run_id)  # as it was graded then
        await asyncio.to_thread(regrade_unfinished, store, prepared.record, prepared.finisher.grader)
    async with DuckDBSink(store) as sink:
        if isinstance(session, PairSession):
            return await execute(session, sink, prepared, resume=resume, on_progress=on_progress, further=further)
        return await _execute(sink, prepared, lambda _: session.decode(store, prepared, on_progress), resume=resume)


async def execute(
    session: PairSession,
    sink: Sink,
    prepared: PreparedRun,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
    further: Further | None = None,
) -> RunRecord:
    """Register a prepared run, decode what the sink does not have of it, and return its record.

    Args:
        session: on the pair that the run was prepared for.
        sink: takes the run and its samples.
        prepared: the run.
        resume: the run is there already; go on with the samples that are missing.
        on_progress: called after each finished sample.
        further: where it follows of the samples which others are needed: the run has not ended before those are there.

    Raises:
        RRTIError: see `run_program`.
    """
    await session.check(prepared.options)
    decode = partial(_decode, session, sink, prepared, on_progress, further)
    return await _execute(sink, prepared, decode, resume=resume)


async def _execute(
    sink: Sink, prepared: PreparedRun, decode: Callable[[frozenset[str]], Awaitable[None]], *, resume: bool
) -> RunRecord:
    """Begin a run, let `decode` make what is not done of it, and note how it ended."""
    run_id = prepared.record.run_id
    done = await sink.begin(prepared.record, resume=resume)
    try:
        await sink.add_problems(prepared.problems)
        if prepared.calibration is not None:
            await sink.add_calibration(prepared.calibration)
        await decode(done)
        return await sink.end(run_id, "finished")
    except BaseException as error:
        with contextlib.suppress(StoreError):  # where it is the store that failed, that is what the user is told
            await sink.end(run_id, *ended_by(error))
        if isinstance(error, RRTIError) and prepared.continue_with:
            error.remedy = f"{error.remedy} Continue with: {prepared.continue_with}.".strip()
        raise


def ended_by(error: BaseException) -> tuple[RunStatus, str]:
    """What is noted of a run that an error ended."""
    return "failed" if isinstance(error, Exception) else "interrupted", str(error) or type(error).__name__


async def _decode(
    session: PairSession,
    sink: Sink,
    prepared: PreparedRun,
    on_progress: OnProgress | None,
    further: Further | None,
    done: frozenset[str],
) -> None:
    jobs, progress = prepared.jobs, Progress(prepared.record.run_id, total=len(prepared.jobs), done=len(done))
    while True:
        missing = [job for job in jobs if job.sample_id not in done]
        async with aclosing(session.run(missing, prepared.gate, prepared.options)) as decoded:
            async for sample in decoded:
                # A comparison of answers may take seconds; the servers go on meanwhile.
                finished = await asyncio.to_thread(prepared.finisher.finish, sample.job, sample.trace)
                await sink.put(finished)
                record = finished.sample
                progress.add(record.n_tokens, record.n_takeovers, record.correct)
                if on_progress is not None:
                    on_progress(progress)
        if further is None:
            return
        await sink.flush()
        done = done.union(job.sample_id for job in missing)
        jobs = await asyncio.to_thread(further)
        if done.issuperset(job.sample_id for job in jobs):
            return
        progress.total = len(jobs)
