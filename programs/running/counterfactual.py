"""`counterfactual`: was this takeover causal? One token denied or forced, everything else alike, and the outcomes compared.

For a chosen position of a stored sample, two arms begin with the same tokens and differ in the one at that position: the
reasoning model's ("taken") or the base model's ("denied"). Both go on under the sample's own program, several times each
when sampling, once when greedy. At a takeover of the stored sample this denies it; at a position of a base rollout it forces
one, so that its effect is seen alone. A takeover is necessary if the solution is right with it and wrong without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from rrti_sgl import bounds
from rrti_sgl.db.store import Store
from rrti_sgl.decoding.job import Prefix, SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import problem_set_of
from rrti_sgl.problems.given_rows import PREFIX as ROWS
from rrti_sgl.programs.running.preparing import PreparedRun, build, in_roles, new_run_id, resolve
from rrti_sgl.programs.running.runner import OnProgress, execute_into
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import RunRecord, SampleRecord, SampleTrace
from rrti_sgl.statistics.estimates import difference_of_shares
from rrti_sgl.tokens.vocabulary import Vocabulary

COUNTERFACTUAL = "counterfactual"
ARMS = ("taken", "denied")
STEP = 8


@dataclass(frozen=True, slots=True)
class Effect:
    """What one token did.

    Args:
        position: of the token in the stored sample.
        base_token, reasoning_token: the two choices, as text.
        score: what the gate saw there; None where it was not asked.
        taken, denied: share of right solutions with the reasoning model's and with the base model's token.
        continuations: of each arm.
    """

    position: int
    base_token: str
    reasoning_token: str
    score: float | None
    taken: float
    denied: float
    continuations: int

    @property
    def effect(self) -> float:
        """Change of the share of right solutions by the takeover."""
        return self.taken - self.denied

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the effect, of this one position."""
        n = self.continuations
        return difference_of_shares(round(self.taken * n), n, round(self.denied * n), n)

    @property
    def reach(self) -> float:
        """How far the interval reaches from its middle."""
        low, high = self.interval
        return (high - low) / 2

    @property
    def necessary(self) -> bool:
        """Whether the solution is mostly right with the takeover and mostly wrong without."""
        return self.taken > 0.5 >= self.denied


@dataclass(frozen=True, slots=True)
class Arms:
    """What is continued: the beginning of a sample up to each position, with the one token there and with the other.

    Args:
        sample: id of the stored sample.
        positions: of its tokens.
        continuations: of each arm; with `until` the most.
        temperature: of the continuations; None is that of the sample's run.
        until: a position is done once the 95 % interval of its effect reaches no farther than this from it; None: with
            all continuations.
    """

    sample: str
    positions: tuple[int, ...]
    continuations: int
    temperature: float | None = None
    until: float | None = None

    def most(self) -> int:
        """Continuations of all arms, at the most."""
        return len(ARMS) * len(self.positions) * self.continuations

    def tokens(self, sample: SampleRecord) -> int:
        """What they come to if each ends where the stored sample does."""
        return len(ARMS) * self.continuations * sum(sample.n_tokens - position - 1 for position in self.positions)


def plan_arms(
    store: Store,
    sample: str | None = None,
    *,
    resume: str | None = None,
    positions: Sequence[int] | None = None,
    continuations: int | None = None,
    temperature: float | None = None,
    until: float | None = None,
    trust: Collection[str] = (),
) -> Arms:
    """What to continue of a stored sample, or what a run that goes on was asked for; see `run_counterfactual`."""
    if resume is not None and sample is None:
        given = {"positions": positions, "continuations": continuations, "temperature": temperature, "until": until}
        if changed := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{argument(changed[0])} is that of the run which goes on.", "Leave it out.")
        return _noted_arms(store, resume)
    if sample is None or resume is not None:
        raise UsageError("It is of one sample, or goes on with one run.", f"Name a sample, or {argument('resume')}.")
    limits = (
        ("continuations", continuations, 1, bounds.RUNS),
        ("temperature", temperature, 0, 10),
        ("until", until, 0.01, 1),
    )
    for name, value, least, most in limits:
        if value is not None and not least <= value <= most:
            raise UsageError(f"{argument(name, value)} is out of bounds.", f"Use {least} to {most}.")
    trace = store.load_sample(sample)
    settings = RunSettings.from_dict(store.get_run(trace.sample.run_id).config, trust)
    if trace.sample.correct is None:
        raise UsageError(f"Sample {trace.sample.sample_id} is not graded.", "Choose a problem with a gold answer.")
    greedy = (settings.temperature if temperature is None else temperature) == 0
    if greedy and until is not None:
        raise UsageError(
            f"{argument('until', until)} is of sampled continuations; greedy ones are all alike.",
            f"Name a temperature: {argument('temperature', 0.7)}.",
        )
    usual = 1 if greedy else 8 * STEP if until is not None else STEP
    return Arms(trace.sample.sample_id, tuple(_positions(trace, positions)), continuations or usual, temperature, until)


