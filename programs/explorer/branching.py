"""Branches: one token of a stored sample forced, and a pair of models that goes on from it.

A finished branch is a stored sample like any other, that of a counterfactual run of its own: it is graded, has its tokens,
names what it continues, and can be branched again. One that is not finished leaves nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, StrictBool

from rrti_sgl.db.store import Store
from rrti_sgl.decoding.events import Finished, TextSettled
from rrti_sgl.decoding.job import Prefix, SampleJob
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import PairMismatchError, RRTIError, Spelling, UsageError
from rrti_sgl.programs.explorer.asked import Asked, Count, Number, Text
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.samples import Payload
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.arms import choices
from rrti_sgl.programs.running.counterfactual import given_ids, prepare_continuation
from rrti_sgl.programs.running.preparing import PreparedRun
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import RunRecord, SampleTrace
from rrti_sgl.tokens.detokenizer import Detokenizer
from rrti_sgl.tokens.generated_text import GeneratedText

logger = logging.getLogger(__name__)

# Alone, the base model is watched by the other one, so that a branch has both models' candidates.
PROGRAMS = {"base": "diagnose", "reasoning": "reasoning", "guided": "guided"}


class BusyError(UsageError):
    """As many branches are decoded as may be."""


class BranchAsked(Asked):
    """A token to force, and who goes on. What is None is as in the run. `lambda`: its factor, on or off."""

    run: Text
    sample: Text
    position: Count
    token: Count
    program: Literal["base", "reasoning", "guided"]
    tau: Number | None = None
    lambda_: Annotated[StrictBool | Annotated[Number, Field(gt=0)] | None, Field(alias="lambda")] = None
    temperature: Annotated[float | None, Field(ge=0, le=10)] = None
    seed: Count | None = None
    max_new_tokens: Annotated[int | None, Field(ge=1, le=2**31 - 1)] = None


class BranchFields(Spelling):
    """Messages name fields of a request for a branch."""

    def argument(self, name: str, value: Any, text: str) -> str:
        """A field, with its value."""
        field = BranchAsked.model_fields.get("lambda_" if name == "use_lambda" else name)
        return f"{field.alias if field else name} {text if value is ... else value}".rstrip()

    def command(self, name: str, options: dict[str, Any]) -> str:
        """A command, whose options the page does not know."""
        return f"rrti {name}"


@dataclass(frozen=True)
class Branch:
    """A branch that can begin.

    Args:
        prepared: its run.
        job: its one sample.
        position: of the forced token in the sample that it continues.
    """

    prepared: PreparedRun
    job: SampleJob
    position: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """What both models were given before a sample's own tokens: ids, and the scores that the gate had seen there."""

    ids: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()


