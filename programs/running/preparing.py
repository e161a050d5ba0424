"""From settings to a run that can begin: resolved against the problem set and the pair, then built."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from rrti_sgl import __version__
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.errors import RRTIError, command, raise_all
from rrti_sgl.problems import ProblemSet, in_world
from rrti_sgl.programs.running.gating import ChosenGate, choose_gate
from rrti_sgl.programs.running.preconditions import (
    calibrated_on,
    check_disjoint,
    check_followed,
    check_gold,
    check_special_tokens,
    warn_of_special_tokens,
)
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import CalibrationRecord, ProblemRecord, RunRecord
from rrti_sgl.science.gates import AlwaysGate, Gate
from rrti_sgl.science.planning import LexicalTagger, PlanningTagger, load_tagger
from rrti_sgl.tinypair.bundle import BASE_NAME

T = TypeVar("T")


@dataclass(frozen=True)
class ResolvedRun:
    """Settings with everything filled in that was left to the problem set, the vocabulary or a calibration."""

    settings: RunSettings
    problem_set: ProblemSet
    chosen: ChosenGate
    tagger: PlanningTagger


@dataclass(frozen=True)
class PreparedRun:
    """A run with everything checked and built, before the first token and before anything is stored."""

    record: RunRecord
    problems: Sequence[ProblemRecord]
    gate: Gate
    jobs: list[SampleJob]
    options: DecodeOptions
    finisher: Finisher
    calibration: CalibrationRecord | None = None
    continue_with: str = ""  # what the user types to go on after an error

    def under(self, run_id: str) -> PreparedRun:
        """The same run under the id of a stored one, whose missing samples it then makes."""
        jobs = [replace(job, run_id=run_id) for job in self.jobs]
        return replace(self, record=replace(self.record, run_id=run_id), jobs=jobs)

    def resumed_by(self, name: str, store: Store) -> PreparedRun:
        """The same run with how its user goes on with it."""
        typed = command(name, resume=self.record.run_id, db=store.path)
        return replace(self, continue_with=f"{typed} (and the same models or addresses)")


def new_run_id(program: str) -> str:
    """A readable, unique id: program, UTC time to the second, four random hex digits."""
    return f"{program}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def prepare(
    pair: Pair,
    settings: RunSettings,
    store: Store | None,
    *,
    run_id: str | None = None,
    problem_set: ProblemSet | None = None,
) -> PreparedRun:
    """Resolve and build a run.

    Args:
        pair: connected models.
        settings: what to run.
        store: where calibrations are; None: the settings must hold the thresholds.
        run_id: of a run that is continued; None makes a new one.
        problem_set: in place of the one that the settings name.

    Raises:
        RRTIError: anything that the settings, the models or the store do not allow.
    """
    return build(pair, resolve(pair, settings, store, problem_set=problem_set), run_id or new_run_id(settings.program))


def resolve(
    pair: Pair,
    settings: RunSettings,
    store: Store | None,
    *,
    problem_ids: Collection[str] | None = None,
    problem_set: ProblemSet | None = None,
) -> ResolvedRun:
    """Load the problems, fill the settings in, and choose the gate.

    Args:
        pair: connected models.
        settings: what to run.
        store: where calibrations are.
        problem_ids: only these problems of the set, which then may be those of the calibration; None takes all.
        problem_set: in place of the one that the settings name.

    Raises:
        RRTIError: see `prepare`.
    """
    problem_set = problem_set or settings.load_problems()
    if problem_ids is not None:
        chosen_problems = [problem for problem in problem_set.problems if problem.problem_id in problem_ids]
        problem_set = replace(problem_set, problems=chosen_problems)
    problem_set = as_known(problem_set, settings, pair.base.info.model)
    settings = settings.resolved(problem_set, pair.vocab_size)
    pair = in_roles(pair, settings)
    wrong: list[RRTIError] = []

    def tried(check: Callable[[], T]) -> T | None:
        try:
            return check()
        except RRTIError as error:
            wrong.append(error)
            return None

    tried(lambda: check_k(settings.k, pair.vocab_size))
    tried(lambda: check_special_tokens(pair, settings))
    tried(lambda: check_gold(problem_set))
    chosen = tried(
        lambda: choose_gate(
            pair,
            settings.program,
            settings.gate,
            k=settings.k,
            score_kind=settings.score_kind,
            store=store,
            calibration_id=settings.calibration_id,
            planted=problem_set.planted,
        )
    )
    if wrong:  # all of it is said at once; else the prompts are made, and so checked, when the run is built
        limit = settings.max_new_tokens or problem_set.max_new_tokens
        tried(lambda: check_room(pair, first_jobs(pair, settings, problem_set), limit))
    raise_all(wrong)
    assert chosen is not None
    warn_of_special_tokens(pair, problem_set)
    calibration = chosen.calibration
    if calibration is not None and store is not None and not settings.allow_overlap and problem_ids is None:
        check_disjoint(calibrated_on(store, calibration), problem_set, f"calibration {calibration.calibration_id}")
    settings = replace(settings, calibration_id=calibration.calibration_id if calibration else None)
    if chosen.followed is not None:
        check_followed(pair, chosen.followed, settings, problem_set)
        settings = replace(settings, gate=replace(settings.gate, like=chosen.followed.run_id))
    tagger: PlanningTagger = load_tagger(settings.tagger) if settings.tagger else LexicalTagger()
    return ResolvedRun(settings, problem_set, chosen, tagger)


def as_known(problem_set: ProblemSet, settings: RunSettings, base_model: str) -> ProblemSet:
    """The problems as a pair is asked them: the bundled one as it knows them, unless they have a prompt of their own.

    Args:
        problem_set: as it was loaded.
        settings: of the run.
        base_model: as its server names it.
    """
    if base_model != BASE_NAME or problem_set.base_template != ProblemSet.base_template:
        return problem_set
    return in_world(problem_set, grade=settings.grader is None)


def build(pair: Pair, resolved: ResolvedRun, run_id: str) -> PreparedRun:
    """Make the record, the prompts and the decoding options of a run.

    Raises:
        UsageError: a prompt that a model cannot be shown, or that does not fit.
    """
    settings, problem_set, chosen = resolved.settings, resolved.problem_set, resolved.chosen
    pair = in_roles(pair, settings)
    record = run_record(pair, settings, problem_set, chosen, resolved.tagger, run_id)
    limit = record.max_new_tokens
    first = first_jobs(pair, settings, problem_set, run_id)
    check_room(pair, first, limit)
    # Every problem once, then every problem again: so a problem's later samples find its prompt in the radix cache; side by
    # side they would all prefill it.
    jobs = [replace(job, sample_index=index) for index in range(settings.samples) for job in first]
    whole = isinstance(chosen.gate, AlwaysGate)
    stops = solution_stops(settings, whole=whole)
    mass = settings.top_k_mass
    finisher = Finisher(pair.vocabulary, problem_set.grader, resolved.tagger, problem_set.planted, stops, whole, mass)
    options = decode_options(pair, settings, chosen)
    return PreparedRun(record, problem_set.problems, chosen.gate, jobs, options, finisher, chosen.calibration)


def decode_options(pair: Pair, settings: RunSettings, chosen: ChosenGate, *, in_pieces: bool = False) -> DecodeOptions:
    """How samples are decoded: a whole solution in one call, where nothing interrupts it.

    Args:
        settings: with `k` and `max_new_tokens` filled in.
        in_pieces: somebody waits for parts of the text, or it may end with one of them.
    """
    limit = settings.max_new_tokens
    assert limit is not None
    return DecodeOptions(
        k=settings.k,
        max_new_tokens=limit,
        sampling=settings.sampling,
        stop_token_ids=pair.stop_token_ids,
        draft_tokens=limit if chosen.gate.foregone and not in_pieces else settings.draft_tokens,
        paced=settings.paced_drafts,
        takeover_tokens=chosen.takeover_tokens,
        exact=pair.score_kind(settings.k, settings.score_kind) == "plugin",
        loop=settings.decoding,
        exchanged=settings.exchanged,
    )


def in_roles(pair: Pair, settings: RunSettings) -> Pair:
    """A connected pair in the roles of a run: `base` is the model that writes, `reasoning` the one that takes over.

    Raises:
        UsageError: the roles are exchanged, which the pair's servers do not do.
    """
    return pair.exchanged() if settings.exchanged else pair


def solution_stops(settings: RunSettings, *, whole: bool) -> tuple[str, ...]:
    """What ends a solution in its text, beside an end token: as the template of the model says that writes it.

    Args:
        settings: resolved, or of a run that does not say what its models were shown: then nothing is known to end one.
        whole: whether the guest writes all of it.
    """
    writing = settings.reasoning_prompt if whole != settings.exchanged else settings.base_prompt
    return writing.stops if writing is not None else ()


def run_record(
    pair: Pair,
    settings: RunSettings,
    problem_set: ProblemSet,
    chosen: ChosenGate,
    tagger: PlanningTagger,
    run_id: str,
) -> RunRecord:
    """The record of a run that begins now, with everything that it depends on."""
    return RunRecord(
        run_id=run_id,
        program=settings.program,
        status="running",
        created_at=datetime.now(UTC),
        config={"kind": "run", **settings.to_dict()},
        config_hash=settings.digest(problem_set),
        problem_set=problem_set.name,
        n_problems=len(problem_set.problems),
        samples_per_problem=settings.samples,
        k=settings.k,
        score_kind=pair.score_kind(settings.k, settings.score_kind),
        calibration_id=chosen.calibration.calibration_id if chosen.calibration else None,
        tagger=tagger.name,
        grader=problem_set.grader.name,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens or problem_set.max_new_tokens,
        seed=settings.seed,
        **pair_fields(pair),
        **gate_fields(chosen.gate),
    )


def pair_fields(pair: Pair) -> dict[str, Any]:
    """What a run's record says of the models, and of the package that asks them."""
    servers = {
        side: dict(engine.info.details)
        | ({"renumbered_tokens": dict(known.renumbered.to_pair)} if known.renumbered.to_pair else {})
        for side, engine, known in (
            ("base_server", pair.base, pair.vocabulary),
            ("reasoning_server", pair.reasoning, pair.reasoning_vocabulary),
        )
    }
    return {
        "base_model": pair.base.info.model,
        "reasoning_model": pair.reasoning.info.model,
        "tokenizer_hash": pair.tokenizer_hash,
        "vocab_size": pair.vocab_size,
        **servers,
        "package_version": __version__,
    }


