"""Traces of samples that come one by one, from an endpoint's requests or a program, on their way into the store.

A sample has its place in the store, and so its id, before its first token. When it is finished it goes into a queue, and
one task finishes the records of those that wait and hands them to a sink. The queue makes no answer wait: who must not run
ahead of the store asks first whether there is room, or waits until all is settled. What waits is written at the end.

A run is of one gate, sampling, limit and seed; at most `_RUNS` are open, the oldest idle one is ended for a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import RRTIError, StoreError
from rrti_sgl.problems import ProblemSet, problem_id
from rrti_sgl.programs.running.gating import ChosenGate
from rrti_sgl.programs.running.preparing import new_run_id, run_record
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord, RunStatus, SampleTrace
from rrti_sgl.science.gates import AlwaysGate
from rrti_sgl.science.planning import LexicalTagger
from rrti_sgl.sinks.sink import Sink

logger = logging.getLogger(__name__)

_RUNS = 64
_AT_ONCE = 64  # samples that are finished in one call of a thread; a call for each would wait for the loop each time
_COUNTED = 200_000  # prompts whose samples are numbered, over all open runs


@dataclass
class OpenRun:
    """A run that takes samples. `pending` are those that are numbered and not yet with the sink."""

    record: RunRecord
    calibration: CalibrationRecord | None
    finisher: Finisher
    indices: Counter[str] = field(default_factory=Counter)
    told: set[str] = field(default_factory=set)  # problems that the sink knows
    pending: int = 0
    begun: bool = False

    def place(self, problem: str) -> int:
        """The index of a problem's next sample."""
        index = self.indices[problem]
        self.indices[problem] += 1
        self.pending += 1
        return index


@dataclass(frozen=True)
class Kept:
    """A finished sample with where it goes."""

    run: OpenRun
    job: SampleJob
    trace: TraceBuilder