class Branches:
    """Branches of the samples of a store, decoded on a session. Belongs to the session's event loop.

    Args:
        explorer: of the store, which is open for writing.
        session: on the pair of its runs.
        trust: classes that its runs name and that may be imported (`RunSettings.from_dict`).
        most: branches at once.
    """

    def __init__(self, explorer: Explorer, session: PairSession, trust: Collection[str] = (), most: int = 8) -> None:
        self._explorer, self._session, self._trust, self._most = explorer, session, trust, most
        self.running = 0

    async def prepare(self, asked: BranchAsked) -> Branch:
        """Everything about a branch that can be wrong before its first token.

        Raises:
            BusyError: too many are decoded.
            MissingError: there is no such sample.
            RRTIError: what the run, the pair or the store do not allow.
        """
        self._check_room()
        branch = await asyncio.to_thread(self._prepared, asked)
        await self._session.check(branch.prepared.options)
        return branch

    async def events(self, branch: Branch) -> AsyncGenerator[Payload, None]:
        """A branch as it is decoded, at the end stored; closing the generator ends the work, and nothing is kept."""
        try:
            self._check_room()
            self.running += 1
        except BusyError as error:
            yield _failed(error)
            return
        try:
            async with aclosing(self._decoded(branch)) as decoded:
                async for event in decoded:
                    yield event
        except RRTIError as error:
            yield _failed(error)
        except Exception as error:
            logger.error("a branch failed", exc_info=error)
            yield _failed(
                RRTIError("The branch failed.", "What it was is in the terminal that the explorer was started in.")
            )
        finally:
            self.running -= 1

    def _check_room(self) -> None:
        if self.running >= self._most:
            raise BusyError(f"{self.running} branches are decoded already.", "Wait until one is done, or leave one.")

    async def _decoded(self, branch: Branch) -> AsyncGenerator[Payload, None]:
        job, prepared, pair = branch.job, branch.prepared, self._session.pair
        named = {"run": job.run_id, "sample": job.sample_id}
        yield {"event": "started", **named}
        text = GeneratedText(pair.vocabulary, job.base_ids(()), (), pair.stop_token_ids)
        pieces, seen = Detokenizer(pair.vocabulary.text_of), 0
        async with aclosing(self._session.stream(job, prepared.gate, prepared.options, text)) as events:
            async for event in events:
                if isinstance(event, TextSettled | Finished) and len(event.trace) > seen:
                    yield _tokens(event.trace, seen, pieces)
                    seen = len(event.trace)
                if isinstance(event, Finished):
                    finished = await asyncio.to_thread(self._stored, branch, event.trace)
                    sample = finished.sample
                    yield {
                        "event": "finished", **named, "answer": sample.answer, "correct": sample.correct,
                        "finish": sample.finish_reason, "tokens": sample.n_tokens, "takeovers": sample.n_takeovers,
                    }  # fmt: skip

    def _prepared(self, asked: BranchAsked) -> Branch:
        self._explorer.lists.row(asked.run, asked.sample)
        store, pair = self._explorer.store, self._session.pair
        trace, parent = store.load_sample(asked.sample), store.get_run(asked.run)
        _check_token(pair, parent, trace, asked)
        settings = RunSettings.from_dict(parent.config, self._trust)
        prepared = prepare_continuation(pair, store, trace.sample, _settings(settings, asked))
        config = {**prepared.record.config, "forced": asked.token}
        options = replace(prepared.options, draft_tokens=settings.draft_tokens)  # pieces to look at, not a whole solution
        prepared = replace(prepared, record=replace(prepared.record, config=config), options=options)
        given = beginning(store, trace)
        ids = (*given.ids, *(int(i) for i in trace.tokens.token_id[: asked.position]), asked.token)
        prefix = Prefix(
            token_ids=ids,
            text="".join(pair.vocabulary.pieces(ids)),
            scores=(*given.scores, *_scores(trace, asked.position + 1)),
            parent_sample_id=trace.sample.sample_id,
            arm=_arm(trace, settings, prepared, asked),
        )
        return Branch(prepared, replace(prepared.jobs[0], prefix=prefix), asked.position)

    def _stored(self, branch: Branch, trace: TraceBuilder) -> SampleTrace:
        """The finished sample, when it is in the store and the explorer knows it."""
        store, prepared = self._explorer.store, branch.prepared
        finished = prepared.finisher.finish(branch.job, trace)
        # Of a branch of a branch the given beginning is longer than what it has of its parent.
        finished = replace(finished, sample=replace(finished.sample, parent_position=branch.position))
        store.begin_run(prepared.record)
        store.add_problems(prepared.problems)
        store.write_samples([finished])
        store.finish_run(prepared.record.run_id, "finished")
        self._explorer.refresh(prepared.record.run_id)
        return finished


