"""What a backend keeps open: the connected pair, its batched servers, the gate and the store. Lives in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rrti_sgl.db.store import Store
from rrti_sgl.db.writer import TraceWriter
from rrti_sgl.decoding.engine import Concurrency
from rrti_sgl.decoding.job import DecodeOptions, Role
from rrti_sgl.engines.endpoint import Batcher, TransportLimits
from rrti_sgl.engines.pair import Pair, check_k, connect
from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import EndpointError, StoreError
from rrti_sgl.programs.frontend import selection
from rrti_sgl.programs.frontend.generation import Decoded, OnText, generate
from rrti_sgl.programs.frontend.options import GenOptions
from rrti_sgl.programs.frontend.prefixes import Prefixes, Prompt
from rrti_sgl.programs.frontend.recording import Recorder, new_session
from rrti_sgl.programs.program import GateContext, GateOptions
from rrti_sgl.programs.registry import find_program
from rrti_sgl.programs.stored.calibrate import newest_calibration
from rrti_sgl.records import CalibrationRecord, RunStatus
from rrti_sgl.science.calibration import check_compatible
from rrti_sgl.science.gates import AlwaysGate, Gate, NeverGate, load_gate
from rrti_sgl.tokens.generated_text import GeneratedText

_REMEMBERED_PREFILLS = 256


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a backend works; see `InterventionBackend`."""

    base_url: str
    reasoning_url: str
    gate: Gate | str
    gate_options: GateOptions
    calibration_id: str | None
    store: Store | Path | None
    k: int
    draft_tokens: int
    seed: int
    reasoning_prefix: str
    concurrency: Concurrency
    tokenizer: str | None
    api_key: str | None
    limits: TransportLimits | None

    def to_dict(self) -> dict[str, Any]:
        """What is stored with the runs of this backend."""
        return {
            "gate": self.gate if isinstance(self.gate, str) else self.gate.name,
            "gate_options": asdict(self.gate_options) if isinstance(self.gate, str) else self.gate.params(),
            "draft_tokens": self.draft_tokens,
            "reasoning_prefix": self.reasoning_prefix,
        }


@dataclass
class Session:
    """Everything that a `gen` or a `select` needs. Its coroutines run in its own event loop."""

    options: SessionOptions
    pair: Pair
    gate: Gate
    takeover_tokens: int
    prefixes: Prefixes
    recorder: Recorder
    drafting: Mapping[Role, Batcher]
    whole: Mapping[Role, Batcher]
    slots: asyncio.Semaphore
    status: tuple[RunStatus, str | None] = ("finished", None)
    _raw_logprobs: asyncio.Task[None] | None = None
    _prefills: OrderedDict[tuple[int, ...], asyncio.Task[None]] = field(default_factory=OrderedDict)

    def ids_of(self, prompt: Prompt) -> tuple[list[int], list[int]]:
        """What the base and the reasoning model are shown."""
        before = self.pair.vocabulary.encode(self.options.reasoning_prefix) if self.options.reasoning_prefix else []
        opening = self.prefixes.opening_ids
        return [*opening, *prompt.ids], [*opening, *before, *prompt.ids]

    async def generate(
        self, prompt: Prompt, forked: Prompt | None, options: GenOptions, on_text: OnText | None = None
    ) -> Decoded:
        """Decode and record one sample; `forked` is the part of the prompt that it shares with others of its fork."""
        base_ids, reasoning_ids = self.ids_of(prompt)
        self.pair.check_lengths(base_ids, reasoning_ids, options.max_new_tokens)
        if not options.sampling.greedy:
            await self._check_raw_logprobs()
        end_ids = options.stop_token_ids | (frozenset() if options.ignore_eos else self.pair.stop_token_ids)
        # Where nothing can interrupt a draft, one call is enough.
        uninterrupted = isinstance(self.gate, AlwaysGate | NeverGate)
        whole = uninterrupted and not options.stop_strings and on_text is None
        if forked is not None:
            await self.prefill(forked)
        async with self.slots:
            job = await self.recorder.job(
                (prompt.text, base_ids), (self.options.reasoning_prefix + prompt.text, reasoning_ids), options
            )
            decoded = await generate(
                job,
                self.gate,
                DecodeOptions(
                    k=self.recorder.k,
                    max_new_tokens=options.max_new_tokens,
                    sampling=options.sampling,
                    stop_token_ids=end_ids,
                    draft_tokens=options.max_new_tokens if whole else self.options.draft_tokens,
                    takeover_tokens=self.takeover_tokens,
                ),
                GeneratedText(
                    self.pair.vocabulary, base_ids, options.stop_strings, end_ids, skip_special=options.skip_special
                ),
                self.whole if whole else self.drafting,
                on_text,
            )
            await self.recorder.keep(job, decoded.trace)
        return decoded

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
        base = self.drafting["base"]
        scores = await selection.score(read, base)
        wants_more = bool(method.requires_unconditional_logprobs)
        unconditional = await selection.score_unconditionally(read, base) if wants_more else None
        decision = selection.decide(method, read, scores, unconditional)
        chosen = read[choices.index(decision.decision)]
        return decision, Prompt(prompt.text + chosen.text, chosen.ids[len(opening) :])

    async def prefill(self, prompt: Prompt) -> None:
        """Put a prompt into the radix caches of the models that will be asked; once, however many ask for it."""
        if not prompt.ids:
            return
        if prompt.ids not in self._prefills:
            self._prefills[prompt.ids] = asyncio.create_task(self._prefill(prompt))
            while len(self._prefills) > _REMEMBERED_PREFILLS:
                self._prefills.popitem(last=False)
        try:
            await asyncio.shield(self._prefills[prompt.ids])
        except EndpointError:
            self._prefills.pop(prompt.ids, None)
            raise

    async def _prefill(self, prompt: Prompt) -> None:
        base_ids, reasoning_ids = self.ids_of(prompt)
        self.pair.check_lengths(base_ids, reasoning_ids, 0)
        roles: list[tuple[Role, list[int]]] = [("base", base_ids), ("reasoning", reasoning_ids)]
        if isinstance(self.gate, AlwaysGate):
            roles = roles[1:]
        elif isinstance(self.gate, NeverGate) and not self.gate.needs_reasoning:
            roles = roles[:1]
        await asyncio.gather(*(self.drafting[role].generate(GenerateRequest(ids, 0, k=0)) for role, ids in roles))

    async def flush_cache(self) -> None:
        """Empty both servers' radix caches."""
        self._prefills.clear()
        await asyncio.gather(self.pair.base.flush_cache(), self.pair.reasoning.flush_cache())

    async def flush(self) -> None:
        """Make the finished samples durable."""
        if self.recorder.writer is not None:
            await self.recorder.writer.flush()

    async def _check_raw_logprobs(self) -> None:
        """Once, before the first draw at a temperature: scores would be wrong if the server scaled log-probabilities."""
        if self._raw_logprobs is None:
            self._raw_logprobs = asyncio.create_task(self._raw_or_refuse())
        try:
            await asyncio.shield(self._raw_logprobs)
        except EndpointError:
            self._raw_logprobs = None
            raise

    async def _raw_or_refuse(self) -> None:
        for endpoint in (self.pair.base, self.pair.reasoning):
            if not await endpoint.returns_original_logprobs(token_id=0):
                raise EndpointError(
                    f"{endpoint.url} returns log-probabilities after temperature scaling; scores would be wrong.",
                    "Restart it with SGLANG_RETURN_ORIGINAL_LOGPROB=1 in its environment (`rrti serve` sets it), or "
                    "generate with temperature=0.",
                )