class Recorder:
    """Numbers samples and keeps their traces. Lives in one event loop; an async context manager.

    Args:
        pair: connected models.
        problem_set: its name is that of all samples' problems; its grader finds answers. Its problems are of no account.
        sink: takes the samples; it is closed by its owner, later. None keeps nothing.
        describe: the record of a new run, from what its settings say and the name that its samples are asked for by.
        most: samples that may be on their way, those in flight included.
    """

    def __init__(
        self,
        pair: Pair,
        problem_set: ProblemSet,
        sink: Sink | None,
        describe: Callable[[RunRecord, str], RunRecord],
        most: int = 0,
    ) -> None:
        self._pair, self._sink, self._describe, self._most = pair, sink, describe, most
        self._problem_set = replace(problem_set, problems=[])
        self._tagger = LexicalTagger()
        self._runs: OrderedDict[tuple[Any, ...], OpenRun] = OrderedDict()
        self._over: asyncio.Queue[OpenRun] = asyncio.Queue()
        self._queue: asyncio.Queue[Kept | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._on_its_way = 0
        self.unstored = 0  # samples that are finished and not yet with the sink
        self.status: tuple[RunStatus, str | None] = ("finished", None)  # of the runs that are open at the end
        self.error: Exception | None = None

    @property
    def keeps(self) -> bool:
        """Whether there is a store."""
        return self._sink is not None

    def has_room(self, n: int) -> bool:
        """Whether n further samples find a place.

        Raises:
            StoreError: an earlier sample could not be stored; nothing more is taken.
        """
        self._check()
        return self._on_its_way + n <= self._most

    async def settled(self) -> None:
        """Wait until all that was kept is with the sink.

        Raises:
            StoreError: something of it could not be stored.
        """
        await self._queue.join()
        self._check()

    def _check(self) -> None:
        if self.error is not None:
            raise StoreError(f"Traces cannot be stored any more: {self.error}", "Start again.") from self.error

    async def __aenter__(self) -> Recorder:
        if self._sink is not None:
            self._task = asyncio.create_task(self._write(), name="recorder")
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Write what waits, and end the runs."""
        if self._task is None or self._sink is None:
            return
        self._queue.put_nowait(None)
        await asyncio.shield(self._task)
        for run in self._runs.values():
            if run.begun:
                self._over.put_nowait(run)
        await asyncio.shield(asyncio.create_task(self._end_over(self._sink)))

    @contextlib.contextmanager
    def sample(
        self, settings: RunSettings, chosen: ChosenGate, question: str, *, name: str = "", stops: tuple[str, ...] = ()
    ) -> Iterator[Sample]:
        """A place for one sample, for as long as the block lasts; what was not kept by then never will be.

        Args:
            settings: of its run; with `max_new_tokens`.
            chosen: its gate.
            question: its prompt, which is its problem.
            name: what it is asked for by; samples of two names are of two runs.
            stops: what ends a solution in its text.
        """
        problem = ProblemRecord(problem_id(question), self._problem_set.name, question, None)
        run = self._run(settings, chosen, name, stops)
        sample = Sample(run, problem, run.place(problem.problem_id))
        self._on_its_way += 1
        try:
            yield sample
        finally:
            if not sample.kept:
                self._let_go(run)

    def keep(self, sample: Sample, job: SampleJob, trace: TraceBuilder) -> str | None:
        """Take a finished sample; returns its id in the store, None where there is none or it failed meanwhile."""
        if self._sink is None or self.error is not None:
            return None
        sample.kept = True
        placed = replace(job, run_id=sample.run_id, sample_index=sample.index)
        self.unstored += 1
        self._queue.put_nowait(Kept(sample.run, placed, trace))
        return placed.sample_id

    def _let_go(self, run: OpenRun) -> None:
        run.pending -= 1
        self._on_its_way -= 1

    def _run(self, settings: RunSettings, chosen: ChosenGate, name: str, stops: tuple[str, ...]) -> OpenRun:
        """The open run of such samples; a new one where there is none."""
        gate = settings.gate
        key = (
            name, gate.tau, gate.use_lambda, gate.lambda_, settings.sampling, settings.max_new_tokens, settings.seed,
            stops,
        )  # fmt: skip
        if key not in self._runs:
            run_id = new_run_id(settings.program)
            record = run_record(self._pair, settings, self._problem_set, chosen, self._tagger, run_id)
            record = self._describe(replace(record, samples_per_problem=0), name)
            whole = isinstance(chosen.gate, AlwaysGate)
            finisher = Finisher(self._pair.vocabulary, self._problem_set.grader, self._tagger, None, stops, whole)
            self._runs[key] = OpenRun(record, chosen.calibration, finisher)
            self._end_idle()
        self._runs.move_to_end(key)
        return self._runs[key]

    def _end_idle(self) -> None:
        """End the runs that were idle for longest, where there are too many or they remember too much."""
        newest = next(reversed(self._runs))
        remembered = sum(len(run.indices) for run in self._runs.values())
        for key, run in list(self._runs.items()):
            if key == newest or (len(self._runs) <= _RUNS and remembered <= _COUNTED):
                return
            if not run.pending:
                del self._runs[key]
                remembered -= len(run.indices)
                if run.begun:
                    self._over.put_nowait(run)

    async def _write(self) -> None:
        assert self._sink is not None
        over = False
        while not over:
            waiting = [await self._queue.get()]
            while not self._queue.empty() and len(waiting) < _AT_ONCE:
                waiting.append(self._queue.get_nowait())
            over = None in waiting
            kept = [each for each in waiting if each is not None]
            try:
                if self.error is None:
                    await self._store(self._sink, kept)
            except Exception as error:  # a store may fail in many ways; the endpoint goes on and says so
                logger.error("traces cannot be stored any more: %s", error, exc_info=not isinstance(error, RRTIError))
                self.error = error
            finally:
                self.unstored -= len(kept)
                for each in kept:
                    self._let_go(each.run)
                for _ in waiting:
                    self._queue.task_done()

    async def _store(self, sink: Sink, waiting: Sequence[Kept]) -> None:
        """Hand over all that waits: what is new of runs and problems in one go, because each such call is a transaction."""
        await self._end_over(sink)
        problems: dict[str, ProblemRecord] = {}
        for kept in waiting:
            if not kept.run.begun:
                await sink.begin(kept.run.record)
                if kept.run.calibration is not None:
                    await sink.add_calibration(kept.run.calibration)
                kept.run.begun = True
            if (key := kept.job.problem.problem_id) not in kept.run.told:
                problems[key] = kept.job.problem
                kept.run.told.add(key)
        if problems:
            await sink.add_problems(list(problems.values()))
        if waiting:  # at the end of the interpreter no thread can be started any more
            for trace in await asyncio.to_thread(_finished, waiting):
                await sink.put(trace)

    async def _end_over(self, sink: Sink) -> None:
        while not self._over.empty():
            run_id = self._over.get_nowait().record.run_id
            if self.error is None:
                await sink.end(run_id, *self.status)
                continue
            with contextlib.suppress(StoreError):  # what failed is told already
                await sink.end(run_id, "failed", str(self.error))


def _finished(waiting: Sequence[Kept]) -> list[SampleTrace]:
    return [kept.run.finisher.finish(kept.job, kept.trace) for kept in waiting]


@dataclass
class Sample:
    """The place of one sample."""

    run: OpenRun
    problem: ProblemRecord
    index: int
    kept: bool = False

    @property
    def run_id(self) -> str:
        """Of its run."""
        return self.run.record.run_id
