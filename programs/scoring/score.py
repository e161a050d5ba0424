"""`score`: given texts, scored by both models at every position, as `diagnose` does with rollouts of its own.

Nothing is generated: each model prefills its prompt and the continuation once. Every divergence, both entropies and both
top-k lists are stored, `score` holds the chosen metric, and no position fires. The trace does not say which model wrote a
text: `source` is "base" throughout, because nobody took over, and `base_token_id` is NULL, because nothing was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rrti_sgl.db.store import Store
from rrti_sgl.decoding.finishing import Finisher
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.given_texts import GivenText
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.gating import ChosenGate
from rrti_sgl.programs.running.preconditions import check_gold, check_special_tokens, warn_of_special_tokens
from rrti_sgl.programs.running.preparing import PreparedRun, decode_options, new_run_id, run_record
from rrti_sgl.programs.running.runner import OnProgress, Workers, execute_into
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.scoring.jobs import JobBuilder, problem_of, problems_in
from rrti_sgl.programs.scoring.settings import SCORE, ScoreSettings
from rrti_sgl.records import ProblemRecord, RunRecord
from rrti_sgl.rows import Complaints
from rrti_sgl.science.gates import NeverGate
from rrti_sgl.science.planning import LexicalTagger, PlanningTagger, load_tagger

_REMEDY = "Correct or leave out these lines, or serve models with a longer context or another vocabulary."


async def run_score(
    session: PairSession | Workers,
    store: Store,
    settings: ScoreSettings,
    texts: Sequence[GivenText],
    *,
    resume: str | None = None,
    on_progress: OnProgress | None = None,
) -> RunRecord:
    """Score given texts into a run of program `score` and return its record.

    Samples are written as they finish. A sample's id follows from the run, its problem and its place among the texts of
    that problem, so `resume` continues a run with the samples that are missing, and none is doubled.

    Args:
        session: on the pair; or many pairs elsewhere.
        store: open for writing.
        settings: how to score.
        texts: what `settings.input.read()` gave.
        resume: id of a stored run of the same settings and texts to continue.
        on_progress: called after each finished text.

    Raises:
        UsageError: texts that cannot be scored with this pair (too long, ids out of the vocabulary, end tokens in the
            middle, a question that the problem set does not have): all at once, and before anything is written.
        RRTIError: what the servers or the store do not allow.
    """
    prepared = prepare_score(session.pair, settings, texts, run_id=resume).resumed_by("score", store)
    return await execute_into(store, session, prepared, resume=resume is not None, on_progress=on_progress)


def prepare_score(
    pair: Pair, settings: ScoreSettings, texts: Sequence[GivenText], *, run_id: str | None = None
) -> PreparedRun:
    """Check and build everything that the run needs. See `run_score`."""
    given = settings.run
    check_special_tokens(pair, given)
    complaints = Complaints()
    problem_set, answered = _problems(settings, texts, complaints)
    resolved = given.resolved(problem_set, pair.vocab_size)
    check_k(resolved.k, pair.vocab_size)
    assert resolved.base_prompt is not None
    assert resolved.reasoning_prompt is not None
    run_id = run_id or new_run_id(SCORE)
    templates = (resolved.base_prompt, resolved.reasoning_prompt)
    builder = JobBuilder(pair, given, *templates, settings.input.end_token, complaints)
    jobs = [builder.job(run_id, text, problem) for text, problem in answered]
    if settings.input.skip and complaints:
        left_out = complaints.places
        jobs = [job for job, (text, _) in zip(jobs, answered, strict=True) if text.place not in left_out]
        kept = {job.problem.problem_id for job in jobs}
        problem_set = replace(problem_set, problems=[known for known in problem_set.problems if known.problem_id in kept])
    if jobs and settings.input.skip:
        if complaints:
            complaints.warn("text")
    else:
        complaints.raise_any(_REMEDY, "nothing was scored")
    check_gold(problem_set)
    warn_of_special_tokens(pair, problem_set)
    builder.warn(len(texts))
    longest = max(len(job.given.token_ids) for job in jobs if job.given is not None)
    # Prompts of the texts' own do not say what begins the next problem; only a template does.
    stops = resolved.base_prompt.stops if builder.templated else ()
    chosen = ChosenGate(NeverGate(given.gate.metric))
    tagger: PlanningTagger = load_tagger(given.tagger) if given.tagger else LexicalTagger()
    recorded = replace(resolved, samples=builder.most_samples, max_new_tokens=longest)
    record = replace(
        run_record(pair, recorded, problem_set, chosen, tagger, run_id),
        program=SCORE,
        config=settings.stored(stops),
        config_hash=settings.digest(texts, problem_set),
    )
    mass = given.top_k_mass
    finisher = Finisher(pair.vocabulary, problem_set.grader, tagger, problem_set.planted, stops, top_k_mass=mass)
    options = decode_options(pair, recorded, chosen)
    return PreparedRun(record, problem_set.problems, chosen.gate, jobs, options, finisher)


def _problems(
    settings: ScoreSettings, texts: Sequence[GivenText], complaints: Complaints
) -> tuple[ProblemSet, list[tuple[GivenText, ProblemRecord]]]:
    """The problem set with the problems that are answered, and every text with its problem."""
    if settings.input.problems is None:
        name = settings.run.problems
        known = problems_in(texts, name, complaints)
        problem_set = ProblemSet(name, list(known.values()), load_grader(settings.run.grader or "last-number"))
    else:
        problem_set = settings.run.load_problems()
        known = {problem.problem_id: problem for problem in problem_set.problems}
    found = []
    for text in texts:
        problem = problem_of(text, known)
        if problem is not None:
            found.append((text, problem))
        elif settings.input.problems is not None:
            named = f"problem_id {text.problem_id!r}" if text.question is None else f"question {text.question[:60]!r}"
            complaints.add(text.place, f"{named} is not among the {len(known)} problems of {problem_set.name}")
    problems = {problem.problem_id: problem for _, problem in found}
    return replace(problem_set, problems=list(problems.values())), found
