"""What a backend keeps open: a session on the pair, the gate, and where traces go. Lives in one event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.events import Finished, TextSettled
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.programs.frontend import selection
from rrti_sgl.programs.frontend.options import GenOptions
from rrti_sgl.programs.frontend.prefixes import Prefixes, Prompt
from rrti_sgl.programs.frontend.recording import Recorder
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.gating import ChosenGate, choose_gate
from rrti_sgl.programs.running.preparing import new_run_id
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.records import RunStatus
from rrti_sgl.science.gates import AlwaysGate, Gate, NeverGate
from rrti_sgl.tokens.generated_text import GeneratedText


@dataclass(frozen=True, slots=True)
class FrontendOptions:
    """How a backend decodes; see `InterventionBackend`."""

    gate: Gate | str
    gate_options: GateOptions
    calibration_id: str | None
    k: int
    draft_tokens: int
    seed: int
    reasoning_prefix: str

    def to_dict(self) -> dict[str, Any]:
        """What is stored with the runs of this backend."""
        return {
            "gate": self.gate if isinstance(self.gate, str) else self.gate.name,
            "gate_options": asdict(self.gate_options) if isinstance(self.gate, str) else self.gate.params(),
            "draft_tokens": self.draft_tokens,
            "reasoning_prefix": self.reasoning_prefix,
        }


@dataclass(slots=True)
class Decoded:
    """A finished `gen`: its sample, trace and text."""

    job: SampleJob
    trace: TraceBuilder
    text: GeneratedText

    @property
    def meta_info(self) -> dict[str, Any]:
        """What `state.get_meta_info` gives: SGLang's names, and where the sample is in the store.

        `prompt_tokens` and `cached_tokens` are of the base model's first call, so a prompt that was in its radix cache has
        `cached_tokens = prompt_tokens - 1`; `reasoning_*` are the same of the reasoning model, whose first call holds the
        first draft after the prompt. Absent where a model was not asked.
        """
        trace, matched = self.trace, self.text.matched
        finish: dict[str, Any] = {"type": trace.finish_reason}
        if trace.finish_reason == "stop":
            finish["matched"] = trace.token_ids[-1] if matched is None else matched
        else:
            finish["length"] = len(trace)
        info: dict[str, Any] = {
            "id": self.job.sample_id,
            "run_id": self.job.run_id,
            "sample_id": self.job.sample_id,
            "problem_id": self.job.problem.problem_id,
            "sample_index": self.job.sample_index,
            "finish_reason": finish,
            "completion_tokens": len(trace),
            "takeovers": trace.sources.count("reasoning"),
        }
        for calls, prefix in ((trace.base_calls, ""), (trace.reasoning_calls, "reasoning_")):
            if calls.first is not None:
                info[f"{prefix}prompt_tokens"], info[f"{prefix}cached_tokens"] = calls.first
        return info


@dataclass
class FrontendSession:
    """Everything that a `gen` or a `select` needs. Its coroutines run in its own event loop."""

    options: FrontendOptions
    session: PairSession
    chosen: ChosenGate
    prefixes: Prefixes
    recorder: Recorder
    status: tuple[RunStatus, str | None] = ("finished", None)

    @property
    def pair(self) -> Pair:
        """The connected models."""
        return self.session.pair

    def ids_of(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """What the base and the reasoning model are shown."""
        before = self.pair.vocabulary.encode(self.options.reasoning_prefix) if self.options.reasoning_prefix else []
        opening = self.prefixes.opening_ids
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
        gate, (base_ids, reasoning_ids) = self.chosen.gate, self.ids_of(prompt)
        self.pair.check_lengths(base_ids, reasoning_ids, options.max_new_tokens)
        end_ids = options.stop_token_ids | (frozenset() if options.ignore_eos else self.pair.stop_token_ids)
        # Where nothing can interrupt a draft, one call is enough.
        whole = isinstance(gate, AlwaysGate | NeverGate) and not options.stop_strings and not streamed
        decoding = DecodeOptions(
            k=self.recorder.k,
            max_new_tokens=options.max_new_tokens,
            sampling=options.sampling,
            stop_token_ids=end_ids,
            draft_tokens=options.max_new_tokens if whole else self.options.draft_tokens,
            takeover_tokens=self.chosen.takeover_tokens,
        )
        await self.session.check(decoding)
        if forked is not None:
            await self.prefill(forked)
        shown = (prompt.text, base_ids), (self.options.reasoning_prefix + prompt.text, reasoning_ids)
        job = await self.recorder.job(*shown, options)
        text = GeneratedText(
            self.pair.vocabulary, base_ids, options.stop_strings, end_ids, skip_special=options.skip_special
        )
        async with contextlib.aclosing(self.session.stream(job, gate, decoding, text)) as events:
            async for event in events:
                if isinstance(event, TextSettled):
                    yield event.text
                elif isinstance(event, Finished):
                    await self.recorder.keep(job, event.trace)
                    yield Decoded(job, event.trace, text)

    async def select(self, prompt: Prompt, known: Prompt, choices: list[str], method: Any) -> tuple[Any, Prompt]:
        """Choose by the base model. Returns SGLang's decision, and the text with it."""
        opening = self.prefixes.opening_ids
        after = prompt.text[len(known.text) :]
        read = selection.read_choices(
            Prompt(prompt.text, (*opening, *prompt.ids)),
            Prompt(known.text, (*opening, *known.ids)),
            [self.prefixes.encode_after(known, after + choice) for choice in choices],
            choices,
        )
        for choice in read:
            self.pair.check_lengths(choice.ids, choice.ids, 0)
        scores = await selection.score(read, self.session)
        wants_more = bool(method.requires_unconditional_logprobs)
        unconditional = await selection.score_unconditionally(read, self.session) if wants_more else None
        decision = selection.decide(method, read, scores, unconditional)
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
        if self.recorder.sink is not None:
            await self.recorder.sink.flush()


@contextlib.asynccontextmanager
async def open_frontend(
    connecting: AbstractAsyncContextManager[PairSession], store: Store | Path | None, options: FrontendOptions
) -> AsyncIterator[FrontendSession]:
    """Connect, open the store and build the gate; on leaving, write what is left and end the runs.

    Args:
        connecting: gives the session on the pair.
        store: where traces go, open or its path; None keeps none.
        options: how to decode.

    Raises:
        RRTIError: servers, pair, gate or store do not allow it.
    """
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(connecting)
        pair = session.pair
        k = options.k or pair.vocab_size
        check_k(k, pair.vocab_size)
        if isinstance(store, Path):
            store = stack.enter_context(Store.open(store))
        if isinstance(options.gate, Gate):
            chosen = ChosenGate(options.gate)
        else:
            own = ":" in options.gate
            asked = replace(options.gate_options, gate=options.gate) if own else options.gate_options
            program = "guided" if own else options.gate
            chosen = choose_gate(pair, program, asked, k=k, store=store, calibration_id=options.calibration_id)
        sink = None if store is None else await stack.enter_async_context(DuckDBSink(store))
        config = options.to_dict() | {"session": new_run_id("session"), "k": k}
        recorder = Recorder(pair, chosen, k=k, seed=options.seed, config=config, sink=sink)
        frontend = FrontendSession(options, session, chosen, Prefixes(pair.vocabulary), recorder)
        try:
            yield frontend
        finally:
            await recorder.end(*frontend.status)
