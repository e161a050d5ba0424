"""What an experiment file says, as records. Every field is explained in docs/experiments.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rrti_sgl.decoding.engine import Decoding
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import Part
from rrti_sgl.programs.experiments import locations
from rrti_sgl.records import ScoreKind
from rrti_sgl.tokens.special_tokens import SpecialTokens

BUNDLED = "bundled"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model.

    Args:
        model: hub id or folder; "bundled" is the pair that comes with the package.
        tokenizer: folder or hub id of its tokenizer; None takes the model's.
        template: prompt template, by name or file; None takes the problem set's.
        prompt: a template as text, in place of `template`.
        few_shot: worked examples in its prompt.
        thinking: value of `enable_thinking` in its chat template.
        flags: SGLang flags of its server.
    """

    model: str
    tokenizer: str | None = None
    template: str | None = None
    prompt: str | None = None
    few_shot: int | None = None
    thinking: bool = True
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """Where the models run: servers that are running, or how they are to be started.

    Args:
        base_url, reasoning_url, reference_url: addresses of running servers; None starts them.
        api_key_env: environment variable that holds the key of running servers.
        device: "cpu", "cuda" or "auto".
        context: tokens of the longest sequence, prompt and solution; None: what the models were made for.
        concurrency: sequences of that length to have memory for.
        base_gpus, reasoning_gpus: indices of GPUs.
        replicas: servers of each model.
        flags: SGLang flags of all servers.
        gpu_gib: memory of the GPU that `--dry-run` plans for on a machine without one, in GiB.
    """

    base_url: str | None = None
    reasoning_url: str | None = None
    reference_url: str | None = None
    api_key_env: str = "RRTI_API_KEY"
    device: str = "auto"
    context: int | None = None
    concurrency: int | None = None
    base_gpus: tuple[int, ...] | None = None
    reasoning_gpus: tuple[int, ...] | None = None
    replicas: int = 1
    flags: tuple[str, ...] = ()
    gpu_gib: float | None = None

    @property
    def running(self) -> bool:
        """Whether the servers run already."""
        return self.base_url is not None


@dataclass(frozen=True, slots=True)
class DecodingSpec:
    """What all runs have in common; see `rrti_sgl.programs.running.settings.RunSettings`. `in_flight`: samples at once."""

    k: int = 20
    score_kind: ScoreKind = "topk"
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    draft_tokens: int = 12
    loop: Decoding = "chunked"
    in_flight: int = 64
    special_tokens: SpecialTokens = "mapped"
    tagger: str | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSpec:
    """Problems, and how they are sampled. The calibration is one, too.

    Args:
        name: what it is called.
        problems: set by name, or the path of a file.
        question_field, answer_field, choices_field: fields of a file.
        split, sample_problems, problem_seed, limit: which problems (`rrti_sgl.problems.Selection`).
        grader: None takes the set's own.
        base_template, reasoning_template: in place of the models' own.
        samples: samples for each problem.
        seeds: one run of every program for each.
        temperature, top_p, max_new_tokens: of these runs; `max_new_tokens` None takes the set's.
        typical_tokens: tokens of a usual solution, to plan with until it is measured.
        typical_reasoning_tokens: the same where a reasoning model writes alone.
        allow_overlap: evaluate on problems of the calibration, too.
        path: of its table in the file.
    """

    name: str
    problems: str
    question_field: str = "question"
    answer_field: str = "answer"
    choices_field: str | None = None
    split: Part = "all"
    sample_problems: int | None = None
    problem_seed: int = 0
    limit: int | None = None
    grader: str | None = None
    base_template: str | None = None
    reasoning_template: str | None = None
    samples: int = 1
    seeds: tuple[int, ...] = (0,)
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    typical_tokens: int | None = None
    typical_reasoning_tokens: int | None = None
    allow_overlap: bool = False
    path: locations.Path = ()


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program, with one or more variants of its gate.

    Args:
        program: its name.
        label: what its rows are called; None: the program and its options.
        variants: gate options by name (`rrti_sgl.programs.program.GateOptions`), one mapping for each variant.
        on: names of the evaluations that it runs on; none: all.
        path: of its table in the file.
    """

    program: str
    label: str | None
    variants: tuple[Mapping[str, Any], ...]
    on: tuple[str, ...] = ()
    path: locations.Path = ()


@dataclass(frozen=True, slots=True)
class ExperimentSpec:
    """One experiment file.

    Args:
        source: the file, or the name of a shipped one.
        title: of the experiment.
        out: folder for store, report and logs.
        base, reasoning: the pair.
        reference: a third model that is run alone, as the 100 % of recovery; None takes `reasoning` for that.
        servers, decoding: see there.
        calibration: base rollouts that thresholds are taken from; None: there are none.
        spike_ratio: of the calibration of programs that name none.
        evaluations, programs: the two sides of the grid.
    """

    source: str
    title: str
    out: Path
    base: ModelSpec
    reasoning: ModelSpec
    reference: ModelSpec | None
    servers: ServerSpec
    decoding: DecodingSpec
    calibration: EvaluationSpec | None
    spike_ratio: float
    evaluations: tuple[EvaluationSpec, ...]
    programs: tuple[ProgramSpec, ...]

    @property
    def bundled(self) -> bool:
        """Whether the pair is the one that comes with the package."""
        return self.base.model == BUNDLED


def with_tokenizers(spec: ExperimentSpec, given: Sequence[str]) -> ExperimentSpec:
    """The experiment with other tokenizers, each `FOLDER` (of all models) or `MODEL=FOLDER`.

    Raises:
        UsageError: the experiment has no such model, or there is no such folder.
    """
    models = {side: getattr(spec, side) for side in ("base", "reasoning", "reference")}
    models = {side: model for side, model in models.items() if model is not None}
    for text in given:
        side, equals, folder = text.partition("=")
        place = Path(folder if equals else text).expanduser()
        if not place.is_dir():
            raise UsageError(f"--tokenizer {text!r}: there is no folder {str(place)!r}.", "Name the folder of a tokenizer.")
        named = str(place.resolve())
        if not equals:
            models = {name: replace(model, tokenizer=named) for name, model in models.items()}
        elif side in models:
            models[side] = replace(models[side], tokenizer=named)
        else:
            raise UsageError(f"--tokenizer {text!r}: there is no model {side!r}.", f"There are {', '.join(models)}.")
    return replace(spec, **models)
