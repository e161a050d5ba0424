"""What an experiment is refused for before its first server starts: problems, gold answers, tokenizers, prompts, memory.

Faults are noted beside those that reading the file found, so that all are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.errors import RRTIError, UsageError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.experiments import BUNDLED, Complaints, EvaluationSpec, ExperimentSpec
from rrti_sgl.programs.experiments.grid import Cell, Grid
from rrti_sgl.programs.experiments.models import pair_sizes, plan_servers, tokenizer_of
from rrti_sgl.prompts import PromptTemplate
from rrti_sgl.records import ProblemRecord
from rrti_sgl.serving.model_size import ModelSize
from rrti_sgl.tokens.vocabulary import Vocabulary, check_same_vocabulary, load_vocabulary, matching

SHOWN_PROBLEMS = 3
# SGLang takes inputs that are shorter than its context by more than this many tokens.
CONTEXT_KEPT = 6


@dataclass(frozen=True, slots=True)
class PromptPair:
    """What both models are shown of one problem, as text and as token ids."""

    problem: ProblemRecord
    base_text: str
    base_ids: Sequence[int]
    reasoning_text: str
    reasoning_ids: Sequence[int]


@dataclass
class Findings:
    """What the checks loaded on their way.

    Args:
        problem_sets: by name of the evaluation; "calibration" among them.
        vocabularies: by model, "base", "reasoning" and "reference"; a reasoning model's in the pair's ids.
        sizes: by model, where its config.json could be had.
        notes: what could not be checked here, and the memory plan.
    """

    problem_sets: dict[str, ProblemSet] = field(default_factory=dict)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    sizes: dict[str, ModelSize] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_experiment(spec: ExperimentSpec, grid: Grid, complaints: Complaints) -> Findings:
    """Check all that can be known without a server; faults go to `complaints`."""
    findings = Findings()
    for cells in _by_evaluation(grid):
        with complaints.noting((*cells[0].evaluation.path, "problems")):
            problem_set = cells[0].settings.load_problems()
            findings.problem_sets[cells[0].evaluation.name] = problem_set
            _check_gold(problem_set, cells[0].evaluation, complaints)
            _check_planted(problem_set, cells, complaints)
    _check_disjoint(grid, findings, complaints)
    _load_vocabularies(spec, findings, complaints)
    pair_sizes(spec, findings.sizes, findings.notes)
    for cells in _by_evaluation(grid):
        if cells[0].evaluation.name in findings.problem_sets:
            _check_prompts(spec, cells, findings, complaints)
    with complaints.noting(("servers",)):
        findings.notes += plan_servers(spec, findings.sizes)
    return findings


def render_prompts(cell: Cell, findings: Findings, problems: Sequence[ProblemRecord]) -> Iterator[PromptPair]:
    """The prompts of a cell's problems.

    Raises:
        UsageError: a template cannot be rendered, has no generation prompt, or lacks worked examples.
    """
    side = "reference" if cell.reference else "reasoning"
    base, reasoning = findings.vocabularies["base"], findings.vocabularies[side]
    settings = cell.settings.resolved(findings.problem_sets[cell.evaluation.name], base.size)
    shown: list[tuple[PromptTemplate, Vocabulary]] = []
    for template, vocabulary in ((settings.base_prompt, base), (settings.reasoning_prompt, reasoning)):
        assert template is not None  # resolved
        template.check(vocabulary)
        shown.append((template, vocabulary))
    for problem in problems:
        (base_text, base_ids), (text, ids) = (t.render(problem.question, v) for t, v in shown)
        yield PromptPair(problem, base_text, base_ids, text, ids)


def context_of(spec: ExperimentSpec, findings: Findings, side: str) -> int | None:
    """Tokens that a model's server takes, prompt and solution together; None where that is not known here."""
    size = findings.sizes.get(side)
    if spec.servers.context is not None:
        return min(spec.servers.context, size.max_context) if size else spec.servers.context
    return size.max_context if size else None


