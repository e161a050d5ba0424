"""What another gate would do on a stored run, without a model: expected budget, coverage, and the positions.

Thresholds are given, taken from a stored calibration, or calibrated on a stored run by the project's own rule. The numbers
of `rrti_sgl.science.regating` come with what is known of the same gate from runs that really used it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any

import numpy as np

from rrti_sgl.db.scored_tokens import RunTokens, read_scored_tokens
from rrti_sgl.db.store import Store
from rrti_sgl.errors import CalibrationMismatchError, UsageError, argument
from rrti_sgl.programs.options import Option, validated
from rrti_sgl.programs.program import WINDOW
from rrti_sgl.programs.stored.calibrate import of_what_is_compared
from rrti_sgl.programs.tables.numbers import RATE
from rrti_sgl.programs.tables.table import Column, Table, rows_table
from rrti_sgl.programs.values import Count, Nats, Natural, Positive
from rrti_sgl.records import RunRecord
from rrti_sgl.science.calibration import check_compatible, sweep
from rrti_sgl.science.regating import Outcome, Regating, ScoredTokens, compared, ratio_for_budget
from rrti_sgl.science.threshold import ThresholdRule, Warmup
from rrti_sgl.statistics.resampling import Interval

SHOWN = (
    *("spike_ratio", "tau", "lambda", "rolling", "entropy_tau"),
    *("n_fired", "budget", "problem_sd", "coverage", "best_coverage", "realised_budget"),
)
SWEEP = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)
LIMITS = (
    "The stored tokens stay as they are: a takeover that changes its token would change every token and score after it, "
    "which is not known here. On base rollouts the budget is that of takeovers without consequences.",
    "Intervals resample problems with the thresholds fixed; they leave out how far tau and lambda would move with another "
    "calibration set.",
)
IN_SAMPLE = (
    "tau is calibrated on the very tokens that are gated: without lambda the budget equals the spike ratio by construction. "
    "Calibrate on another run (calibrate_on) to see how it carries over."
)
INTERVENED = "The run's own gate took over at {share} of these positions: its scores are those after its own takeovers."
ELSEWHERE = (
    "Run {run} used the same gate at {there}; this run is of {here}, so its budget of {budget} is not comparable and does "
    "not stand beside the expected one."
)
OTHER_PROBLEMS = "The realised budget of {run} is that of other problems: {there}, not {here}."
NO_COVERAGE = "ce is not stored at every position, so the coverage of the disagreement is not known."

_gate = partial(Option, panel="Gate")


@dataclass(frozen=True, slots=True)
class WhatIfOptions:
    """Which gates to try. At most one of `tau`, `spike_ratios`, `budgets`, `calibration_id`, `stored`; none: `SWEEP`.

    What is None is the run's: its metric, and its own scores for ratios. `budgets` takes the smallest spike ratios that
    reach them.

    Raises:
        UsageError: options that name different gates, or a factor that is not known.
    """

    metric: Annotated[str | None, _gate("What the gate sees; entropy_base is the entropy gate.")] = None
    tau: Annotated[float | None, _gate("Threshold.")] = None
    spike_ratios: Annotated[
        Sequence[float], _gate("Calibrate for this ratio; repeat. Default: a sweep.", flag="--spike-ratio")
    ] = ()
    budgets: Annotated[Sequence[float], _gate("Find the ratio with this expected budget; repeat.", flag="--budget")] = ()
    calibration_id: Annotated[str | None, _gate("A stored calibration, by id.", name="calibration")] = None
    stored: Annotated[bool, _gate("Replay the gate of the run.", flag="--stored")] = False
    calibrate_on: Annotated[str | None, _gate("Take ratios of this run's scores.", metavar="RUN")] = None
    use_lambda: Annotated[bool, _gate("Second condition on or off.", name="lambda", flag="--lambda/--no-lambda")] = False
    lambda_: Annotated[Positive | None, _gate("Its factor, in place of a calibration's.", name="lambda_value")] = None
    window: Annotated[Count, _gate("Length of the local mean, tokens.")] = WINDOW
    warmup: Annotated[Warmup, _gate("Rule for position < window: tau, partial or never.")] = "tau"
    rolling: Annotated[Count, _gate("Compare the mean of the last so many scores with tau, not the score.")] = 1
    entropy_tau: Annotated[Nats | None, _gate("Only where the base's entropy exceeds this, too.", metavar="NATS")] = None
    cooldown: Annotated[Natural, _gate("It does not fire at so many tokens after one.")] = 0
    disagreement: Annotated[str | None, Option("Coverage is a share of this. [default: ce]", "Output", metavar="METRIC")] = (
        None
    )
    seed: Annotated[int, Option("Of the bootstrap.", "Output")] = 0

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> WhatIfOptions:
        """Options by their names; a factor switches lambda on.

        Raises:
            UsageError: names every option that there is not, and every value that does not fit.
        """
        values = validated(options, cls)
        return cls(**{"use_lambda": values.get("lambda_") is not None, **values})

    def rule(self, tau: float, calibrated: float | None = None) -> ThresholdRule:
        """A rule with this threshold and the other options; where lambda is on, its factor is that given or calibrated."""
        factor = None if not self.use_lambda else calibrated if self.lambda_ is None else self.lambda_
        return ThresholdRule(tau, factor, self.window, self.warmup, self.cooldown, self.rolling)

    def __post_init__(self) -> None:
        chosen = {
            "tau": self.tau is not None,
            "spike_ratios": bool(self.spike_ratios),
            "budgets": bool(self.budgets),
            "calibration_id": self.calibration_id is not None,
            "stored": self.stored,
        }
        given = [name for name, is_given in chosen.items() if is_given]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(map(argument, given))} name different gates.", "Give one of them.")
        if self.calibrate_on is not None and given not in ([], ["spike_ratios"], ["budgets"]):
            raise UsageError(
                f"{argument('calibrate_on')} has no use beside {argument(given[0])}.",
                f"Give it with {argument('spike_ratios')} or {argument('budgets')}.",
            )
        if self.tau is not None and self.use_lambda and self.lambda_ is None:
            raise UsageError(
                "lambda is not known.", f"Give {argument('lambda_')} with {argument('tau')}, or {argument('spike_ratios')}."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One gate and what it would do. `spike_ratio` is None where no ratio stands behind tau."""

    spike_ratio: float | None
    outcome: Outcome
    realised_run: str | None
    realised_budget: float | None


