"""What a backend keeps open: a session on the pair, the gate, and where traces go. Lives in one event loop.

A backend leaves runs of the program "frontend" in the store, a problem for each prompt and a sample for each `gen`. A run
has one temperature, one top-p and one length limit; all runs of a backend carry the same `session` in their configuration.
A sample's text and tokens are what was decoded: a stop string is in them, what was drafted beyond the token that completes
it is not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.events import Finished, TextSettled
from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.grading import Grade
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.frontend import selection
from rrti_sgl.programs.frontend.options import GenOptions
from rrti_sgl.programs.frontend.prefixes import Prefixes, Prompt
from rrti_sgl.programs.running.gating import ChosenGate, choose_gate
from rrti_sgl.programs.running.preparing import decode_options, new_run_id
from rrti_sgl.programs.running.recording import Recorder
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import ProblemRecord, RunRecord
from rrti_sgl.science.gates import Gate
from rrti_sgl.sinks.sink import Sink
from rrti_sgl.tokens.generated_text import GeneratedText

NAME = "frontend"
_DECISIVE = ("k", "seed", "draft_tokens", "temperature", "top_p", "max_new_tokens")


class Ungraded:
    """The grader of prompts that have no answer."""

    name = "ungraded"

    def grade(self, problem: ProblemRecord, text: str) -> Grade:
        """No answer is looked for."""
        return Grade(None, None)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished `gen`: the program's text with it, and what `state.get_meta_info` gives."""

    after: Prompt
    meta_info: dict[str, Any]


