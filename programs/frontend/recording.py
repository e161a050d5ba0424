"""What a backend leaves in the store: runs of the program "frontend", a problem for each prompt, a sample for each `gen`.

A run has one temperature, one top-p and one length limit, so a backend begins a run for each combination that its programs
ask for; all of them carry the same `session` in their configuration. A sample's text and tokens are what was decoded: a stop
string is in them, what was drafted beyond the token that completes it is not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rrti_sgl import __version__
from rrti_sgl.db.store import Store
from rrti_sgl.db.writer import TraceWriter
from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.grading import Grade
from rrti_sgl.problems import problem_id
from rrti_sgl.programs.frontend.options import GenOptions
from rrti_sgl.programs.running.runner import new_run_id
from rrti_sgl.records import Json, ProblemRecord, RunRecord, RunStatus
from rrti_sgl.science.gates import Gate
from rrti_sgl.science.planning import LexicalTagger

logger = logging.getLogger(__name__)

PROGRAM = "frontend"
PROBLEM_SET = "frontend"


class Ungraded:
    """The grader of prompts that have no answer."""

    name = "ungraded"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """No answer is looked for."""
        return Grade(None, None)


@dataclass
class Recorder:
    """Numbers the samples of a backend and writes them. Lives in one event loop.

    Args:
        pair: connected servers.
        gate: the backend's gate.
        k: top log-probabilities kept.
        seed: of what is drawn on our side.
        config: what else identifies the backend; stored with its runs.
        calibration_id: the calibration that the gate has its threshold from.
        writer: takes the samples; None keeps nothing.
        store: the writer's store.
    """

    pair: Pair
    gate: Gate
    k: int
    seed: int
    config: Mapping[str, Json]
    calibration_id: str | None = None
    writer: TraceWriter | None = None
    store: Store | None = None
    run_ids: list[str] = field(default_factory=list)
    _runs: dict[tuple[float, float, int], str] = field(default_factory=dict)
    _problems: dict[str, ProblemRecord] = field(default_factory=dict)
    _new_problems: list[ProblemRecord] = field(default_factory=list)
    _tagger: LexicalTagger = field(default_factory=LexicalTagger)
    _samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def job(
        self, base: tuple[str, Sequence[int]], reasoning: tuple[str, Sequence[int]], options: GenOptions
    ) -> SampleJob:
        """The next sample of a prompt, given as text and ids for each model; begins its run if it is the first of it."""
        async with self._writing:
            run_id = await self._run(options)
        problem = self._problem(base[0])
        index = self._samples[run_id, problem.problem_id]
        self._samples[run_id, problem.problem_id] += 1
        return SampleJob(run_id, problem, index, self.seed, *base, *reasoning)

    async def keep(self, job: SampleJob, trace: TraceBuilder) -> None:
        """Hand a finished sample to the writer; waits while its buffer is full.

        Raises:
            StoreError: an earlier sample could not be written.
        """
        if self.writer is None or self.store is None:
            return
        async with self._writing:
            new, self._new_problems = self._new_problems, []
            await asyncio.to_thread(self.store.add_problems, new)
        await self.writer.put(Finisher(self.pair.vocabulary, Ungraded(), self._tagger).finish(job, trace))

    def finish(self, status: RunStatus, error: str | None) -> None:
        """Write what the writer could not, and mark every run as ended."""
        if self.store is None or self.writer is None:
            return
        if left := self.writer.unwritten:
            # At the end of the interpreter no thread can be started any more, which the writer needs; write from this one.
            logger.info("writing %d samples directly", len(left))
            self.store.write_samples(left)
        for run_id in self.run_ids:
            self.store.finish_run(run_id, status, error)

    async def _run(self, options: GenOptions) -> str:
        key = (options.sampling.temperature, options.sampling.top_p, options.max_new_tokens)
        if key not in self._runs:
            run_id = new_run_id(PROGRAM)
            if self.store is not None:
                await asyncio.to_thread(self.store.begin_run, self._record(run_id, options))
            self._runs[key] = run_id
            self.run_ids.append(run_id)
        return self._runs[key]

    def _problem(self, text: str) -> ProblemRecord:
        if text not in self._problems:
            self._problems[text] = ProblemRecord(problem_id(text), PROBLEM_SET, text, None)
            self._new_problems.append(self._problems[text])
        return self._problems[text]

    def _record(self, run_id: str, options: GenOptions) -> RunRecord:
        pair, rule = self.pair, self.gate.rule
        finite = rule if rule is not None and math.isfinite(rule.tau) else None
        config = dict(self.config) | {
            "temperature": options.sampling.temperature,
            "top_p": options.sampling.top_p,
            "max_new_tokens": options.max_new_tokens,
        }
        return RunRecord(
            run_id=run_id,
            program=PROGRAM,
            status="running",
            created_at=datetime.now(UTC),
            config=config,
            config_hash=hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16],
            base_model=pair.base_info.model,
            reasoning_model=pair.reasoning_info.model,
            tokenizer_hash=pair.vocabulary.digest,
            vocab_size=pair.vocab_size,
            problem_set=PROBLEM_SET,
            n_problems=0,  # not known before the programs have run
            samples_per_problem=0,
            k=self.k,
            score_kind=pair.score_kind(self.k),
            metric=self.gate.metric,
            gate=self.gate.name,
            gate_params=self.gate.params(),
            tau=finite.tau if finite else None,
            lambda_=finite.lambda_ if finite else None,
            window=finite.window if finite else None,
            warmup=finite.warmup if finite else None,
            calibration_id=self.calibration_id,
            tagger=self._tagger.name,
            grader=Ungraded.name,
            temperature=options.sampling.temperature,
            top_p=options.sampling.top_p,
            max_new_tokens=options.max_new_tokens,
            seed=self.seed,
            package_version=__version__,
            base_server=pair.base_info.info,
            reasoning_server=pair.reasoning_info.info,
        )


def new_session() -> str:
    """An id that the runs of one backend share."""
    return new_run_id("session")