@dataclass(frozen=True, slots=True, eq=False)
class WhatIf:
    """The gates that were tried on one run, what they were tried on, and what must be said with the numbers."""

    tokens: RunTokens
    trials: Sequence[Trial]
    notes: Sequence[str] = field(default_factory=tuple)
    entropy_tau: float | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a gate; shares from 0 to 1, thresholds in the unit of the metric, NULL where nothing is known."""
        return [self._row(trial) for trial in self.trials]

    @property
    def table(self) -> Table:
        """One line a gate, of what is known."""
        rows, run = self.rows, self.tokens.run
        title = f"Gates on {self.tokens.metric} over run {run.run_id} ({run.program}, {run.problem_set})"
        return rows_table(title, rows, [Column(name) for name in SHOWN if any(row[name] is not None for row in rows)])

    def _row(self, trial: Trial) -> dict[str, Any]:
        outcome, rule, tokens = trial.outcome, trial.outcome.rule, self.tokens.tokens
        p05, median, p95 = np.quantile(outcome.by_problem, [0.05, 0.5, 0.95])
        return {
            "run_id": self.tokens.run.run_id,
            "metric": self.tokens.metric,
            "spike_ratio": trial.spike_ratio,
            "tau": rule.tau,
            "lambda": rule.lambda_,
            "window": rule.window if rule.lambda_ is not None else None,
            "warmup": rule.warmup if rule.lambda_ is not None else None,
            "rolling": rule.rolling if rule.rolling > 1 else None,
            "entropy_tau": self.entropy_tau,
            "n_positions": len(tokens.scores),
            "n_problems": len(outcome.by_problem),
            "n_fired": outcome.n_fired,
            **_with_bounds("budget", outcome.budget),
            "problem_sd": float(np.std(outcome.by_problem, ddof=1)) if len(outcome.by_problem) > 1 else None,
            "problem_p05": float(p05),
            "problem_median": float(median),
            "problem_p95": float(p95),
            "disagreement": self.tokens.disagreement,
            **_with_bounds("coverage", outcome.coverage),
            "best_coverage": outcome.best_coverage,
            "stored_budget": float(np.mean(tokens.fired)),
            "n_added": outcome.n_added,
            "n_dropped": outcome.n_dropped,
            "realised_run": trial.realised_run,
            "realised_budget": trial.realised_budget,
        }


def _with_bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    """An estimate with its interval as columns; the bounds are NULL where there is none."""
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = (None if math.isnan(bound) else bound for bound in (interval.low, interval.high))
    return {name: interval.estimate, f"{name}_low": low, f"{name}_high": high}


def what_if(store: Store, reference: str | None, options: WhatIfOptions) -> WhatIf:
    """Try gates on the tokens of a stored run.

    Args:
        store: where the run is.
        reference: run id, prefix of one or program; None: the newest diagnose run.
        options: which gates.

    Raises:
        UsageError: no such run, one that cannot be re-gated as asked (see `read_scored_tokens`), or thresholds that its
            scores do not allow.
        CalibrationMismatchError: a calibration of other models, another k, metric or kind of scores.
    """
    run = _one_run(store, reference)
    metric = _metric(run, options)
    doubt = run.gate_params.get("entropy_tau") if options.stored else options.entropy_tau
    read = partial(read_scored_tokens, store, entropy_tau=doubt)
    found = read(run, metric, options.disagreement)
    regating = Regating(found.tokens, options.seed)
    notes = list(LIMITS)
    if found.tokens.fired.any():
        notes.append(INTERVENED.format(share=RATE.text(float(np.mean(found.tokens.fired)))))
    if found.disagreement is None:
        notes.append(NO_COVERAGE)
    if options.stored:
        gates: list[tuple[float | None, ThresholdRule]] = [(None, _stored_rule(run))]
    elif options.tau is not None:
        gates = [(None, options.rule(options.tau))]
    elif options.calibration_id is not None:
        gates = [_calibration_gate(store, run, metric, options)]
    else:
        source = run if options.calibrate_on is None else _calibration_run(store, run, options.calibrate_on)
        if source.run_id == run.run_id:
            rollouts = found
            notes.append(IN_SAMPLE)
        else:
            rollouts = read(source, metric, metric)
        gates = _calibrated_gates(regating, rollouts.tokens, options)
    trials = []
    for ratio, rule in gates:
        beside, said = _realised(store, found, rule, doubt)
        trials.append(Trial(ratio, regating.outcome(rule), *beside))
        notes += said
    return WhatIf(found, trials, list(dict.fromkeys(notes)), doubt)


def _one_run(store: Store, reference: str | None) -> RunRecord:
    runs = store.find_runs(reference) if reference is not None else store.find_runs(program="diagnose")[-1:]
    if not runs:
        raise UsageError("The store has no diagnose run.", "Name a run, or make one: rrti run diagnose.")
    if len(runs) > 1:
        known = ", ".join(run.run_id for run in runs[-8:])
        raise UsageError(f"The run {reference!r} could be any of {known}.", "Give one id.")
    return runs[0]


def _metric(run: RunRecord, options: WhatIfOptions) -> str:
    if not options.stored:
        return options.metric or run.metric or "ce"
    if run.gate is None or run.metric is None:
        raise UsageError(
            f"Run {run.run_id} was decided by the gate {run.gate!r}, whose score is no stored metric: "
            "it cannot be told from the stored tokens.",
            f"Name a gate: {argument('metric')} with {argument('tau')}, {argument('spike_ratios')} or "
            f"{argument('budgets')}.",
        )
    if options.metric not in (None, run.metric):
        raise UsageError(
            f"The stored gate is a gate on {run.metric}, not on {options.metric}.", f"Leave {argument('metric')} out."
        )
    return run.metric


def _stored_rule(run: RunRecord) -> ThresholdRule:
    if run.tau is None or run.window is None or run.warmup is None:
        raise UsageError(
            f"Run {run.run_id} ({run.program}) has no gate with a threshold.", f"Leave {argument('stored')} out."
        )
    rest, rolling = run.gate_params.get("cooldown", 0), run.gate_params.get("rolling", 1)
    return ThresholdRule(run.tau, run.lambda_, run.window, run.warmup, rest, rolling)  # type: ignore[arg-type]


def _calibration_gate(store: Store, run: RunRecord, metric: str, options: WhatIfOptions) -> tuple[float, ThresholdRule]:
    assert options.calibration_id is not None
    calibration = store.get_calibration(options.calibration_id)
    check_compatible(
        calibration,
        metric=metric,
        score_kind=run.score_kind,
        k=run.k,
        base_model=run.base_model or "",
        reasoning_model=run.reasoning_model or "",
        tokenizer_hash=run.tokenizer_hash,
    )
    found = of_what_is_compared(store, calibration, rolling=options.rolling, entropy_tau=options.entropy_tau)
    return found.spike_ratio, options.rule(found.tau, found.lambda_)


def _calibration_run(store: Store, run: RunRecord, reference: str) -> RunRecord:
    """The run to calibrate on, once its scores are known to be on the scale of the other's."""
    source = _one_run(store, reference)
    names = ("base_model", "reasoning_model", "tokenizer_hash", "k", "score_kind")
    differences = [
        f"{name} is {getattr(source, name)!r} there and {getattr(run, name)!r} here"
        for name in names
        if getattr(source, name) != getattr(run, name) and not (name == "k" and run.score_kind == "full")
    ]
    if differences:
        raise CalibrationMismatchError(
            f"Run {source.run_id} cannot calibrate run {run.run_id}: {'; '.join(differences)}.",
            "Name a run of the same models and k.",
        )
    return source


