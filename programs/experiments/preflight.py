"""What an experiment is refused for before its first server starts: problems, gold answers, tokenizers, prompts, memory.

The checks are those of the runs, on a pair of models that are not served yet. Faults are noted beside those that reading the
file found, so that all are told at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import RRTIError, UsageError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.experiments.checking import Checked, check_cells, told_with
from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.grid import Cell, Grid
from rrti_sgl.programs.experiments.locations import Path as FieldPath
from rrti_sgl.programs.experiments.models import context_of, pair_sizes, plan_servers, planned_engine, tokenizer_of
from rrti_sgl.programs.experiments.spec import BUNDLED, REASONING, ExperimentSpec
from rrti_sgl.programs.running.preconditions import check_disjoint, check_gold
from rrti_sgl.serving.model_size import ModelSize
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary, matching


@dataclass
class Findings:
    """What the checks loaded on their way.

    Args:
        problem_sets: by name of the evaluation; "calibration" among them.
        pairs: by the model beside the base, "reasoning", "reference" or a guest, where both tokenizers could be had;
            nothing is served, so their engines answer nothing.
        sizes: by model, where its config.json could be had.
        notes: what could not be checked here, and the memory plan.
    """

    problem_sets: dict[str, ProblemSet] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    sizes: dict[str, ModelSize] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def vocab_size(self) -> int:
        """Entries of the models' distributions; 0 where that is not known here."""
        known = [pair.vocab_size for pair in self.pairs.values()] + [size.vocab_size for size in self.sizes.values()]
        return known[0] if known else 0


def check_experiment(spec: ExperimentSpec, grid: Grid, complaints: Complaints) -> Findings:
    """Check all that can be known without a server; faults go to `complaints`."""
    findings = Findings()
    for cell in grid.all_cells:
        name = cell.evaluation.name
        if name not in findings.problem_sets:
            with complaints.noting((*cell.evaluation.path, "problems")):
                findings.problem_sets[name] = cell.settings.load_problems()
                check_gold(findings.problem_sets[name])
    _check_disjoint(grid, findings, complaints)
    pair_sizes(spec, findings.sizes, findings.notes)
    _load_pairs(spec, findings, complaints)
    for side, pair in findings.pairs.items():
        check_cells(
            pair, grid.of_pair(side), findings.problem_sets, lambda cell, what: _noting(spec, cell, what, complaints)
        )
    with complaints.noting(("servers",)):
        findings.notes += plan_servers(spec, findings.sizes)
    return findings


@contextlib.contextmanager
def _noting(spec: ExperimentSpec, cell: Cell, what: Checked, complaints: Complaints) -> Iterator[None]:
    """Note the error of a check at the field of the file that it is about."""
    others = {REASONING: "", "reference": "With the reference model: "}
    with complaints.noting(_field_of(spec, cell, what)), told_with(others.get(cell.guest, f"With the guest {cell.guest}: ")):
        yield


def _field_of(spec: ExperimentSpec, cell: Cell, what: Checked) -> FieldPath:
    evaluation = cell.evaluation
    if what == "few_shot":
        return ("models", "base", "few_shot")
    if what == "k":
        return ("decoding", "k")
    if what == "templates" and "reasoning_template" in evaluation.options:
        return (*evaluation.path, "reasoning_template")
    if what == "templates":
        model = spec.models.by_side[cell.guest]
        return spec.models.path_of(cell.guest, "template" if model.template else "prompt" if model.prompt else "model")
    given = spec.decoding.options | evaluation.options
    return (*evaluation.path, "max_new_tokens" if what == "room" and "max_new_tokens" in given else "problems")


def _check_disjoint(grid: Grid, findings: Findings, complaints: Complaints) -> None:
    """The problems of the calibration are no others' that need it."""
    calibration = findings.problem_sets.get("calibration")
    used = {problem.problem_id for problem in calibration.problems} if calibration else set()
    for cell in grid.cells:
        problem_set = findings.problem_sets.get(cell.evaluation.name)
        if cell.threshold is not None and problem_set is not None and not cell.settings.allow_overlap:
            with complaints.noting((*cell.evaluation.path, "problems")):
                check_disjoint(used, problem_set, "the calibration")


def _load_pairs(spec: ExperimentSpec, findings: Findings, complaints: Complaints) -> None:
    vocabularies: dict[str, Vocabulary] = {}
    for side, model in spec.models.by_side.items():
        here = model.tokenizer is not None or model.model == BUNDLED or Path(model.model).is_dir()
        if spec.servers.running and not here:
            findings.notes.append(f"The {side} model's tokenizer is its server's: prompts are checked when it is connected.")
            continue
        try:
            vocabularies[side] = load_vocabulary(tokenizer_of(spec, side))
        except UsageError as error:
            remedy = "Name a hub id that this machine can reach, or a folder in a field `tokenizer`."
            path = spec.models.path_of(side, "tokenizer" if model.tokenizer else "model")
            complaints.add(path, f"{error.message} {remedy}")
    special_tokens = spec.decoding.option("special_tokens")
    base = vocabularies.pop("base", None)
    if base is None:
        return
    for side, vocabulary in vocabularies.items():
        try:
            other = matching(base, vocabulary) if special_tokens == "mapped" else vocabulary
            lines = check_same_vocabulary(base, other)
        except RRTIError as error:
            complaints.add(spec.models.path_of(side, "model"), str(error))
            continue
        if spec.servers.fused and other.renumbered:
            message = (
                f"its special tokens have other ids than the base model's ({other.renumbered}), which one server for both "
                "models cannot renumber. Leave fused out of [servers], or write special_tokens = 'as-is' in [decoding]."
            )
            complaints.add(spec.models.path_of(side, "model"), message)
        if lines:
            findings.notes.append(f"Special tokens that only one of base and {side} has: {'; '.join(lines)}.")
        for name in ("base", side):
            if context_of(spec, findings.sizes, name) is None:
                note = f"The {name} model's context is not known here: lengths are checked when it is connected."
                findings.notes.append(note)
        served, guiding = (planned_engine(spec, findings.sizes, name, base.size) for name in ("base", side))
        findings.pairs[side] = Pair(served, guiding, base, other, special_tokens)