def _by_evaluation(grid: Grid) -> list[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in grid.all_cells:
        groups.setdefault(cell.evaluation.name, []).append(cell)
    return list(groups.values())


def _check_gold(problem_set: ProblemSet, evaluation: EvaluationSpec, complaints: Complaints) -> None:
    """Note the gold answers that the grader cannot compare with: the first few, and how many there are."""
    check = getattr(problem_set.grader, "check_gold", None)
    if check is None:
        return
    wrong: list[str] = []
    remedy = ""
    for problem in problem_set.problems:
        try:
            check(problem)
        except UsageError as error:
            wrong.append(error.message)
            remedy = error.remedy
    more = f" And {len(wrong) - SHOWN_PROBLEMS} more." if len(wrong) > SHOWN_PROBLEMS else ""
    if wrong:
        complaints.add((*evaluation.path, "problems"), f"{' '.join(wrong[:SHOWN_PROBLEMS])}{more} {remedy}".strip())


def _check_planted(problem_set: ProblemSet, cells: Sequence[Cell], complaints: Complaints) -> None:
    if problem_set.planted is None and any(cell.settings.program == "oracle" for cell in cells):
        message = f"{problem_set.name} plants no decisions, so there is no oracle for it. Leave it out of the oracle's `on`."
        complaints.add((*cells[0].evaluation.path, "problems"), message)


def _check_disjoint(grid: Grid, findings: Findings, complaints: Complaints) -> None:
    calibration = findings.problem_sets.get("calibration")
    if calibration is None:
        return
    used = {problem.problem_id for problem in calibration.problems}
    for cells in _by_evaluation(grid):
        evaluation = cells[0].evaluation
        problem_set = findings.problem_sets.get(evaluation.name)
        asked = any(cell.threshold is not None for cell in cells)
        if problem_set is None or evaluation.option("allow_overlap") or not asked:
            continue
        shared = sum(problem.problem_id in used for problem in problem_set.problems)
        if shared:
            message = f"{shared} of its {len(problem_set.problems)} problems are the calibration's, too."
            remedy = 'Write split = "evaluation" here and split = "calibration" there, or allow_overlap = true.'
            complaints.add((*evaluation.path, "problems"), f"{message} {remedy}")


def _load_vocabularies(spec: ExperimentSpec, findings: Findings, complaints: Complaints) -> None:
    for side, model in spec.models.by_side.items():
        asked = "tokenizer" if model.tokenizer else "model"
        here = model.tokenizer is not None or model.model == BUNDLED or Path(model.model).is_dir()
        if spec.servers.running and not here:
            findings.notes.append(f"The {side} model's tokenizer is its server's: prompts are checked when it is connected.")
            continue
        try:
            findings.vocabularies[side] = load_vocabulary(tokenizer_of(spec, side))
        except UsageError as error:
            remedy = "Name a hub id that this machine can reach, or a folder in a field `tokenizer`."
            complaints.add(("models", side, asked), f"{error.message} {remedy}")
    base = findings.vocabularies.get("base")
    for side in ("reasoning", "reference"):
        other = findings.vocabularies.get(side)
        if base is None or other is None:
            continue
        try:
            if spec.decoding.option("special_tokens") == "mapped":
                other = findings.vocabularies[side] = matching(base, other)
            lines = check_same_vocabulary(base, other)
        except RRTIError as error:
            complaints.add(("models", side, "model"), str(error))
            continue
        if lines:
            findings.notes.append(f"Special tokens that only one of base and {side} has: {'; '.join(lines)}.")
    k = spec.decoding.option("k")
    if base is not None and k > base.size:
        complaints.add(("decoding", "k"), f"{k} is above {base.size}, the vocabulary. 0 takes all of it.")


def _check_prompts(spec: ExperimentSpec, cells: Sequence[Cell], findings: Findings, complaints: Complaints) -> None:
    """Templates, and the length of every prompt with the longest solution, once for each pair of models."""
    evaluation = cells[0].evaluation
    problem_set = findings.problem_sets[evaluation.name]
    limit = cells[0].settings.max_new_tokens or problem_set.max_new_tokens
    for reference in (False, True):
        side = "reference" if reference else "reasoning"
        cell = next((cell for cell in cells if cell.reference is reference), None)
        if cell is None or not {"base", side} <= set(findings.vocabularies):
            continue
        before = len(complaints.found)
        with complaints.noting(("models", "base", "few_shot")):
            cell.settings.resolved(problem_set, findings.vocabularies["base"].size)
        if len(complaints.found) > before:
            continue
        with complaints.noting(_template_path(spec, evaluation, side)):
            prompts = list(render_prompts(cell, findings, problem_set.problems))
            lengths = {"base": [len(p.base_ids) for p in prompts], side: [len(p.reasoning_ids) for p in prompts]}
            for name, found in lengths.items():
                _check_length(spec, evaluation, findings, name, found, limit, complaints)


def _check_length(
    spec: ExperimentSpec,
    evaluation: EvaluationSpec,
    findings: Findings,
    side: str,
    lengths: Sequence[int],
    limit: int,
    complaints: Complaints,
) -> None:
    context = context_of(spec, findings, side)
    if min(lengths) == 0:
        complaints.add((*evaluation.path, "problems"), f"a {side} prompt is empty. Check the question and the template.")
    if context is None:
        findings.notes.append(f"The {side} model's context is not known here: lengths are checked when it is connected.")
    elif max(lengths) + limit > context - CONTEXT_KEPT:
        room = max(context - CONTEXT_KEPT - max(lengths), 0)
        message = (
            f"a {side} prompt of {max(lengths):,} tokens and a solution of {limit:,} exceed the {side} model's context of "
            f"{context:,} (SGLang keeps {CONTEXT_KEPT} of it). Use max_new_tokens = {room} or less, or a longer context."
        )
        name = "max_new_tokens" if "max_new_tokens" in spec.decoding.options | evaluation.options else "problems"
        complaints.add((*evaluation.path, name), message)


def _template_path(spec: ExperimentSpec, evaluation: EvaluationSpec, side: str) -> tuple[str | int, ...]:
    if "reasoning_template" in evaluation.options:
        return (*evaluation.path, "reasoning_template")
    model = spec.models.by_side[side]
    named = "template" if model.template else "prompt" if model.prompt else "model"
    return ("models", side, named)