def _calibrated_gates(
    regating: Regating, rollouts: ScoredTokens, options: WhatIfOptions
) -> list[tuple[float | None, ThresholdRule]]:
    scores = compared(rollouts, options.rule(math.inf, 1.0))
    if options.budgets:
        ratios = [ratio_for_budget(regating, scores, options.rule, budget) for budget in options.budgets]
    else:
        ratios = sorted(set(options.spike_ratios)) or [ratio for ratio in SWEEP if ratio * len(scores) >= 1]
    return [(found.spike_ratio, options.rule(found.tau, found.lambda_)) for found in sweep(scores, ratios)]


def _realised(
    store: Store, found: RunTokens, rule: ThresholdRule, entropy_tau: float | None
) -> tuple[tuple[str | None, float | None], list[str]]:
    """The newest other run that used exactly this gate on these models and drew alike, and its rho; what must be said of it.

    A run on the same problem set comes first. One that drew at another temperature has another budget for that alone: it is
    named, and its budget does not stand beside the expected one.
    """
    run = found.run
    rows = store.sql(
        """
        SELECT run_id, rho, temperature, top_p, problem_set FROM run_view
        WHERE run_id <> $run AND metric = $metric AND gate IN ('divergence', 'doubt', 'entropy') AND program <> 'relay'
          AND tau = $tau AND lambda_ IS NOT DISTINCT FROM $lambda_
          AND ($lambda_ IS NULL OR ("window" = $window AND warmup = $warmup))
          AND COALESCE((gate_params ->> '$.cooldown')::INTEGER, 0) = $cooldown
          AND COALESCE((gate_params ->> '$.rolling')::INTEGER, 1) = $rolling
          AND (gate_params ->> '$.entropy_tau')::DOUBLE IS NOT DISTINCT FROM $entropy_tau
          AND base_model = $base AND reasoning_model = $reasoning AND score_kind = $kind AND (k = $k OR $kind = 'full')
          AND rho IS NOT NULL
        ORDER BY problem_set = $problems DESC, created_at DESC, run_id
        """,
        {
            "run": run.run_id,
            "metric": found.metric,
            **asdict(rule),
            "entropy_tau": entropy_tau,
            "base": run.base_model,
            "reasoning": run.reasoning_model,
            "k": run.k,
            "kind": run.score_kind,
            "problems": run.problem_set,
        },
    ).to_pylist()
    here = _drawing(run.temperature, run.top_p)
    alike = [row for row in rows if _drawing(row["temperature"], row["top_p"]) == here]
    if alike:
        chosen = alike[0]
        other = {"run": chosen["run_id"], "there": chosen["problem_set"], "here": run.problem_set}
        said = [OTHER_PROBLEMS.format(**other)] if other["there"] != other["here"] else []
        return (chosen["run_id"], chosen["rho"]), said
    there = [(row, _drawing(row["temperature"], row["top_p"])) for row in rows[:1]]
    return (None, None), [
        ELSEWHERE.format(run=row["run_id"], there=drawn, here=here, budget=RATE.text(row["rho"])) for row, drawn in there
    ]


def _drawing(temperature: float, top_p: float) -> str:
    """How tokens were drawn; top-p decides nothing in greedy decoding."""
    return f"temperature {temperature:g} and top-p {top_p:g}" if temperature else "temperature 0"