@contextlib.asynccontextmanager
async def open_session(options: SessionOptions) -> AsyncIterator[Session]:
    """Connect, open the store and build the gate; on leaving, write what is left and end the runs.

    Raises:
        RRTIError: servers, pair, gate or store do not allow it.
    """
    async with contextlib.AsyncExitStack() as stack:
        pair = await stack.enter_async_context(
            connect(
                options.base_url,
                options.reasoning_url,
                sampled=False,
                tokenizer=options.tokenizer,
                api_key=options.api_key,
                limits=options.limits,
                # One text is shown to both models here: its special tokens are what is written, for either of them.
                special_tokens="as-is",
            )
        )
        k = options.k or pair.vocab_size
        check_k(k, pair.vocab_size)
        store = options.store
        if isinstance(store, Path):
            store = stack.enter_context(Store.open(store))
        gate, calibration, takeover_tokens = _gate(options, pair, store, k)
        batches = options.concurrency

        async def batcher(role: Role, *, max_batch: int, max_calls: int) -> Batcher:
            endpoint = pair.base if role == "base" else pair.reasoning
            return await stack.enter_async_context(Batcher(endpoint, max_batch=max_batch, max_calls=max_calls))

        roles: tuple[Role, Role] = ("base", "reasoning")
        recorder = Recorder(
            pair,
            gate,
            k=k,
            seed=options.seed,
            config=options.to_dict() | {"session": new_session(), "k": k},
            calibration_id=calibration.calibration_id if calibration else None,
            writer=None if store is None else TraceWriter(store),
            store=store,
        )
        session = Session(
            options,
            pair,
            gate,
            takeover_tokens,
            Prefixes(pair.vocabulary),
            recorder,
            drafting={role: await batcher(role, max_batch=batches.batch, max_calls=1) for role in roles},
            # Whole solutions go out one by one: the server's own continuous batching fills the gaps as they finish.
            whole={role: await batcher(role, max_batch=1, max_calls=batches.samples) for role in roles},
            slots=asyncio.Semaphore(batches.samples),
        )
        try:
            yield session
        finally:
            if recorder.writer is not None:
                with contextlib.suppress(StoreError):  # `finish` tries again, and raises if that fails too
                    await recorder.writer.close()
            recorder.finish(*session.status)


def _gate(options: SessionOptions, pair: Pair, store: Store | None, k: int) -> tuple[Gate, CalibrationRecord | None, int]:
    """The gate, the calibration that it has its threshold from, and the tokens of a takeover."""
    if isinstance(options.gate, Gate):
        return options.gate, None, 1
    gate_options = options.gate_options
    if ":" in options.gate:
        return load_gate(options.gate, gate_options.gate_params), None, 1
    program = find_program(options.gate)
    metric = program.calibrated_on(gate_options)
    calibration = None
    if metric is not None and store is not None:
        if options.calibration_id is not None:
            calibration = store.get_calibration(options.calibration_id)
        elif gate_options.tau is None or gate_options.use_lambda:
            calibration = newest_calibration(store, pair, metric, k, pair.score_kind(k), gate_options.spike_ratio)
    if calibration is not None and metric is not None:
        check_compatible(
            calibration,
            metric=metric,
            score_kind=pair.score_kind(k),
            k=k,
            base_model=pair.base_info.model,
            reasoning_model=pair.reasoning_info.model,
            tokenizer_hash=pair.vocabulary.digest,
        )
    context = GateContext(calibration, None, pair.vocabulary)
    return program.make_gate(gate_options, context), calibration, program.takeover_tokens(gate_options)
