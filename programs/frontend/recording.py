"""What a backend leaves in the store: runs of the program "frontend", a problem for each prompt, a sample for each `gen`.

A run has one temperature, one top-p and one length limit, so a backend begins a run for each combination that its programs
ask for; all of them carry the same `session` in their configuration. A sample's text and tokens are what was decoded: a stop
string is in them, what was drafted beyond the token that completes it is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.grading import Grade
from rrti_sgl.problems import ProblemSet, problem_id
from rrti_sgl.programs.frontend.options import GenOptions
from rrti_sgl.programs.running.gating import ChosenGate
from rrti_sgl.programs.running.preparing import new_run_id, run_record
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import Json, ProblemRecord, RunRecord, RunStatus
from rrti_sgl.science.planning import LexicalTagger
from rrti_sgl.sinks.sink import Sink

PROGRAM = PROBLEM_SET = "frontend"


class Ungraded:
    """The grader of prompts that have no answer."""

    name = "ungraded"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """No answer is looked for."""
        return Grade(None, None)


@dataclass
class Recorder:
    """Numbers the samples of a backend and hands them to a sink. Lives in one event loop.

    Args:
        pair: connected models.
        chosen: the backend's gate.
        k: top log-probabilities kept.
        seed: of what is drawn on our side.
        config: what else identifies the backend; stored with its runs.
        sink: takes the samples; None keeps nothing.
    """

    pair: Pair
    chosen: ChosenGate
    k: int
    seed: int
    config: Mapping[str, Json]
    sink: Sink | None = None
    _runs: dict[tuple[float, float, int], str] = field(default_factory=dict)
    _problems: dict[str, ProblemRecord] = field(default_factory=dict)
    _tagger: LexicalTagger = field(default_factory=LexicalTagger)
    _samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def run_ids(self) -> list[str]:
        """Runs begun so far."""
        return list(self._runs.values())

    async def job(
        self, base: tuple[str, Sequence[int]], reasoning: tuple[str, Sequence[int]], options: GenOptions
    ) -> SampleJob:
        """The next sample of a prompt, given as text and ids for each model; begins its run if it is the first of it."""
        async with self._beginning:
            run_id = await self._run(options)
            problem = await self._problem(base[0])
        index = self._samples[run_id, problem.problem_id]
        self._samples[run_id, problem.problem_id] += 1
        return SampleJob(run_id, problem, index, self.seed, *base, *reasoning)

    async def keep(self, job: SampleJob, trace: TraceBuilder) -> None:
        """Hand a finished sample over; waits while the sink holds back too much.

        Raises:
            StoreError: an earlier sample could not be kept.
        """
        if self.sink is not None:
            await self.sink.put(Finisher(self.pair.vocabulary, Ungraded(), self._tagger).finish(job, trace))

    async def end(self, status: RunStatus, error: str | None) -> None:
        """Mark every run as ended.

        Raises:
            StoreError: samples could not be kept.
        """
        if self.sink is not None:
            for run_id in self.run_ids:
                await self.sink.end(run_id, status, error)

    async def _run(self, options: GenOptions) -> str:
        key = (options.sampling.temperature, options.sampling.top_p, options.max_new_tokens)
        if key not in self._runs:
            record = self._record(new_run_id(PROGRAM), options)
            if self.sink is not None:
                await self.sink.begin(record)
                if self.chosen.calibration is not None:
                    await self.sink.add_calibration(self.chosen.calibration)
            self._runs[key] = record.run_id
        return self._runs[key]

    async def _problem(self, text: str) -> ProblemRecord:
        if text not in self._problems:
            problem = ProblemRecord(problem_id(text), PROBLEM_SET, text, None)
            if self.sink is not None:
                await self.sink.add_problems([problem])
            self._problems[text] = problem
        return self._problems[text]

    def _record(self, run_id: str, options: GenOptions) -> RunRecord:
        asked: dict[str, Any] = {
            "temperature": options.sampling.temperature,
            "top_p": options.sampling.top_p,
            "max_new_tokens": options.max_new_tokens,
        }
        config = {**self.config, **asked}
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]
        settings = RunSettings("base", k=self.k, seed=self.seed, **asked)
        none_yet = ProblemSet(PROBLEM_SET, [], Ungraded())  # not known before the programs have run
        record = run_record(self.pair, settings, none_yet, self.chosen, self._tagger, run_id)
        config = {"kind": PROGRAM, **config}
        return replace(record, program=PROGRAM, config=config, config_hash=digest, samples_per_problem=0)
