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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.grading import Grade
from rrti_sgl.problems import ProblemSet, problem_id
from rrti_sgl.programs.running.gating import ChosenGate
from rrti_sgl.programs.running.preparing import new_run_id, run_record
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import ProblemRecord, RunRecord, RunStatus
from rrti_sgl.science.planning import LexicalTagger
from rrti_sgl.sinks.sink import Sink

PROGRAM = PROBLEM_SET = "frontend"
_DECISIVE = ("k", "seed", "draft_tokens", "temperature", "top_p", "max_new_tokens")


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
        reasoning_prefix: what the reasoning model alone is shown; stored with the runs.
        sink: takes the samples; None keeps nothing.
    """

    pair: Pair
    chosen: ChosenGate
    reasoning_prefix: str = ""
    sink: Sink | None = None
    _session: str = field(default_factory=lambda: new_run_id("session"))
    _runs: dict[tuple[object, ...], str] = field(default_factory=dict)
    _problems: dict[str, ProblemRecord] = field(default_factory=dict)
    _tagger: LexicalTagger = field(default_factory=LexicalTagger)
    _samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    _beginning: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def run_ids(self) -> list[str]:
        """Runs begun so far."""
        return list(self._runs.values())

    async def job(
        self, settings: RunSettings, base: tuple[str, Sequence[int]], reasoning: tuple[str, Sequence[int]]
    ) -> SampleJob:
        """The next sample of a prompt, given as text and ids for each model; begins its run if it is the first of it."""
        async with self._beginning:
            run_id = await self._run(settings)
            problem = await self._problem(base[0])
        index = self._samples[run_id, problem.problem_id]
        self._samples[run_id, problem.problem_id] += 1
        return SampleJob(run_id, problem, index, settings.seed, *base, *reasoning)

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

    async def _run(self, settings: RunSettings) -> str:
        key = (settings.sampling, settings.max_new_tokens)
        if key not in self._runs:
            record = self._record(settings)
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

    def _record(self, settings: RunSettings) -> RunRecord:
        gate = self.chosen.gate
        config = {
            "kind": PROGRAM,
            "session": self._session,
            "gate": gate.name,
            "gate_options": gate.params(),
            "reasoning_prefix": self.reasoning_prefix,
            **{name: getattr(settings, name) for name in _DECISIVE},
        }
        none_yet = ProblemSet(PROBLEM_SET, [], Ungraded())  # not known before the programs have run
        return replace(
            run_record(self.pair, settings, none_yet, self.chosen, self._tagger, new_run_id(PROGRAM)),
            program=PROGRAM,
            config=config,
            config_hash=hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16],
            samples_per_problem=0,
        )