def beginning(store: Store, trace: SampleTrace) -> Beginning:
    """What the models were given before the own tokens of a stored sample.

    Raises:
        UsageError: the sample that it continues is not there, or it is not known which token it was given.
    """
    sample = trace.sample
    if sample.parent_sample_id is None or sample.parent_position is None:
        return Beginning()
    parent, place = store.load_sample(sample.parent_sample_id), sample.parent_position
    forced = store.get_run(sample.run_id).config.get("forced")
    if isinstance(forced, int):
        own = [*(int(i) for i in parent.tokens.token_id[:place]), forced]
    elif sample.arm is not None:
        own = given_ids(parent, place, sample.arm)
    else:
        raise UsageError(f"It is not known which token sample {sample.sample_id} was given.", "Branch the one it continues.")
    before = beginning(store, parent)
    return Beginning((*before.ids, *own), (*before.scores, *_scores(parent, place + 1)))


def _scores(trace: SampleTrace, end: int) -> tuple[float, ...]:
    return tuple(float(score) for score in trace.tokens.score[:end] if not np.isnan(score))


def _check_token(pair: Pair, parent: RunRecord, trace: SampleTrace, asked: BranchAsked) -> None:
    if parent.tokenizer_hash != pair.tokenizer_hash:
        raise PairMismatchError(
            f"Run {parent.run_id} is of another vocabulary than these models.",
            f"Name servers of {parent.base_model} and {parent.reasoning_model}.",
        )
    if asked.position >= trace.sample.n_tokens:
        raise UsageError(
            f"position = {asked.position} is outside the sample's {trace.sample.n_tokens} tokens.", "Choose one of them."
        )
    if asked.token >= pair.vocab_size:
        message = f"token = {asked.token} is outside the vocabulary of {pair.vocab_size} tokens."
        raise UsageError(message, "Choose a candidate.")


def _settings(settings: RunSettings, asked: BranchAsked) -> RunSettings:
    """The settings of a branch: those of the run, with what is asked for."""
    program = PROGRAMS[asked.program]
    gate, calibration = settings.gate, settings.calibration_id
    if program != settings.program:  # what belongs to another program's gate
        none = GateOptions()
        others = ("gate", "gate_params", "like", "rolling", "entropy_tau", "cooldown")
        gate, calibration = replace(gate, **{name: getattr(none, name) for name in others}), None
    if program == "guided" and asked.lambda_ is not None:
        factor = gate.lambda_ if isinstance(asked.lambda_, bool) else asked.lambda_
        gate = replace(gate, use_lambda=asked.lambda_ is not False, lambda_=factor)
    if program == "guided" and asked.tau is not None:
        gate = replace(gate, tau=asked.tau)
        calibration = None if gate.has_thresholds else calibration
    given = {
        name: value for name in ("temperature", "seed", "max_new_tokens") if (value := getattr(asked, name)) is not None
    }
    changes: dict[str, Any] = {"program": program, "gate": gate, "calibration_id": calibration, "samples": 1, **given}
    return replace(settings, **changes)


def _arm(
    trace: SampleTrace, settings: RunSettings, prepared: PreparedRun, asked: BranchAsked
) -> Literal["taken", "denied"] | None:
    """Which arm of an intervention a branch is: all but the token must be as in its sample."""
    alike = ("program", "temperature", "max_new_tokens")
    if any(prepared.record.config[name] != settings.to_dict()[name] for name in alike):
        return None
    if asked.tau is not None or asked.lambda_ is not None:
        return None
    try:
        reasoning, base = choices(trace, asked.position)
    except UsageError:  # one of the models was not asked there
        return None
    if reasoning == base:
        return None
    return {reasoning: "taken", base: "denied"}.get(asked.token)  # type: ignore[return-value]


def _tokens(trace: TraceBuilder, start: int, pieces: Detokenizer) -> Payload:
    ids = trace.token_ids[start:]
    return {
        "event": "tokens",
        "texts": [pieces.add(token_id) for token_id in ids],
        "ids": ids,
        "source": trace.sources[start:],
        "score": [decision.score for decision in trace.decisions[start:]],
        "fired": [decision.fired for decision in trace.decisions[start:]],
    }


def _failed(error: RRTIError) -> Payload:
    return {"event": "failed", "message": error.message, "remedy": error.remedy}
