"""What of a stored sample is continued by `counterfactual`: its tokens or sentences, how often, and until when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rrti_sgl import bounds
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.running.contrasts import STEP, Branch, Plan, Unit
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import SampleRecord, SampleTrace
from rrti_sgl.science.sentences import sentences

UNITS = ("token", "sentence", "pivotal")
GAP = 0.2


@dataclass(frozen=True, slots=True)
class Arms:
    """What is continued.

    Args:
        sample: id of the stored sample.
        unit: one of `UNITS`.
        spans: first and last token of each unit; of "pivotal" where tokens are searched.
        continuations: of each arm; with `until` or `gap` the most.
        temperature: of the continuations; None is that of the sample's run.
        until, gap, budget: see `rrti_sgl.programs.running.contrasts.Plan`.
    """

    sample: str
    unit: str
    spans: tuple[tuple[int, int], ...]
    continuations: int
    temperature: float | None = None
    until: float | None = None
    gap: float | None = None
    budget: int | None = None

    @property
    def plan(self) -> Plan:
        """How it goes on."""
        units = [Unit.token(last) if self.unit == "token" else Unit.stretch(first, last) for first, last in self.spans]
        return Plan(units, self.continuations, self.until, self.gap, self.budget)

    @property
    def branches(self) -> list[Branch]:
        """What is continued, each once; of a search all that may be."""
        if self.gap is not None:
            return [Branch(at) for at in sorted({at for first, last in self.spans for at in range(first - 1, last + 1)})]
        return list(dict.fromkeys(branch for unit in self.plan.units for branch in unit.branches))

    def first(self) -> int:
        """Continuations before anything is decided."""
        return sum(replace(self.plan, budget=None).planned({}).wanted.values())

    def most(self) -> int:
        """Continuations of all arms, at the most."""
        n = len(self.branches) * self.continuations
        return n if self.budget is None else min(n, self.budget)

    def tokens(self, sample: SampleRecord) -> int:
        """What they come to if each ends where the stored sample does."""
        left = [sample.n_tokens - branch.position - 1 for branch in self.branches]
        return self.most() * sum(left) // len(left)


def plan_arms(
    store: Store,
    sample: str | None = None,
    *,
    resume: str | None = None,
    unit: str | None = None,
    positions: Sequence[int] | None = None,
    continuations: int | None = None,
    temperature: float | None = None,
    until: float | None = None,
    gap: float | None = None,
    budget: int | None = None,
    trust: Collection[str] = (),
) -> Arms:
    """What to continue of a stored sample, or what a run that goes on was asked for.

    Args:
        store: where the sample is.
        sample: its id, or enough of its first digits; None with `resume`.
        resume: id of a counterfactual run to go on with, as it was asked for.
        unit, positions, continuations, temperature, until, gap, budget: see
            `rrti_sgl.programs.public.pair.ModelPair.counterfactual`.
        trust: classes that the sample's run names and that may be imported (`RunSettings.from_dict`).

    Raises:
        UsageError: the sample has no such position, no changed takeover, no gold answer, or no choice at a position; a
            number is out of bounds, or given for a run that goes on.
    """
    numbers = {"continuations": continuations, "temperature": temperature, "until": until, "gap": gap, "budget": budget}
    if resume is not None and sample is None:
        given: dict[str, object] = {"unit": unit, "positions": positions, **numbers}
        if changed := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{argument(changed[0])} is that of the run which goes on.", "Leave it out.")
        return noted_arms(store, resume)
    if sample is None or resume is not None:
        raise UsageError("It is of one sample, or goes on with one run.", f"Name a sample, or {argument('resume')}.")
    for name, least, most in _BOUNDS:
        if (value := numbers[name]) is not None and not least <= value <= most:
            raise UsageError(f"{argument(name, value)} is out of bounds.", f"Use {least} to {most}.")
    unit = unit or UNITS[0]
    _check_unit(unit, until, gap)
    trace = store.load_sample(sample)
    settings = RunSettings.from_dict(store.get_run(trace.sample.run_id).config, trust)
    _check_sample(trace.sample)
    greedy = (settings.temperature if temperature is None else temperature) == 0
    if greedy and (until is not None or unit != "token"):
        asked = argument("until", until) if until is not None else argument("unit", unit)
        raise UsageError(
            f"{asked} is of sampled continuations; greedy ones are all alike.",
            f"Name a temperature: {argument('temperature', 0.7)}.",
        )
    if unit == "pivotal":
        gap = gap or GAP
    usual = 1 if greedy else STEP if until is gap is None else 8 * STEP
    spans = _tokens(trace, positions) if unit == "token" else _sentences(trace, positions)
    if unit == "pivotal" and positions is None:
        spans = [(0, trace.sample.n_tokens - 1)]
    found = Arms(trace.sample.sample_id, unit, tuple(spans), continuations or usual, temperature, until, gap, budget)
    if budget is not None and budget < (first := found.first()):
        raise UsageError(f"{argument('budget', budget)} is spent at once: {first} continuations come first.", "Raise it.")
    return found


_BOUNDS = (
    ("continuations", 1, bounds.RUNS),
    ("temperature", 0, 10),
    ("until", 0.01, 1),
    ("gap", 0.01, 1),
    ("budget", 1, bounds.COUNT),
)


def _check_unit(unit: str, until: float | None, gap: float | None) -> None:
    if unit not in UNITS:
        raise UsageError(f"{argument('unit', unit)} is no unit.", f"Use {', '.join(UNITS)}.")
    name, value = ("until", until) if unit == "pivotal" else ("gap", gap)
    if value is not None:
        searched = "of a search, which" if name == "gap" else "not of a search, whose gap"
        raise UsageError(f"{argument(name, value)} is {searched} {argument('unit', 'pivotal')} asks for.", "Leave it out.")


def samples_of(store: Store, samples: Sequence[str], run: str | None, limit: int | None, unit: str | None) -> list[str]:
    """The samples that are named, or graded ones of a run: a first one of each problem before any second.

    Args:
        store: where they are.
        samples: their ids; empty with a run.
        run: its id, a prefix of it, or its program.
        limit: so many of the run at most.
        unit: of the arms; of tokens only samples with a takeover that changed one.

    Raises:
        UsageError: both or neither are named, or no such sample or run is there.
    """
    if (run is None) == (not samples) or (limit is not None and run is None):
        raise UsageError("It is of samples, or of those of a run.", "Name a sample, or a run.")
    if run is None:
        return [*samples]
    runs = store.find_runs(run)
    if len(runs) > 1:
        raise UsageError(f"{run!r} is {len(runs)} runs.", f"Name one: {runs[-1].run_id}.")
    rows = store.sql(_OF_RUN, {"run": runs[0].run_id, "changed": unit in (None, "token"), "limit": limit or bounds.COUNT})
    if not len(rows):
        raise UsageError(f"Run {runs[0].run_id} has no graded sample with what is tried.", "Name another, or a sample.")
    found: list[str] = rows["sample_id"].to_pylist()
    return found


_OF_RUN = """
    SELECT sample_id FROM samples
    WHERE run_id = $run AND correct IS NOT NULL AND parent_sample_id IS NULL AND (n_changed > 0 OR NOT $changed)
    ORDER BY sample_index, problem_id LIMIT $limit
