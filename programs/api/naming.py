"""Names of models: each is a program, `guided@0.08` one of another budget. Gates are made once and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair, check_k
from rrti_sgl.errors import RRTIError, UsageError, argument
from rrti_sgl.programs.api.fields import OwnSample, Steering
from rrti_sgl.programs.api.refusals import RefusedError, no_model, of_field
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.running.gating import ChosenGate, choose_gate
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.science.gates import gate_of

# Others need a problem with planted decisions, or another run.
SERVED: Final = ("base", "reasoning", "guided", "entropy", "random", "early", "relay", "diagnose")
_BUDGETED: Final = ("random", "early")  # their budget is an option; that of the others is their calibration's spike ratio
_KEPT = 256


@dataclass(frozen=True)
class Model:
    """A name as it was asked for, its settings, and its gate."""

    name: str
    settings: RunSettings
    chosen: ChosenGate


class Models:
    """The models of an endpoint.

    Args:
        pair: connected models.
        settings: of every request, where it says nothing else; resolved but for the program.
        store: where calibrations are; None: thresholds are options, or in requests.
    """

    def __init__(self, pair: Pair, settings: RunSettings, store: Store | None) -> None:
        self._pair, self._settings, self._store = pair, settings, store
        self._known: OrderedDict[tuple[str, object, object], Model] = OrderedDict()

    def find(self, name: str, steering: Steering) -> Model:
        """The model of a name, steered as a request says.

        Raises:
            RefusedError: there is no such model.
            UsageError: it has no threshold, or an option does not suit it.
        """
        if steering.sample is not None:
            return self._as_sampled(name, steering.sample)
        key = (name, steering.tau, (type(steering.lambda_), steering.lambda_))
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        model = self._made(name, steering)
        self._known[key] = model
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return model

    def _as_sampled(self, name: str, sample: OwnSample) -> Model:
        """The model of a sample of a client's own run: its gate is of this package, by name and parameters."""
        _check_name(name, name)
        settings = replace(self._settings, program=name, k=sample.k, score_kind="topk", draft_tokens=sample.draft_tokens)
        settings = replace(settings, paced_drafts=sample.paced)
        check_k(sample.k, self._pair.vocab_size)
        return Model(name, settings, ChosenGate(gate_of(sample.gate, sample.gate_params), None, sample.takeover_tokens))

    def names(self) -> Sequence[str]:
        """Those that need nothing in the request: every program that has its gate, and calibrated budgets."""
        ratios = []
        if self._store is not None:
            query = "SELECT DISTINCT metric, spike_ratio FROM calibrations ORDER BY ALL"
            ratios = [(row["metric"], row["spike_ratio"]) for row in self._store.sql(query).to_pylist()]
        found = []
        for program in SERVED:
            metric = None if program in _BUDGETED else PROGRAMS[program].calibrated_on(self._settings.gate)
            for name in (program, *(f"{program}@{ratio:g}" for of, ratio in ratios if of == metric)):
                if self._serves(name):
                    found.append(name)
        return found

    def _serves(self, name: str) -> bool:
        try:
            self.find(name, Steering())
        except (RRTIError, RefusedError):
            return False
        return True

    def _made(self, name: str, steering: Steering) -> Model:
        program, at, budget = name.partition("@")
        _check_name(program, name)
        gate = self._settings.gate
        if at:
            gate = _with_budget(gate, program, budget)
        if steering.tau is not None:
            if PROGRAMS[program].calibrated_on(gate) is None or program in _BUDGETED:
                raise of_field("rrti.tau", f"{program} has no threshold.")
            gate = replace(gate, tau=steering.tau)
        if steering.lambda_ is not None:
            factor = steering.lambda_ if not isinstance(steering.lambda_, bool) else gate.lambda_
            gate = replace(gate, use_lambda=steering.lambda_ is not False, lambda_=factor and float(factor))
        settings = replace(self._settings, program=program, gate=gate)
        chosen = choose_gate(
            self._pair,
            program,
            gate,
            k=settings.k,
            score_kind=settings.score_kind,
            store=self._store,
            calibration_id=settings.calibration_id if PROGRAMS[program].calibrated_on(gate) else None,
        )
        calibration = chosen.calibration
        return Model(name, replace(settings, calibration_id=calibration.calibration_id if calibration else None), chosen)


def _check_name(program: str, name: str) -> None:
    if program not in SERVED:
        known = f"There are {', '.join(SERVED)}, and with a budget for example guided@0.08."
        raise no_model(f"There is no model {name!r}. {known}")


def _with_budget(gate: GateOptions, program: str, text: str) -> GateOptions:
    """The options with the number after `@`: a share of positions, or the spike ratio of a calibration."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1 or program in ("base", "reasoning", "diagnose"):
        why = f"{program} has no budget." if 0 < value <= 1 else "a budget is a number in (0, 1]."
        raise no_model(f"{program}@{text[:20]} is no model: {why}")
    return replace(gate, budget=value) if program in _BUDGETED else replace(gate, spike_ratio=value, tau=None)


def check_served(settings: RunSettings) -> None:
    """Refuse options of an endpoint that requests cannot have.

    Raises:
        UsageError: names them.
    """
    if settings.exchanged:
        raise UsageError("An endpoint does not exchange its models' roles.", f"Leave {argument('exchanged')} out.")
    if settings.gate.gate is not None or settings.gate.like is not None:
        raise UsageError(
            "The endpoint's gates are those of the programs.", f"Leave {argument('gate')} and {argument('like')} out."
        )
