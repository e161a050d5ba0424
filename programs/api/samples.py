"""From a request to samples of the session: their jobs, how they are decoded, and what is settled of them in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Self

from rrti_sgl.db.store import Store
from rrti_sgl.decoding.events import Finished, TextSettled
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import problem_id
from rrti_sgl.programs.api.admission import Admission, Limits
from rrti_sgl.programs.api.fields import ChatRequest, CompletionRequest, Request
from rrti_sgl.programs.api.metrics import Metrics, Watch
from rrti_sgl.programs.api.naming import Model, Models
from rrti_sgl.programs.api.prompts import Prompts, Shown
from rrti_sgl.programs.api.refusals import RefusedError, of_field
from rrti_sgl.programs.running.preparing import decode_options
from rrti_sgl.programs.running.recording import Recorder, Sample
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import ProblemRecord, RunRecord
from rrti_sgl.science.gates import AlwaysGate
from rrti_sgl.sinks.sink import Sink
from rrti_sgl.tokens.generated_text import GeneratedText

PROBLEM_SET = "api"
COMPLETION_TOKENS = 16  # OpenAI's, where a completion does not say
_LOGPROBS = 500_000  # in one answer; a second or two of work


@dataclass(frozen=True)
class Piece:
    """What is settled of a choice: further text, and the tokens `start .. end` of its trace that it belongs to.

    `finish` says how the choice ended: stop or length; with it comes `trace_id`, where the trace is stored.
    """

    index: int
    text: str
    trace: TraceBuilder
    start: int
    end: int
    finish: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class Order:
    """A request, read: its model, its prompts, and how each of them is decoded.

    Choice `i` is sample `i % n` of prompt `i // n`.
    """

    request: Request
    model: Model
    shown: Sequence[Shown]
    settings: RunSettings
    stored: bool

    @property
    def choices(self) -> int:
        """How many there are in all."""
        return len(self.shown) * self.request.n

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts, as the model reads them that writes."""
        return sum(len(self.prompt_ids(shown)) for shown in self.shown)

    def prompt_ids(self, shown: Shown) -> Sequence[int]:
        """The prompt of the model that writes: the base model, but where it is never asked."""
        return (shown.reasoning if isinstance(self.model.chosen.gate, AlwaysGate) else shown.base)[1]