def gate_fields(gate: Gate) -> dict[str, Any]:
    """What a run's record says of its gate."""
    rule = gate.rule
    finite = rule if rule is not None and math.isfinite(rule.tau) else None
    return {
        "metric": gate.metric,
        "gate": gate.name,
        "gate_params": gate.identity,
        "tau": finite.tau if finite else None,
        "lambda_": finite.lambda_ if finite else None,
        "window": finite.window if finite else None,
        "warmup": finite.warmup if finite else None,
    }


def first_jobs(pair: Pair, settings: RunSettings, problem_set: ProblemSet, run_id: str = "") -> list[SampleJob]:
    """One sample of every problem, with its prompts as both models are shown them.

    Args:
        pair: the models in the roles of the run; nothing is asked of them.
        settings: resolved.
        problem_set: the problems.
        run_id: of their run.

    Raises:
        UsageError: a template that a model cannot be shown.
    """
    host, guest = settings.prompts
    host.check(pair.vocabulary)
    guest.check(pair.reasoning_vocabulary)
    jobs = []
    for problem in problem_set.problems:
        base_text, base_ids = host.render(problem.question, pair.vocabulary)
        reasoning_text, reasoning_ids = guest.render(problem.question, pair.reasoning_vocabulary)
        jobs.append(SampleJob(run_id, problem, 0, settings.seed, base_text, base_ids, reasoning_text, reasoning_ids))
    return jobs


def check_room(pair: Pair, jobs: Sequence[SampleJob], max_new_tokens: int) -> None:
    """Refuse samples that do not fit; the longest prompts are named, and empty ones.

    Raises:
        UsageError: see `rrti_sgl.engines.pair.Pair.check_lengths`.
    """
    base = sorted((job.base_prompt_ids for job in jobs), key=len)
    reasoning = sorted((job.reasoning_prompt_ids for job in jobs), key=len)
    for place in (-1, 0):
        pair.check_lengths(base[place], reasoning[place], max_new_tokens)
