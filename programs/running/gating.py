"""The gate of a program: from its options, and from the calibration that its thresholds come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.grading import PlantedDecisions
from rrti_sgl.programs.program import GateContext, GateOptions, Program
from rrti_sgl.programs.registry import PROGRAMS, find_program
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import known_calibrations, newest_calibration, of_what_is_compared
from rrti_sgl.programs.stored.followed import followed_run
from rrti_sgl.records import CalibrationRecord, RunRecord, ScoreKind
from rrti_sgl.science.calibration import check_compatible
from rrti_sgl.science.doubt import DoubtGate
from rrti_sgl.science.gates import Gate, ThresholdGate, load_gate

_NO_OPTIONS = GateOptions()


@dataclass(frozen=True, slots=True)
class ChosenGate:
    """A gate that is ready, the calibration or the run that it has its thresholds from, and the tokens of one takeover."""

    gate: Gate
    calibration: CalibrationRecord | None = None
    takeover_tokens: int = 1
    followed: RunRecord | None = None


def check_calibration(store: Store, settings: RunSettings) -> None:
    """Refuse a calibration that is not there or that the program would not use, and a store without one that it needs.

    Raises:
        UsageError: names it.
    """
    program, options = find_program(settings.program), settings.gate
    if settings.calibration_id is not None:
        _refuse_unused(settings.calibration_id, program, options)
        store.get_calibration(settings.calibration_id)
        return
    metric = None if options.gate is not None else program.calibrated_on(options)
    if metric is None or options.has_thresholds:
        return
    if not store.sql("SELECT 1 FROM calibrations WHERE metric = $metric LIMIT 1", {"metric": metric}).num_rows:
        raise UsageError(
            f"{program.name} takes its threshold from a calibration of {metric}, and {store.path} has none"
            f"{known_calibrations(store)}.",
            f"Make one first: {_calibrating(store, metric)}. Or give {argument('tau')}.",
        )


def _calibrating(store: Store, metric: str) -> str:
    given: dict[str, str | Path] = {} if metric == "ce" else {"metric": metric}
    return f"`{command('calibrate', **given, db=store.path)}`"


def _refuse_unused(calibration_id: str, program: Program, options: GateOptions) -> None:
    if options.gate is not None or program.calibrated_on(options) is None:
        who = program.name if options.gate is None else f"The gate {options.gate}"
        value = argument("calibration_id", calibration_id)
        raise UsageError(f"{value} does nothing: {who} takes no threshold from a calibration here.", "Leave it out.")


def _cooling(program: str, gate: Gate, cooldown: int) -> Gate:
    if gate.foregone or not isinstance(gate, ThresholdGate):
        message = f"{argument('cooldown', cooldown)} does nothing: no gate of {program} chooses where to take over."
        raise UsageError(message, "Leave it out.")
    return gate.cooling(cooldown)


def _check_used(program: str, gate: Gate, options: GateOptions) -> None:
    """Refuse options of a threshold on scores that the gate does not have."""
    unused = {
        "rolling": options.rolling > 1 and (gate.rule is None or gate.rule.rolling == 1),
        "entropy_tau": options.entropy_tau is not None and not isinstance(gate, DoubtGate),
    }
    for name in (name for name, wrong in unused.items() if wrong):
        able = "guided, relay and entropy" if name == "rolling" else "guided and relay"
        message = f"{argument(name, getattr(options, name))} does nothing: it is of the gates of {able}, not of {program}."
        raise UsageError(message, "Leave it out.")


def choose_gate(
    pair: Pair,
    program: str,
    options: GateOptions,
    *,
    k: int,
    score_kind: ScoreKind = "topk",
    store: Store | None = None,
    calibration_id: str | None = None,
    planted: PlantedDecisions | None = None,
) -> ChosenGate:
    """Build the gate of a program, or the user's own where the options name one.

    Args:
        pair: the models.
        program: by name.
        options: of the gate.
        k: top log-probabilities that scores are computed from.
        score_kind: of these scores.
        store: where calibrations are; None: the options must hold the thresholds.
        calibration_id: which calibration; None takes the newest that fits, if a threshold is missing.
        planted: knows planted decisions, for `oracle`.

    Raises:
        UsageError: no threshold, a calibration that is not there or not used, or a run that cannot be followed.
        CalibrationMismatchError: the named calibration is for other models, scores or k.
    """
    found = find_program(program)
    if calibration_id is not None:
        _refuse_unused(calibration_id, found, options)
    if options.gate is not None:
        for name in ("rolling", "entropy_tau", "cooldown"):
            if getattr(options, name) != getattr(_NO_OPTIONS, name):
                raise UsageError(f"{argument(name)} is of the programs' gates.", "Give a gate of your own its own rule.")
        return ChosenGate(load_gate(options.gate, options.gate_params), takeover_tokens=found.takeover_tokens(options))
    metric, kind = found.calibrated_on(options), pair.score_kind(k, score_kind)
    calibration = None
    if metric is not None and store is not None:
        if calibration_id is not None:
            calibration = store.get_calibration(calibration_id)
        elif not options.has_thresholds:
            calibration = newest_calibration(store, pair, metric, k, kind, options.spike_ratio)
    if calibration is not None and metric is not None:
        check_compatible(
            calibration,
            metric=metric,
            score_kind=kind,
            k=k,
            base_model=pair.base.info.model,
            reasoning_model=pair.reasoning.info.model,
            tokenizer_hash=pair.tokenizer_hash,
        )
    if options.like is not None and not found.follows:
        able = ", ".join(name for name, known in PROGRAMS.items() if known.follows)
        raise UsageError(
            f"{program} does not take over like another run.", f"Leave {argument('like')} out; it is for {able}."
        )
    followed = followed_run(store, options.like) if options.like is not None and store is not None else None
    thresholds = calibration
    if calibration is not None and store is not None and options.tau is None:
        thresholds = of_what_is_compared(store, calibration, rolling=options.rolling, entropy_tau=options.entropy_tau)
    gate = found.make_gate(options, GateContext(thresholds, planted, pair.vocabulary, followed))
    _check_used(program, gate, options)
    if options.cooldown:
        gate = _cooling(program, gate, options.cooldown)
    return ChosenGate(gate, calibration, found.takeover_tokens(options), followed.run if followed else None)