class Endpoint:
    """Everything that answers stand on. Lives in the event loop of its session; an async context manager.

    Args:
        session: on the pair.
        settings: of every request, where it says nothing else; their program is of no account.
        limits: of what is taken.
        store: where calibrations are.
        sink: takes the traces; None keeps none.
    """

    def __init__(
        self,
        session: PairSession,
        settings: RunSettings,
        *,
        limits: Limits | None = None,
        store: Store | None = None,
        sink: Sink | None = None,
    ) -> None:
        pair, self.limits = session.pair, limits or Limits()
        self.session, self.pair = session, pair
        self.prompts = Prompts(pair, settings)
        suited = self.prompts.problem_set()
        self.settings = settings.resolved(suited, pair.vocab_size)
        self.models = Models(pair, self.settings, store)
        self.admission = Admission(session.concurrency.samples, self.limits)
        most = self.limits.unstored + session.concurrency.samples
        self.recorder = Recorder(pair, replace(suited, name=PROBLEM_SET), sink, _of_requests, most)
        self.metrics = Metrics(self.admission, self.recorder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prompts")

    async def __aenter__(self) -> Self:
        await self.recorder.__aenter__()
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self.recorder.__aexit__()

    async def order(self, request: CompletionRequest | ChatRequest) -> Order:
        """What a request asks for, checked.

        Raises:
            RefusedError: a field, a model or a length that cannot be.
            UsageError: a gate without a threshold, or a template that there is not.
        """
        model = self.models.find(request.model, request.rrti)
        own = request.rrti.sample
        stored = self.recorder.keeps and own is None if request.rrti.trace is None else request.rrti.trace
        if stored and not self.recorder.keeps:
            raise of_field("rrti.trace", "the endpoint has no store.")
        wanted = request.top_logprobs_wanted
        if wanted is not None and wanted > model.settings.k:
            name = "logprobs" if isinstance(request, CompletionRequest) else "top_logprobs"
            raise RefusedError(f"{name}: {wanted} is more than is known. Use at most {model.settings.k}.", param=name)
        of_request = contextvars.copy_context()  # how its messages are spelled
        shown = await asyncio.get_running_loop().run_in_executor(self._thread, of_request.run, self._shown, request)
        settings = replace(
            model.settings,
            temperature=self.settings.temperature if request.temperature is None else request.temperature,
            top_p=self.settings.top_p if request.top_p is None else request.top_p,
            max_new_tokens=self._limit(request, shown),
            seed=self.settings.seed if request.seed is None else request.seed,
        )
        order = Order(request, model, shown, settings, stored)
        if wanted is not None and order.choices * (settings.max_new_tokens or 0) * (wanted + 1) > _LOGPROBS:
            message = f"more than {_LOGPROBS} would be in the answer. Ask for fewer choices, tokens or alternatives."
            raise of_field("logprobs", message)
        await self.session.check(self._decoding(order))
        return order

    def _shown(self, request: CompletionRequest | ChatRequest) -> list[Shown]:
        if isinstance(request, ChatRequest):
            return [self.prompts.chat(request.messages, request.chat_template_kwargs.enable_thinking)]
        if request.rrti.sample is not None:
            return [self.prompts.sample(request.prompt[0], request.rrti.sample)]
        return [self.prompts.completion(prompt) for prompt in request.prompt]

    def _limit(self, request: CompletionRequest | ChatRequest, shown: Sequence[Shown]) -> int:
        """Most tokens of each answer; what the client does not say is what there is room for."""
        limit = request.limit or (COMPLETION_TOKENS if isinstance(request, CompletionRequest) else 0)
        try:
            if limit:
                for one in shown:
                    self.pair.check_lengths(one.base[1], one.reasoning[1], limit)
                return limit
            [one] = shown
            self.pair.check_lengths(one.base[1], one.reasoning[1], 1)
        except UsageError as error:
            name = "messages" if isinstance(request, ChatRequest) else "prompt"
            raise RefusedError(str(error), param=name, code="context_length_exceeded") from error
        sides = ((one.base[1], self.pair.base.info), (one.reasoning[1], self.pair.reasoning.info))
        room = min(info.max_input_tokens - len(ids) for ids, info in sides)
        assert self.settings.max_new_tokens is not None  # resolved
        return min(self.settings.max_new_tokens, room)

    def _decoding(self, order: Order) -> DecodeOptions:
        request = order.request
        interrupted = request.stream or any(self._stops(order, shown) for shown in order.shown)
        # Who asks for a sample of its own says how it is drafted.
        in_pieces = interrupted or request.rrti.sample is not None
        return decode_options(self.pair, order.settings, order.model.chosen, in_pieces=in_pieces)

    @staticmethod
    def _stops(order: Order, shown: Shown) -> tuple[str, ...]:
        by_template = shown.stops[isinstance(order.model.chosen.gate, AlwaysGate)]
        return (*order.request.stop, *by_template)

    async def pieces(self, order: Order) -> AsyncGenerator[Piece, None]:
        """What is settled of all choices, in the order in which it is. Closing the generator ends the work.

        Raises:
            RefusedError: there is no place for so many samples.
            EndpointError: a model server failed.
        """
        with contextlib.ExitStack() as places:
            places.enter_context(self.admission.places(order.choices))
            if order.stored and not self.recorder.has_room(order.choices):
                self.metrics.refused.labels("store").inc()
                raise self.admission.full("The store is behind.", 1.0)
            choices = [self._choice(order, index, places) for index in range(order.choices)]
            async with aclosing(_merged(choices)) as merged:
                async for piece in merged:
                    yield piece

    def _choice(self, order: Order, index: int, places: contextlib.ExitStack) -> AsyncGenerator[Piece, None]:
        prompt, sample_index = divmod(index, order.request.n)
        shown = order.shown[prompt]
        place = None
        if order.stored:
            stops = self._stops(order, shown)
            place = places.enter_context(
                self.recorder.sample(order.settings, order.model.chosen, shown.question, name=order.model.name, stops=stops)
            )
        own = order.request.rrti.sample
        named = problem_id(shown.question) if own is None else own.problem_id
        problem = place.problem if place else ProblemRecord(named, PROBLEM_SET, shown.question, None)
        # The same seed is to give the same draws: so a choice counts, not how often the prompt was asked for before.
        drawn = sample_index if order.request.seed is not None or place is None else place.index
        drawn = drawn if own is None else own.sample_index
        job = SampleJob("", problem, drawn, order.settings.seed, *shown.base, *shown.reasoning)
        return self._decoded(order, index, shown, job, place)

    async def _decoded(
        self, order: Order, index: int, shown: Shown, job: SampleJob, place: Sample | None
    ) -> AsyncGenerator[Piece, None]:
        stops, seen = self._stops(order, shown), 0
        text = GeneratedText(self.pair.vocabulary, order.prompt_ids(shown), stops, self.pair.stop_token_ids)
        gate, decoding = order.model.chosen.gate, self._decoding(order)
        streamed = order.request.stream or bool(stops)
        watch = Watch(self.metrics, order.model.settings.program, len(order.prompt_ids(shown)))
        async with aclosing(self.session.stream(job, gate, decoding, text, streamed=streamed)) as events:
            async for event in events:
                if isinstance(event, TextSettled):
                    watch.tokens(len(event.trace) - seen)
                    yield Piece(index, event.text, event.trace, seen, len(event.trace))
                    seen = len(event.trace)
                elif isinstance(event, Finished):
                    trace = event.trace
                    watch.finished(trace)
                    kept = None if place is None else self.recorder.keep(place, job, trace)
                    yield Piece(index, "", trace, seen, len(trace), trace.finish_reason, kept)


def _of_requests(record: RunRecord, model: str) -> RunRecord:
    return replace(record, config={**record.config, "kind": "api", "model": model})


async def _merged(choices: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[Piece, None]:
    """The pieces of several choices as they come; the first error ends all of them."""
    waiting: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue(maxsize=len(choices))

    async def pump(choice: AsyncGenerator[Piece, None]) -> None:
        async with aclosing(choice):
            try:
                async for piece in choice:
                    await waiting.put(piece)
            except Exception as error:
                await waiting.put(error)
            else:
                await waiting.put(None)

    tasks = [asyncio.create_task(pump(choice)) for choice in choices]
    try:
        left = len(tasks)
        while left:
            item = await waiting.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def now() -> int:
    """OpenAI's `created`: seconds since 1970."""
    return int(time.time())
