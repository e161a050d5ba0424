"""From an experiment file to its grid: the calibration, then one run for each program, evaluation and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rrti_sgl import bounds
from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.spec import REASONING, EvaluationSpec, ExperimentSpec, ProgramSpec, ReasoningModelSpec
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.running.settings import RunSettings, settings_from

_EXCHANGED = ", exchanged"
AnyEvaluation = TypeVar("AnyEvaluation", bound=EvaluationSpec)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the grid.

    Args:
        label: what it is called among the runs of its evaluation.
        evaluation: the problems and the sampling.
        settings: everything that decides the run's result, but for the calibration's id.
        threshold: metric and spike ratio of the calibration that it needs; None: it needs none.
        guest: the model beside the base model: "reasoning", a guest by name, or "reference", which is run alone.
        followed: the run before it that it takes over as often as, which `like` names by its label.
    """

    label: str
    evaluation: EvaluationSpec
    settings: RunSettings
    threshold: tuple[str, float] | None = None
    guest: str = REASONING
    followed: Cell | None = None

    @property
    def name(self) -> str:
        """What it is called in the whole grid."""
        return f"{self.evaluation.name}: {self.label}"


@dataclass(frozen=True, slots=True)
class Grid:
    """All runs of an experiment, in the order in which they are made: guest by guest, the reference model last.

    Args:
        calibrations: by guest.
        cells: all others.
    """

    calibrations: Mapping[str, Cell]
    cells: tuple[Cell, ...]

    @property
    def guests(self) -> list[str]:
        """The models beside the base model that have a run."""
        return list(dict.fromkeys([*self.calibrations, *(cell.guest for cell in self.cells)]))

    @property
    def all_cells(self) -> list[Cell]:
        """The calibrations and the rest."""
        return [cell for guest in self.guests for cell in self.of_pair(guest)]

    def of_pair(self, guest: str) -> list[Cell]:
        """The runs with one guest, its calibration first."""
        calibration = [self.calibrations[guest]] if guest in self.calibrations else []
        return [*calibration, *(cell for cell in self.cells if cell.guest == guest)]

    def thresholds(self, guest: str) -> list[tuple[str, float]]:
        """Metric and spike ratio of every calibration of one guest that is needed, each once."""
        return list(dict.fromkeys(cell.threshold for cell in self.of_pair(guest) if cell.threshold is not None))


def build_grid(spec: ExperimentSpec, complaints: Complaints, *, limit: int | None = None) -> Grid:
    """The grid of an experiment; what cannot be run is noted and left out.

    Args:
        spec: the file.
        complaints: where faults go.
        limit: take no more than so many problems of every set, to try an experiment out.
    """
    spec = _limited(spec, limit)
    variants = sum(program.n_variants for program in spec.programs)
    n_runs = variants * sum(len(evaluation.seeds) for evaluation in spec.evaluations)
    if n_runs > bounds.RUNS:
        message = f"the lists make {n_runs:,} runs; an experiment has at most {bounds.RUNS:,}. Shorten them."
        complaints.add(("programs",), message)
        complaints.raise_if_any()
    cells = list(_cells(spec, complaints))
    if not spec.calibration:
        for cell, program in cells:
            if cell.threshold is not None:
                message = "tau comes from a calibration, and there is no [calibration]. Add one, or give tau."
                complaints.add((*program.path, "program"), message)
    _check_labels(spec, cells, complaints)
    found = [*(cell for cell, _ in cells), *_reference_cells(spec, complaints)]
    order = list(spec.models.by_side)
    found.sort(key=lambda cell: order.index(cell.guest))
    return Grid(_calibrations(spec, found, complaints), tuple(found))


def _limited(spec: ExperimentSpec, limit: int | None) -> ExperimentSpec:
    if limit is None:
        return spec

    def fewer(evaluation: AnyEvaluation) -> AnyEvaluation:
        return evaluation.model_copy(update={"limit": min(limit, evaluation.option("limit") or limit)})

    changed: dict[str, Any] = {"evaluations": tuple(map(fewer, spec.evaluations))}
    if spec.calibration is not None:
        changed["calibration"] = fewer(spec.calibration)
    return spec.model_copy(update=changed)