async def run_counterfactual(
    session: PairSession,
    store: Store,
    sample: str | None = None,
    *,
    resume: str | None = None,
    positions: Sequence[int] | None = None,
    continuations: int | None = None,
    temperature: float | None = None,
    until: float | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> tuple[RunRecord, list[Effect]]:
    """Deny or force takeovers of a stored sample and compare the outcomes.

    Args:
        session: on the pair of the sample's run.
        store: open for writing; the continuations are stored as a run of program `counterfactual`.
        sample: its id, or enough of its first digits; None with `resume`.
        resume: id of a counterfactual run to go on with, as it was asked for.
        positions: which tokens; None takes every takeover that changed the token.
        continuations: of each arm; None: 1 when greedy, 8 when sampling, 64 at the most with `until`.
        temperature: of the continuations; None takes that of the sample's run.
        until: continue a position, 8 times each arm and again, only until the 95 % interval of its effect reaches no farther
            than this from it.
        trust: classes that the sample's run names and that may be imported (`RunSettings.from_dict`).
        on_progress: called after each finished continuation.

    Raises:
        UsageError: the sample has no such position, no changed takeover, no gold answer, or no choice at a position; a
            number is out of bounds, or given for a run that goes on.
    """
    arms = plan_arms(
        store,
        sample,
        resume=resume,
        positions=positions,
        continuations=continuations,
        temperature=temperature,
        until=until,
        trust=trust,
    )
    return await continue_arms(session, store, arms, resume=resume, trust=trust, on_progress=on_progress)


def _noted_arms(store: Store, run_id: str) -> Arms:
    noted = store.get_run(run_id).config.get("arms")
    if noted is None:
        raise UsageError(f"Run {run_id} does not say which arms it has.", "Continue a run of `rrti counterfactual`.")
    return Arms(**{**noted, "positions": tuple(noted["positions"])})


async def continue_arms(
    session: PairSession,
    store: Store,
    arms: Arms,
    *,
    resume: str | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> tuple[RunRecord, list[Effect]]:
    """Continue what is missing of the arms, and compare them.

    Args:
        session, store, trust, on_progress: see `run_counterfactual`.
        arms: what is continued.
        resume: id of the run that began it.

    Raises:
        RRTIError: what the settings, the models or the store do not allow; what was finished is stored.
    """
    trace = store.load_sample(arms.sample)
    settings = RunSettings.from_dict(store.get_run(trace.sample.run_id).config, trust)
    if arms.temperature is not None:
        settings = replace(settings, temperature=arms.temperature)
    pair = in_roles(session.pair, settings)
    prepared = prepare_continuation(session.pair, store, trace.sample, settings)
    record = prepared.record
    record = replace(record, run_id=resume or record.run_id, config={**record.config, "arms": asdict(arms)})
    prepared = replace(prepared, record=record).resumed_by("counterfactual", store)
    template = replace(prepared.jobs[0], run_id=record.run_id)
    first = arms.continuations if arms.until is None else min(STEP, arms.continuations)
    wanted = dict.fromkeys(arms.positions, first)

    def further() -> list[SampleJob]:
        for each in effects(store, record.run_id, pair.vocabulary):
            if arms.until is not None and each.reach > arms.until:
                wanted[each.position] = min(wanted[each.position] + STEP, arms.continuations)
        return _jobs(pair, template, trace, arms, wanted)

    prepared = replace(prepared, jobs=_jobs(pair, template, trace, arms, wanted))
    finished = await execute_into(
        store, session, prepared, resume=resume is not None, on_progress=on_progress, further=further
    )
    return finished, effects(store, record.run_id, pair.vocabulary)


def prepare_continuation(pair: Pair, store: Store, sample: SampleRecord, settings: RunSettings) -> PreparedRun:
    """A counterfactual run on the problem of a stored sample; its one job has no given beginning yet.

    Args:
        pair: the models.
        store: where the sample is.
        sample: whose problem it is.
        settings: of the run.

    Raises:
        RRTIError: what the settings, the models or the store do not allow.
    """
    in_memory = None
    if settings.problems.startswith(ROWS):  # the store has what was given
        problem = store.get_problem(store.get_run(sample.run_id).problem_set, sample.problem_id)
        in_memory = problem_set_of(problem.problem_set, [problem], choices=settings.choices_field is not None)
        in_memory = in_memory if settings.grader is None else replace(in_memory, grader=load_grader(settings.grader))
    resolved = resolve(pair, settings, store, problem_ids={sample.problem_id}, problem_set=in_memory)
    prepared = build(pair, resolved, new_run_id(COUNTERFACTUAL))
    config = {**prepared.record.config, "kind": "counterfactual"}
    return replace(prepared, record=replace(prepared.record, program=COUNTERFACTUAL, config=config))


def parent_settings(store: Store, sample: str, trust: Collection[str] = ()) -> RunSettings:
    """The settings of the run that a stored sample belongs to."""
    return RunSettings.from_dict(store.get_run(store.load_sample(sample).sample.run_id).config, trust)


def _positions(trace: SampleTrace, positions: Sequence[int] | None) -> list[int]:
    tokens = trace.tokens
    if positions is None:
        changed = (tokens.base_token_id >= 0) & (tokens.base_token_id != tokens.token_id)
        chosen = [int(t) for t in np.flatnonzero(changed)]
        if not chosen:
            raise UsageError(
                f"No takeover of sample {trace.sample.sample_id} changed a token.",
                f"Name a position: {argument('positions')}.",
            )
        return chosen
    for position in positions:
        if not 0 <= position < trace.sample.n_tokens:
            raise UsageError(
                f"Position {position} is outside the sample's 0..{trace.sample.n_tokens - 1}.", "See `rrti show`."
            )
        if choices(trace, position)[0] == choices(trace, position)[1]:
            raise UsageError(f"At position {position} both models choose the same token.", "Choose another position.")
    return list(dict.fromkeys(positions))


def choices(trace: SampleTrace, position: int) -> tuple[int, int]:
    """The reasoning model's and the base model's token at a position.

    Raises:
        UsageError: one of them was not asked there.
    """
    tokens = trace.tokens
    base = int(tokens.base_token_id[position])
    reasoning = int(tokens.reasoning_token_id[position])
    if reasoning < 0:
        reasoning = int(tokens.reasoning_topk_ids[position, 0])
    if min(base, reasoning) < 0:
        raise UsageError(
            f"At position {position} only one of the models was asked.", "Take a sample of `diagnose` or `guided`."
        )
    return reasoning, base


def _jobs(pair: Pair, template: SampleJob, trace: SampleTrace, arms: Arms, wanted: Mapping[int, int]) -> list[SampleJob]:
    """So many continuations of both arms as are wanted of each position; the sample index tells them apart."""
    jobs = []
    for place, (position, n) in enumerate(wanted.items()):
        scores = trace.tokens.score[: position + 1]
        before = [int(i) for i in trace.tokens.token_id[:position]]
        for number, token in enumerate(choices(trace, position)):
            prefix = Prefix(
                token_ids=(*before, token),
                text="".join(pair.vocabulary.pieces([*before, token])),
                scores=tuple(float(score) for score in scores if not np.isnan(score)),
                parent_sample_id=trace.sample.sample_id,
                arm="taken" if number == 0 else "denied",
            )
            first = (place * len(ARMS) + number) * arms.continuations
            jobs += [replace(template, sample_index=first + index, prefix=prefix) for index in range(n)]
    return jobs


def effects(store: Store, run_id: str, vocabulary: Vocabulary) -> list[Effect]:
    """The outcome of a stored `counterfactual` run, one row a position."""
    rows = store.sql(
        """
        SELECT parent_position AS position, any_value(tokens.score) AS score, count(*) FILTER (arm = 'taken') AS n,
               avg(samples.correct::INTEGER) FILTER (arm = 'taken') AS taken,
               avg(samples.correct::INTEGER) FILTER (arm = 'denied') AS denied,
               any_value(tokens.base_token_id) AS base_id,
               any_value(COALESCE(tokens.reasoning_token_id, tokens.reasoning_topk_ids[1])) AS reasoning_id
        FROM samples
        JOIN tokens ON tokens.sample_id = samples.parent_sample_id AND tokens.position = samples.parent_position
        WHERE samples.run_id = $run
        GROUP BY parent_position ORDER BY parent_position
        """,
        {"run": run_id},
    ).to_pylist()
    return [
        Effect(
            position=row["position"],
            base_token=vocabulary.token_text(row["base_id"]).strip(),
            reasoning_token=vocabulary.token_text(row["reasoning_id"]).strip(),
            score=row["score"],
            taken=row["taken"],
            denied=row["denied"],
            continuations=row["n"],
        )
        for row in rows
    ]