"""


def noted_arms(store: Store, run_id: str) -> Arms:
    """What a stored run continues.

    Raises:
        UsageError: it does not say that.
    """
    noted = store.get_run(run_id).config.get("arms", {})
    if "spans" not in noted:
        raise UsageError(f"Run {run_id} does not say which arms it has.", "Continue a run of `rrti counterfactual`.")
    return Arms(**{**noted, "spans": tuple((first, last) for first, last in noted["spans"])})


def parent_settings(store: Store, sample: str, trust: Collection[str] = ()) -> RunSettings:
    """The settings of the run that a stored sample belongs to."""
    return RunSettings.from_dict(store.get_run(store.load_sample(sample).sample.run_id).config, trust)


def _check_sample(sample: SampleRecord) -> None:
    if sample.correct is None:
        raise UsageError(f"Sample {sample.sample_id} is not graded.", "Choose a problem with a gold answer.")
    if sample.parent_sample_id is not None:
        raise UsageError(f"Sample {sample.sample_id} is the end of another one.", f"Name that: {sample.parent_sample_id}.")


def _tokens(trace: SampleTrace, positions: Sequence[int] | None) -> list[tuple[int, int]]:
    """The tokens at these positions, or those of the takeovers that changed one."""
    tokens = trace.tokens
    if positions is None:
        positions = [int(t) for t in np.flatnonzero((tokens.base_token_id >= 0) & (tokens.base_token_id != tokens.token_id))]
        if not positions:
            raise UsageError(
                f"No takeover of sample {trace.sample.sample_id} changed a token.",
                f"Name a position: {argument('positions')}.",
            )
        return [(position, position) for position in positions]
    for position in positions:
        _check_position(trace, position)
        if choices(trace, position)[0] == choices(trace, position)[1]:
            raise UsageError(f"At position {position} both models choose the same token.", "Choose another position.")
    return [(position, position) for position in dict.fromkeys(positions)]


def _sentences(trace: SampleTrace, positions: Sequence[int] | None) -> list[tuple[int, int]]:
    """The sentences that these tokens are of, or all."""
    for position in positions or ():
        _check_position(trace, position)
    found = sentences(trace.tokens.token_text)
    return [(first, last) for first, last in found if positions is None or any(first <= each <= last for each in positions)]


def _check_position(trace: SampleTrace, position: int) -> None:
    if not 0 <= position < trace.sample.n_tokens:
        raise UsageError(f"Position {position} is outside the sample's 0..{trace.sample.n_tokens - 1}.", "See `rrti show`.")


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
