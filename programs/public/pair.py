"""A pair of models that is open: what it runs, generates, scores and calibrates."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from rrti_sgl.decoding.events import Event
from rrti_sgl.programs.public.asking import asked, question_options, question_run
from rrti_sgl.programs.public.counterfactual import Counterfactual
from rrti_sgl.programs.public.samples import Sample
from rrti_sgl.programs.public.store import Run, TraceStore
from rrti_sgl.programs.public.twins import twins
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.counterfactual import run_counterfactual
from rrti_sgl.programs.running.portal import Portal
from rrti_sgl.programs.running.preparing import PreparedRun
from rrti_sgl.programs.running.runner import OnProgress, execute, run_program, run_seeds
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings, calibration_settings, settings_from
from rrti_sgl.programs.running.streaming import aiterated, iterated
from rrti_sgl.programs.scoring.score import run_score
from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import CalibrationRecord
from rrti_sgl.sinks.memory import MemorySink
from rrti_sgl.tokens.generated_text import GeneratedText


class ModelPair:
    """A base and a reasoning model, open; a context manager that closes the connection and what was started for it.

    `rrti_sgl.serve` and `rrti_sgl.connect` give one. Its work goes on in a thread with an event loop of its own, so it can
    be used from scripts, from notebooks, and from inside of any event loop. Several calls at the same time, from threads or
    by the awaited twins, are batched together.

    What is run without a store goes into a temporary one, the pair's `store`, which is there as long as the pair or one of
    its runs is.

    Args:
        opening: gives the session on the pair.
        stack: is closed with the pair: servers that were started for it.
    """

    def __init__(self, opening: AbstractAsyncContextManager[PairSession], stack: contextlib.ExitStack | None = None) -> None:
        self._stack = stack or contextlib.ExitStack()
        self._store: TraceStore | None = None
        self._newest: dict[str, dict[str, Any]] = {}
        with self._stack as starting:
            self._portal = Portal(opening, "pair of models")
            starting.callback(self._portal.close)
            self._stack = starting.pop_all()
        atexit.register(self.close)

    @property
    def store(self) -> TraceStore:
        """Where runs without a store are."""
        if self._store is None:
            self._store = TraceStore.temporary()
        return self._store

    @property
    def models(self) -> tuple[str, str]:
        """Names of the base and the reasoning model."""
        pair = self._portal.opened.pair
        return pair.base.info.model, pair.reasoning.info.model

    def close(self) -> None:
        """Cancel what is under way, disconnect, and stop the servers that were started for this pair; once.

        What is still open when Python ends is closed then.
        """
        atexit.unregister(self.close)
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"<pair of {self.models[0]} and {self.models[1]}>"

    async def _run(
        self,
        program: str,
        *,
        store: TraceStore | None = None,
        resume: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> Run:
        """Run a program of the method over a problem set.

        Args:
            program: base, reasoning, guided, diagnose, entropy, random, early, relay, oracle or pass-at-k.
            store: open for writing; None takes the pair's own.
            resume: id of a stored run of the same options that ended early, to go on with.
            on_progress: called after each finished sample.
            **options: those of `rrti run`, with `_` for `-`: `problems=`, `limit=`, `tau=`, `temperature=`, ...
                `problems=` is a name, the path of a file, or the rows themselves, with the same fields: a list of dicts, a
                table of pandas, polars or pyarrow, a data set of `datasets`. To resume such a run give the same rows.

        Raises:
            UsageError: an unknown option (the message suggests one), a value that does not fit, no threshold.
            RRTIError: what the servers or the store do not allow.

        Example:
            >>> run = pair.run("guided", problems="world:heldout", limit=10, tau=0.5)
            >>> pair.run("base", problems=[{"question": "ann has 2 8 . how many has ann ?", "answer": "28"}])
        """
        found = await self._execute(partial(settings_from, program), options, store, on_progress, resume)
        self._newest[program] = options
        return found

    async def _run_seeds(
        self,
        program: str,
        seeds: int,
        *,
        store: TraceStore | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> list[Run]:
        """Run a program with several seeds: a group, of which `accuracy` gives the mean and the spread over seeds.

        Called again it makes only what is missing.

        Args:
            program: as in `run`.
            seeds: how many, from the option `seed` on (0).
            store, on_progress, **options: as in `run`.

        Raises:
            RRTIError: see `run`.

        Example:
            >>> pair.run_seeds("guided", 3, limit=10, temperature=0.8, tau=0.5)
        """
        settings, problem_set = asked(partial(settings_from, program), self._with_tokens(options))
        kept, track = store or self.store, lambda _: on_progress
        found = await run_seeds(self._portal.opened, kept.store, settings, seeds, problem_set=problem_set, track=track)
        return [Run(kept, record) for record in found]

    async def _diagnose(
        self, *, store: TraceStore | None = None, on_progress: OnProgress | None = None, **options: Any
    ) -> Run:
        """Roll the base model out and score every token by both models; nothing is taken over.

        Args:
            store, on_progress, **options: as in `run`.

        Raises:
            RRTIError: see `run`.

        Example:
            >>> pair.diagnose(problems="world:heldout", limit=20).statistic("sparsity").to_pandas()
        """
        return await self._execute(partial(settings_from, "diagnose"), options, store, on_progress)

    async def _calibrate(
        self,
        *,
        metric: str = "ce",
        spike_ratio: float = 0.08,
        store: TraceStore | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> CalibrationRecord:
        """Take tau and lambda from base rollouts, for the runs in the same store that name no `tau`.

        Args:
            metric: the score to calibrate; "entropy_base" for the entropy gate.
            spike_ratio: share of base tokens that are to lie above tau.
            store, on_progress: as in `run`.
            **options: as in `run`; by default the first 200 problems of `world:calibration`.

        Raises:
            RRTIError: see `run`.

        Example:
            >>> pair.calibrate(limit=50).tau
        """
        chosen = {"problems": "world:calibration", "limit": 200, **options}
        run = await self._execute(calibration_settings, chosen, store, on_progress)
        return calibrate_on_run(run.store.store, run.run_id, metric=metric, spike_ratio=spike_ratio)

    async def _score(
        self,
        path: str | Path,
        *,
        problems: str | None = None,
        format: str = "auto",
        fields: Mapping[str, str] | None = None,
        end_token: bool = True,
        thoughts: bool = False,
        skip: bool = False,
        store: TraceStore | None = None,
        resume: str | None = None,
        on_progress: OnProgress | None = None,
        **options: Any,
    ) -> Run:
        """Score texts that are there already, at every position by both models; nothing is generated.

        Args:
            path: a JSONL or Parquet file, samples of lm-eval, a log of inspect_ai, or rollouts of a trainer.
            problems: the problem set that the texts answer; None: the file itself holds the questions.
            format: jsonl, csv, parquet, lm-eval, inspect, verl, trl, slime, or auto.
            fields: which field of the file holds what, where it is not named so: `{"text": "response"}`.
            end_token: put the end token after texts that stopped.
            thoughts: put the reasoning parts of an inspect_ai log back before the answer, as `<think>`.
            skip: leave out what cannot be scored, and say how much, instead of refusing all of it.
            store, resume, on_progress: as in `run`.
            **options: those of `rrti score`: `metric=`, `k=`, `base_prompt=`, ...

        Raises:
            UsageError: everything that is wrong with the file, at once.
            RRTIError: what the servers or the store do not allow.

        Example:
            >>> pair.score("answers.jsonl", fields={"text": "response"}).statistic("sparsity")
        """
        source = TextInput(str(path), format, dict(fields or {}), problems, end_token, thoughts, skip)
        settings = ScoreSettings.of(source, **self._with_tokens(options))
        texts, kept = await asyncio.to_thread(source.read), store or self.store
        record = await run_score(self._portal.opened, kept.store, settings, texts, resume=resume, on_progress=on_progress)
        return Run(kept, record)

    async def _counterfactual(
        self,
        sample: Sample | str | None = None,
        *,
        unit: str | None = None,
        positions: Sequence[int] | None = None,
        continuations: int | None = None,
        temperature: float | None = None,
        until: float | None = None,
        gap: float | None = None,
        budget: int | None = None,
        resume: str | None = None,
        trust: Sequence[str] = (),
        store: TraceStore | None = None,
        on_progress: OnProgress | None = None,
    ) -> Counterfactual:
        """Begin a stored sample again with and without some of its tokens or sentences, and compare what becomes of it.

        Args:
            sample: a stored sample, or its id; None with `resume`.
            unit: "token" (None, too), whose takeover is denied or forced, "sentence", which is drawn anew, or "pivotal", to
                search for tokens at which the share of right solutions jumps.
            positions: which tokens, or tokens of which sentences; None takes every takeover that changed the token, every
                sentence, and searches the whole sample.
            continuations: of each arm; None: 1 when greedy, 8 when sampling, 64 at the most with `until` and in a search.
            temperature: of the continuations; None takes that of the sample's run.
            until: go on with a unit only until the 95 % intervals of its effect and of how far apart the answers are reach
                no farther than this.
            gap: change of the share of right solutions that makes a token pivotal; None: 0.2.
            budget: most continuations of all arms.
            resume: id of a counterfactual run to go on with, as it was asked for.
            trust: classes, `package.module:Class`, that the sample's run names and that may be imported.
            store: where the sample is; None: the pair's own.
            on_progress: called after each finished continuation.

        Raises:
            UsageError: no such sample or position, or a sample without a gold answer.
            RRTIError: what the servers or the store do not allow.

        Example:
            >>> pair.counterfactual(run.samples[0], store=store).table.to_pandas()
        """
        kept = store or self.store
        arms = plan_arms(
            kept.store,
            sample.sample_id if isinstance(sample, Sample) else sample,
            resume=resume,
            unit=unit,
            positions=positions,
            continuations=continuations,
            temperature=temperature,
            until=until,
            gap=gap,
            budget=budget,
            trust=trust,
        )
        record, effects = await run_counterfactual(
            self._portal.opened, kept.store, arms, resume=resume, trust=trust, on_progress=on_progress
        )
        return Counterfactual(Run(kept, record), effects)

    async def _generate(
        self, text: str, program: str = "guided", *, store: TraceStore | None = None, **options: Any
    ) -> Sample:
        """Answer one question; the sample is returned and not stored.

        Options that are not given are those of the pair's newest `run` of that program, if there was one. Without them,
        the bundled pair is shown the question as its world writes one, others in the templates for questions of a file.

        Args:
            text: the question.
            program: as in `run`.
            store: where calibrations are, if no `tau` is given; None: the pair's own.
            **options: as in `run`, but for those that choose problems.

        Raises:
            RRTIError: see `run`.

        Example:
            >>> pair.generate("how many has ann ?", tau=0.5).text
        """
        prepared, _ = self._question(text, program, store, options)
        sink = MemorySink()
        record = await execute(self._portal.opened, sink, prepared)
        [trace] = sink.traces[record.run_id].values()
        return Sample(record, prepared.problems[0], trace)

    run, arun = twins(_run)
    run_seeds, arun_seeds = twins(_run_seeds)
    diagnose, adiagnose = twins(_diagnose)
    calibrate, acalibrate = twins(_calibrate)
    score, ascore = twins(_score)
    counterfactual, acounterfactual = twins(_counterfactual)
    generate, agenerate = twins(_generate)

    def stream(
        self, text: str, program: str = "guided", *, store: TraceStore | None = None, **options: Any
    ) -> Iterator[Event]:
        """Answer one question and yield what is settled as it is: `TokensAccepted`, `Takeover`, `TextSettled`, `Finished`.

        Args:
            text, program, store, **options: as in `generate`; `draft_tokens` is the size of a step.

        Raises:
            RRTIError: see `run`.

        Example:
            >>> for event in pair.stream("how many has ann ?", tau=0.5):
            ...     if isinstance(event, rr.TextSettled):
            ...         print(event.text, end="")
        """
        return iterated(self._portal, self._events(text, program, store, options))

    def astream(
        self, text: str, program: str = "guided", *, store: TraceStore | None = None, **options: Any
    ) -> AsyncIterator[Event]:
        """`stream`, with `async for`."""
        return aiterated(self._portal, self._events(text, program, store, options))

    async def _events(
        self, text: str, program: str, store: TraceStore | None, options: dict[str, Any]
    ) -> AsyncGenerator[Event, None]:
        prepared, settings = self._question(text, program, store, options)
        session, [job] = self._portal.opened, prepared.jobs
        written = GeneratedText(
            session.pair.vocabulary, job.base_prompt_ids, prepared.finisher.stops, session.pair.stop_token_ids
        )
        decoding = replace(prepared.options, draft_tokens=settings.draft_tokens)
        async with aclosing(session.stream(job, prepared.gate, decoding, written)) as events:
            async for event in events:
                yield event

    async def _execute(
        self,
        settings_of: Callable[..., RunSettings],
        options: Mapping[str, Any],
        store: TraceStore | None,
        on_progress: OnProgress | None,
        resume: str | None = None,
    ) -> Run:
        (settings, problem_set), kept = asked(settings_of, self._with_tokens(options)), store or self.store
        record = await run_program(
            self._portal.opened, kept.store, settings, resume=resume, problem_set=problem_set, on_progress=on_progress
        )
        return Run(kept, record)

    def _with_tokens(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"special_tokens": self._portal.opened.pair.special_tokens, **options}

    def _question(
        self, text: str, program: str, store: TraceStore | None, options: Mapping[str, Any]
    ) -> tuple[PreparedRun, RunSettings]:
        given, kept = question_options(options, self._newest.get(program, {})), store or self._store
        settings = settings_from(program, **self._with_tokens(given))
        return question_run(self._portal.opened.pair, None if kept is None else kept.store, settings, text), settings