def _cells(spec: ExperimentSpec, complaints: Complaints) -> Iterator[tuple[Cell, ProgramSpec]]:
    for evaluation in spec.evaluations:
        by_label: dict[str, Cell] = {}
        for program in spec.programs:
            if program.on and evaluation.name not in program.on:
                continue
            for cell in _variants(spec, evaluation, program, complaints):
                if (like := cell.settings.gate.like) is not None:
                    seed = _seed_suffix(evaluation, cell.settings.seed)
                    followed = by_label.get(like + _guest_suffix(cell.guest) + seed, by_label.get(like + seed))
                    cell = replace(cell, followed=followed)
                    if followed is not None and followed.guest != cell.guest:
                        message = f"{like!r} has another guest, {followed.guest!r}. Name a run with {cell.guest!r}."
                        complaints.add((*program.path, "like"), message)
                    if cell.followed is None:
                        known = ", ".join(map(repr, by_label)) or "none"
                        message = f"no {like!r} runs before it on {evaluation.name!r}. There are {known}."
                        complaints.add((*program.path, "like"), message)
                by_label[cell.label] = cell
                yield cell, program


def _variants(
    spec: ExperimentSpec, evaluation: EvaluationSpec, program: ProgramSpec, complaints: Complaints
) -> Iterator[Cell]:
    """The runs of one program on one evaluation; variants that their gates do not name are told by their options."""
    made = [
        (variant, cell)
        for guest in program.guest
        for variant in program.variants
        for seed in evaluation.seeds
        if (cell := _cell(spec, evaluation, program, guest, variant, seed, complaints)) is not None
    ]
    alike: dict[str, list[Mapping[str, Any]]] = {}
    for variant, cell in made:
        alike.setdefault(cell.label, []).append(variant)
    for variant, cell in made:
        same = alike[cell.label]
        told = [f"{name} {value}" for name, value in variant.items() if any(other[name] != value for other in same)]
        suffix = _guest_suffix(cell.guest) + _seed_suffix(evaluation, cell.settings.seed)
        yield replace(cell, label=", ".join([cell.label, *told]) + suffix)


def _cell(
    spec: ExperimentSpec,
    evaluation: EvaluationSpec,
    program: ProgramSpec,
    guest: str,
    variant: Mapping[str, Any],
    seed: int,
    complaints: Complaints,
) -> Cell | None:
    model = {REASONING: spec.models.reasoning, **spec.models.guests}.get(guest)
    if model is None:
        known = ", ".join(map(repr, (REASONING, *spec.models.guests)))
        complaints.add((*program.path, "guest"), f"there is no [models.guests.{guest}]. There are {known}.")
        return None
    settings = _settings(spec, model, evaluation, program.program, seed, complaints, **variant)
    if settings is None:
        return None
    threshold = needed_threshold(program.program, settings.gate, spec.spike_ratio)
    if threshold is not None and settings.exchanged != spec.decoding.option("exchanged"):
        message = "[calibration] is of rollouts in the other direction. Give tau, or a run to take over `like`."
        complaints.add((*program.path, "exchanged"), message)
    if threshold is not None:
        settings = replace(settings, gate=replace(settings.gate, spike_ratio=threshold[1]))
    label = program.label or variant_label(program.program, settings.gate)
    if settings.exchanged and not spec.decoding.option("exchanged") and not label.endswith(_EXCHANGED):
        label += _EXCHANGED
    return Cell(label, evaluation, settings, threshold, guest)


def _guest_suffix(guest: str) -> str:
    return "" if guest == REASONING else f", guest {guest}"


def _seed_suffix(evaluation: EvaluationSpec, seed: int) -> str:
    return f", seed {seed}" if len(evaluation.seeds) > 1 else ""


def needed_threshold(program: str, gate: GateOptions, spike_ratio: float) -> tuple[str, float] | None:
    """Metric and spike ratio of the calibration that a program takes its thresholds (or its length) from, if any."""
    metric = PROGRAMS[program].calibrated_on(gate)
    if metric is None or gate.gate is not None or gate.has_thresholds:
        return None
    return metric, gate.spike_ratio or spike_ratio