@dataclass
class FrontendSession:
    """Everything that a `gen` or a `select` needs. Its coroutines run in its own event loop."""

    session: PairSession
    settings: RunSettings
    chosen: ChosenGate
    reasoning_prefix: str
    prefixes: Prefixes
    recorder: Recorder
    sink: Sink | None
    run_ids: dict[str, None] = field(default_factory=dict)  # an ordered set

    @property
    def pair(self) -> Pair:
        """The connected models."""
        return self.session.pair

    def ids_of(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """What the base and the reasoning model are shown."""
        before = self.pair.vocabulary.encode(self.reasoning_prefix) if self.reasoning_prefix else []
        opening = self.pair.vocabulary.opening_ids
        return [*opening, *prompt.ids], [*opening, *before, *prompt.ids]

    async def generate(
        self, prompt: Prompt, forked: Prompt | None, options: GenOptions, *, streamed: bool
    ) -> AsyncGenerator[str | Decoded, None]:
        """Decode and record one sample: its text as it is settled, then all of it.

        Args:
            prompt: what it goes on from.
            forked: the part of the prompt that it shares with others of its fork.
            options: how to generate.
            streamed: whether somebody waits for pieces of the text.
        """
        base_ids, reasoning_ids = self.ids_of(prompt)
        settings, stops = options.settings, options.stop_strings
        assert settings.max_new_tokens is not None
        self.pair.check_lengths(base_ids, reasoning_ids, settings.max_new_tokens)
        end_ids = options.stop_token_ids | (frozenset() if options.ignore_eos else self.pair.stop_token_ids)
        streamed = streamed or bool(stops)  # which are found in pieces
        decoding = replace(decode_options(self.pair, settings, self.chosen, in_pieces=streamed), stop_token_ids=end_ids)
        if forked is not None:
            await self.prefill(forked)
        text = GeneratedText(self.pair.vocabulary, base_ids, stops, end_ids, skip_special=options.skip_special)
        with self.recorder.sample(settings, self.chosen, prompt.text) as place:
            shown = prompt.text, base_ids, self.reasoning_prefix + prompt.text, reasoning_ids
            job = SampleJob(place.run_id, place.problem, place.index, settings.seed, *shown)
            stream = self.session.stream(job, self.chosen.gate, decoding, text, streamed=streamed)
            async with contextlib.aclosing(stream) as events:
                async for event in events:
                    if isinstance(event, TextSettled):
                        yield event.text
                    elif isinstance(event, Finished):
                        self.run_ids[place.run_id] = None
                        self.recorder.keep(place, job, event.trace)
                        await self.recorder.settled()  # a program waits for the store, and is told where it failed
                        after = Prompt(prompt.text + text.text, (*prompt.ids, *text.kept_ids))
                        yield Decoded(after, _meta_info(job, event.trace, text.matched))

    async def select(self, prompt: Prompt, known: Prompt, choices: Sequence[str], method: Any) -> tuple[Any, Prompt]:
        """Choose by the base model. Returns SGLang's decision, and the text with it."""
        opening = self.pair.vocabulary.opening_ids
        after = prompt.text[len(known.text) :]
        read = selection.read_choices(
            (*opening, *prompt.ids),
            {choice: (*opening, *known.ids, *self.prefixes.encode_after(known, after + choice)) for choice in choices},
        )
        for choice in read:
            self.pair.check_lengths(choice.ids, choice.ids, 0)
        decision = await selection.decide(read, method, self.session)
        chosen = read[choices.index(decision.decision)]
        return decision, Prompt(prompt.text + chosen.text, chosen.ids[len(opening) :])

    async def prefill(self, prompt: Prompt) -> None:
        """Put a prompt into the radix caches of the models that will be asked."""
        if prompt.ids:
            base_ids, reasoning_ids = self.ids_of(prompt)
            self.pair.check_lengths(base_ids, reasoning_ids, 0)
            await self.session.prefill(base_ids, reasoning_ids, self.chosen.gate)

    async def flush(self) -> None:
        """Make the finished samples durable."""
        if self.sink is not None:
            await self.sink.flush()


def _meta_info(job: SampleJob, trace: TraceBuilder, matched: str | None) -> dict[str, Any]:
    """SGLang's names, and where the sample is in the store.

    `prompt_tokens` and `cached_tokens` are of the base model's first call, so a prompt that was in its radix cache has
    `cached_tokens = prompt_tokens - 1`; `reasoning_*` are the same of the reasoning model, whose first call holds the
    first draft after the prompt. Absent where a model was not asked.
    """
    finish: dict[str, Any] = {"type": trace.finish_reason}
    if trace.finish_reason == "stop":
        finish["matched"] = trace.token_ids[-1] if matched is None else matched
    else:
        finish["length"] = len(trace)
    info: dict[str, Any] = {
        "id": job.sample_id,
        "run_id": job.run_id,
        "sample_id": job.sample_id,
        "problem_id": job.problem.problem_id,
        "sample_index": job.sample_index,
        "finish_reason": finish,
        "completion_tokens": len(trace),
        "takeovers": trace.sources.count("reasoning"),
    }
    for calls, prefix in ((trace.base_calls, ""), (trace.reasoning_calls, "reasoning_")):
        if calls.first is not None:
            info[f"{prefix}prompt_tokens"], info[f"{prefix}cached_tokens"] = calls.first
    return info


def _of_programs(session: str, reasoning_prefix: str, record: RunRecord, _: str) -> RunRecord:
    """The record of a run that programs made; what no program asks for is not told."""
    config = {
        "kind": NAME,
        "session": session,
        "gate": record.gate,
        "gate_options": record.gate_params,
        "reasoning_prefix": reasoning_prefix,
        **{name: record.config[name] for name in _DECISIVE},
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return replace(record, run_id=new_run_id(NAME), program=NAME, config=config, config_hash=digest)


@contextlib.asynccontextmanager
async def open_frontend(
    connecting: AbstractAsyncContextManager[PairSession],
    settings: RunSettings,
    gate: Gate | None,
    reasoning_prefix: str,
    store: Store | Path | None,
) -> AsyncIterator[FrontendSession]:
    """Connect, open the store and build the gate; on leaving, write what is left and end the runs.

    Args:
        connecting: gives the session on the pair.
        settings: of every `gen`, beside what it asks for itself.
        gate: in place of the one that the settings name.
        reasoning_prefix: text that the reasoning model alone is shown first.
        store: where traces go, open or its path; None keeps none.

    Raises:
        RRTIError: servers, pair, gate or store do not allow it.
    """
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(connecting)
        pair = session.pair
        settings = replace(settings, k=settings.k or pair.vocab_size)
        check_k(settings.k, pair.vocab_size)
        if isinstance(store, Path):
            store = stack.enter_context(Store.open(store))
        if gate is not None:
            chosen = ChosenGate(gate)
        else:
            named = settings.calibration_id
            chosen = choose_gate(pair, settings.program, settings.gate, k=settings.k, store=store, calibration_id=named)
        sink = None if store is None else await stack.enter_async_context(DuckDBSink(store))
        described = partial(_of_programs, new_run_id("session"), reasoning_prefix)
        recorder = Recorder(pair, ProblemSet(NAME, [], Ungraded()), sink, described)
        await stack.enter_async_context(recorder)
        yield FrontendSession(session, settings, chosen, reasoning_prefix, Prefixes(pair.vocabulary), recorder, sink)
