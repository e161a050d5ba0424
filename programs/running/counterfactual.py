"""`counterfactual`: was this causal? A solution goes on several times with a token or a sentence, and without it.

Of a *token*, two arms begin with the same tokens and differ in the one at its position: the reasoning model's ("taken") or
the base model's ("denied"). At a takeover of the stored sample this denies it; at a position of a base rollout it forces
one, so that its effect is seen alone. A takeover is necessary if the solution is right with it and wrong without.

Of a *sentence*, one arm begins with all up to its end, the other with all before it, so that it is drawn anew with what
follows (both are "kept" up to another token, and a beginning between two sentences serves both). The difference is the
resampling importance of Bogdan et al. 2025 (Thought Anchors, arXiv 2506.19143), who compare the final answers of 100
rollouts of each by KL(without || with). Our reading: answers are compared by half the squared distance of their
distributions (`rrti_sgl.statistics.answers`), which needs no smoothing and has no bias with few rollouts; the statistic
`causality` has the KL beside it. Their counterfactual importance keeps, of the rollouts without the sentence, those that
write one of another meaning in its place, as an embedding model tells; that is not done here.

*Pivotal* tokens are those at which the share of right solutions changes by a gap or more, found by bisection: of a stretch
of tokens both ends are continued, and where they differ by the gap it is halved, down to single tokens. This is the pivotal
token search of the phi-4 technical report (Abdin et al. 2024, arXiv 2412.08905), which divides at the middle of the tokens'
log-probabilities, not of their number, and does not say how many completions an estimate takes. Ours: both ends are
continued in steps until the interval of their difference lies on one side of the gap, or up to a limit; halves bound the
number of beginnings by two for each level and stretch. As theirs, it passes over changes that cancel out within a stretch.

All arms go on under the sample's own program, several times each when sampling, once when greedy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace

import numpy as np

from rrti_sgl.db.store import Store
from rrti_sgl.decoding.job import Prefix, SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import problem_set_of
from rrti_sgl.problems.given_rows import PREFIX as ROWS
from rrti_sgl.programs.running.arms import Arms, choices
from rrti_sgl.programs.running.contrasts import Branch, Contrast, Outcome, Seen, stretches
from rrti_sgl.programs.running.preparing import PreparedRun, build, in_roles, new_run_id, resolve
from rrti_sgl.programs.running.runner import OnProgress, execute_into
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import RunRecord, SampleRecord, SampleTrace
from rrti_sgl.tokens.vocabulary import Vocabulary

COUNTERFACTUAL = "counterfactual"


@dataclass(frozen=True)
class Effect(Contrast):
    """What one token, sentence or stretch did.

    Args:
        text: of its tokens; of a token the reasoning model's.
        instead: the base model's token; None: what the models draw.
        score: the largest that the gate saw there; None where it was not asked.
    """

    text: str
    instead: str | None
    score: float | None


async def run_counterfactual(
    session: PairSession,
    store: Store,
    arms: Arms,
    *,
    resume: str | None = None,
    trust: Collection[str] = (),
    on_progress: OnProgress | None = None,
) -> tuple[RunRecord, list[Effect]]:
    """Continue what is missing of the arms of a stored sample, and compare what they came to.

    Args:
        session: on the pair of the sample's run.
        store: open for writing; the continuations are stored as a run of program `counterfactual`.
        arms: what is continued: see `rrti_sgl.programs.running.arms.plan_arms`.
        resume: id of the run that began it.
        trust: classes that the sample's run names and that may be imported (`RunSettings.from_dict`).
        on_progress: called after each finished continuation.

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

    def further() -> list[SampleJob]:
        wanted = arms.plan.planned(seen(store, record.run_id, arms, trace.sample)).wanted
        return [job for branch, n in wanted.items() for job in _jobs(pair, template, trace, arms, branch, n)]

    prepared = replace(prepared, jobs=further())
    finished = await execute_into(
        store, session, prepared, resume=resume is not None, on_progress=on_progress, further=further
    )
    return finished, effects(store, record.run_id, arms, trace, pair.vocabulary)


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


def given_ids(trace: SampleTrace, position: int, arm: str) -> list[int]:
    """The tokens of a stored sample up to a position, with that of the arm there (`Branch`).

    Raises:
        UsageError: it is not known which token the arm has.
    """
    ids = [int(i) for i in trace.tokens.token_id[: position + 1]]
    if arm != "kept":
        ids[-1] = choices(trace, position)[arm == "denied"]
    return ids


def _first_index(arms: Arms, parent: SampleRecord, branch: Branch) -> int:
    """Sample index of a branch's first continuation: its own, and not that of the parent, whose draws are the parent's."""
    number = 2 * (branch.position + 1) + (branch.arm == "denied")
    return parent.sample_index + 1 + number * arms.continuations


def _jobs(pair: Pair, template: SampleJob, trace: SampleTrace, arms: Arms, branch: Branch, n: int) -> list[SampleJob]:
    ids, scores = given_ids(trace, branch.position, branch.arm), trace.tokens.score[: branch.position + 1]
    prefix = Prefix(
        token_ids=tuple(ids),
        text="".join(pair.vocabulary.pieces(ids)),
        scores=tuple(float(score) for score in scores if not np.isnan(score)),
        parent_sample_id=trace.sample.sample_id,
        arm=branch.arm,
    )
    first = _first_index(arms, trace.sample, branch)
    return [replace(template, sample_index=first + index, prefix=prefix) for index in range(n)]


def seen(store: Store, run_id: str, arms: Arms, parent: SampleRecord) -> Seen:
    """What the stored continuations of a run came to."""
    query = "SELECT parent_position, arm, sample_index, correct, answer FROM samples WHERE run_id = $run"
    found: dict[Branch, dict[int, Outcome]] = {}
    for row in store.sql(query, {"run": run_id}).to_pylist():
        branch = Branch(row["parent_position"], row["arm"])
        index = row["sample_index"] - _first_index(arms, parent, branch)
        found.setdefault(branch, {})[index] = Outcome(bool(row["correct"]), row["answer"] or "")
    return found


def effects(store: Store, run_id: str, arms: Arms, trace: SampleTrace, vocabulary: Vocabulary) -> list[Effect]:
    """What came out of a `counterfactual` run, in the order of the solution.

    Of a search those tokens that are pivotal, and stretches with so large an effect that were not divided further.
    """
    known = seen(store, run_id, arms, trace.sample)
    units = arms.plan.units if arms.gap is None else stretches(arms.spans, known)
    found = []
    for unit in units:
        if not known.keys() >= {*unit.branches}:  # for which there was no budget
            continue
        scores = trace.tokens.score[unit.first : unit.last + 1]
        if arms.unit == "token":
            text, instead = (vocabulary.token_text(token).strip() for token in choices(trace, unit.last))
        else:
            text, instead = "".join(trace.tokens.token_text[unit.first : unit.last + 1]).strip(), None
        score = None if np.isnan(scores).all() else float(np.nanmax(scores))
        with_it, without = (tuple(known[branch][index] for index in sorted(known[branch])) for branch in unit.branches)
        found.append(Effect(unit, with_it, without, text, instead, score))
    if arms.gap is not None:
        found = [each for each in found if abs(each.effect) >= arms.gap]
    return sorted(found, key=lambda each: each.position)