def variant_label(program: str, gate: GateOptions) -> str:
    """A short name of a program with its options."""
    parts = [{"early": "early-only"}.get(program, program)]
    kinds = {"deferral": gate.deferral, "matched": "token" if gate.match == "token" else ""}
    parts += [kinds[program]] if kinds.get(program) else []
    if gate.gate is not None:
        parts.append(gate.gate.rpartition(":")[2])
    elif gate.like is not None:
        parts.append(f"like {gate.like.removeprefix('guided ')}")
    elif program in ("random", "early"):
        parts.append(f"{gate.budget:.0%}")
    elif program in ("guided", "entropy", "relay") or (program == "deferral" and gate.tau is not None):
        parts.append(f"r={gate.spike_ratio:.2g}" if gate.tau is None and gate.spike_ratio else f"tau={gate.tau:.3g}")
        parts += [gate.metric] if gate.metric != "ce" and program != "entropy" else []
        parts += [f"{gate.relay_tokens} tokens"] if program == "relay" else []
        parts += [f"lambda, t<W: {gate.warmup}"] if gate.use_lambda else []
    parts += [f"rolling {gate.rolling}"] if gate.rolling > 1 else []
    parts += [f"H>{gate.entropy_tau:.3g}"] if gate.entropy_tau is not None else []
    parts += [f"cooldown {gate.cooldown}"] if gate.cooldown else []
    return " ".join(parts)


def _calibrations(spec: ExperimentSpec, cells: Sequence[Cell], complaints: Complaints) -> dict[str, Cell]:
    """Base rollouts that the reasoning model scores, and each guest that a threshold is needed of."""
    evaluation = spec.calibration
    if evaluation is None:
        return {}
    found = {}
    for guest, model in {REASONING: spec.models.reasoning, **spec.models.guests}.items():
        if guest == REASONING or any(cell.guest == guest and cell.threshold is not None for cell in cells):
            settings = _settings(spec, model, evaluation, "diagnose", evaluation.seeds[0], complaints)
            if settings is not None:
                found[guest] = Cell(f"diagnose{_guest_suffix(guest)}", evaluation, settings, guest=guest)
    return found


def _reference_cells(spec: ExperimentSpec, complaints: Complaints) -> Iterator[Cell]:
    if spec.models.reference is None:
        return
    for evaluation in spec.evaluations:
        for seed in evaluation.seeds:
            # It writes alone, whoever writes in the runs of the pair.
            settings = _settings(spec, spec.models.reference, evaluation, "reasoning", seed, complaints, exchanged=False)
            if settings is not None:
                yield Cell(f"reference{_seed_suffix(evaluation, seed)}", evaluation, settings, guest="reference")


def _settings(
    spec: ExperimentSpec,
    reasoning: ReasoningModelSpec,
    evaluation: EvaluationSpec,
    program: str,
    seed: int,
    complaints: Complaints,
    **variant: Any,
) -> RunSettings | None:
    """The settings of one run; None where something of them is wrong, which is noted."""
    options: dict[str, Any] = {"few_shot": spec.models.base.few_shot, "thinking": reasoning.thinking, "seed": seed}
    for side, model in (("base", spec.models.base), ("reasoning", reasoning)):
        if f"{side}_template" not in evaluation.options:
            options |= {f"{side}_template": model.template, f"{side}_prompt": model.prompt}
    settings = None
    with complaints.noting(evaluation.path):
        settings = settings_from(program, **options | spec.decoding.options | evaluation.options | variant)
    return settings


def _check_labels(spec: ExperimentSpec, cells: list[tuple[Cell, ProgramSpec]], complaints: Complaints) -> None:
    seen: set[tuple[str, str]] = set()
    for cell, program in cells:
        if (name := (cell.evaluation.name, cell.label)) in seen:
            message = f"a second {cell.label!r} on {cell.evaluation.name}. Leave it out, or give it a label of its own."
            complaints.add(program.path, message)
        seen.add(name)
    empty = [evaluation for evaluation in spec.evaluations if not any(cell.evaluation is evaluation for cell, _ in cells)]
    for evaluation in empty:
        if cells:
            complaints.add((*evaluation.path, "name"), f"no program runs on {evaluation.name!r}. Name it in their `on`.")
