"""What an experiment file says, as models that pydantic reads. Every field is explained in docs/experiments.md.

What one field says of another is checked in `rrti_sgl.programs.experiments.loading`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from rrti_sgl import bounds
from rrti_sgl.engines.endpoint import is_endpoint
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.problems import BENCHMARKS
from rrti_sgl.programs.experiments import locations
from rrti_sgl.programs.experiments.tables import Beside, Flags, Gpus, Numbers, Table, Url, as_list, as_tuple, with_options
from rrti_sgl.programs.registry import find_program
from rrti_sgl.programs.values import Count, Natural, Positive, Ratio, Text, loadable
from rrti_sgl.prompts import PromptTemplate, load_template

BUNDLED = "bundled"
REASONING = "reasoning"  # whose tokens take over where no guest is named
SPIKE_RATIO = 0.08


class ModelSpec(Table):
    """One model.

    Args:
        model: hub id or folder; "bundled" is the pair that comes with the package.
        tokenizer: folder or hub id of its tokenizer; None takes the model's.
        template: prompt template, by name or file; None takes the problem set's.
        prompt: a template as text, in place of `template`.
        flags: SGLang flags of its server.
    """

    model: Annotated[Text, Beside] = Field(examples=[BUNDLED])
    tokenizer: Annotated[Text, Beside] | None = None
    template: Annotated[Text, Beside, loadable(load_template)] | None = None
    prompt: Annotated[Text, loadable(PromptTemplate)] | None = None
    flags: Flags = ()


class BaseModelSpec(ModelSpec):
    """The base model. `few_shot`: worked examples in its prompt."""

    few_shot: Natural | None = None


class ReasoningModelSpec(ModelSpec):
    """A reasoning model. `thinking`: value of `enable_thinking` in its chat template."""

    thinking: bool = True


class Models(Table):
    """The pair, other models that take over in its place, and one that is run alone.

    Args:
        base, reasoning: the pair.
        reference: is run alone, as the 100 % of recovery; without one `reasoning` is that.
        guests: by name, models that take over in the base model's text where a program names them.
    """

    base: BaseModelSpec
    reasoning: ReasoningModelSpec
    reference: ReasoningModelSpec | None = None
    guests: dict[str, ReasoningModelSpec] = Field(default_factory=dict)

    @property
    def by_side(self) -> dict[str, ModelSpec]:
        """The models by what they are for, in the order in which they are served beside the base model."""
        found = {"base": self.base, "reasoning": self.reasoning, **self.guests, "reference": self.reference}
        return {side: model for side, model in found.items() if model is not None}

    @property
    def by_role(self) -> dict[str, ModelSpec]:
        """The same as tables and plans call them: a guest is "guest NAME"."""
        return {f"guest {side}" if side in self.guests else side: model for side, model in self.by_side.items()}

    def path_of(self, side: str, *field: str) -> locations.Path:
        """Where the file has one of `by_side`, or a field of it."""
        return ("models", *(("guests",) if side in self.guests else ()), side, *field)

    def with_sides(self, models: Mapping[str, ModelSpec]) -> Models:
        """The same with other models of `by_side`."""
        guests = {name: models[name] for name in self.guests}
        own = {side: model for side, model in models.items() if side not in guests}
        return self.model_copy(update={**own, "guests": guests})


class ServerSpec(Table):
    """Where the models run: servers that are running, or how they are to be started.

    Args:
        base_url, reasoning_url, reference_url: addresses of running servers; None starts them.
        guest_urls: of those of guests, by name.
        api_key_env: environment variable that holds the key of running servers.
        device: "cpu", "cuda" or "auto".
        context: tokens of the longest sequence, prompt and solution; None: what the models were made for.
        concurrency: sequences of that length to have memory for.
        base_gpus, reasoning_gpus: indices of GPUs.
        replicas: servers of each model, or of both.
        fused: start one server that holds both models, in place of two.
        flags: SGLang flags of all servers.
        gpu_gib: memory of the GPU that `--dry-run` plans for on a machine without one, in GiB.
    """

    base_url: Url | None = None
    reasoning_url: Url | None = None
    reference_url: Url | None = None
    guest_urls: dict[str, Url] = Field(default_factory=dict)
    api_key_env: Text = "RRTI_API_KEY"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    context: Count | None = None
    concurrency: Count | None = None
    base_gpus: Gpus | None = None
    reasoning_gpus: Gpus | None = None
    replicas: Annotated[int, Field(ge=1, le=bounds.GPUS)] = 1
    fused: bool = False
    flags: Flags = ()
    gpu_gib: Positive | None = None

    @property
    def urls(self) -> dict[str, str]:
        """Addresses of running servers, by what their models are for."""
        given = {"base": self.base_url, "reasoning": self.reasoning_url, "reference": self.reference_url, **self.guest_urls}
        return {side: url for side, url in given.items() if url is not None}

    @property
    def running(self) -> bool:
        """Whether the servers run already."""
        return self.base_url is not None

    @property
    def through_endpoint(self) -> bool:
        """Whether both addresses are that of an endpoint (`rrti api`)."""
        return is_endpoint(self.base_url, self.reasoning_url)

    @property
    def whole_samples(self) -> bool:
        """Whether one request asks for a whole sample."""
        return self.fused or self.through_endpoint


@with_options()
class DecodingSpec(Table):
    """What all runs have in common. `in_flight`: samples at once."""

    table = "decoding"
    in_flight: Annotated[int, Field(ge=1, le=4096)] = 64


@with_options()
class EvaluationSpec(Table):
    """Problems, and how they are sampled. The calibration is one, too.

    Args:
        name: what it is called; the problem set's name, where none is given.
        problems: set by name, or the path of a file.
        seeds: one run of every program for each.
        typical_tokens: tokens of a usual solution, to plan with until it is measured.
        typical_reasoning_tokens: the same where a reasoning model writes alone.
        path: of its table in the file.
    """

    table = "problems"
    problems: Annotated[Text, Beside] = Field(examples=["gsm8k"])
    name: Text = ""
    seeds: Numbers = (0,)
    typical_tokens: Count | None = None
    typical_reasoning_tokens: Count | None = None
    path: locations.Path = Field((), alias="")  # PATH

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        named = isinstance(table, dict) and isinstance(table.get("problems"), str)
        return {"name": table["problems"], **table} if named else table


class CalibrationSpec(EvaluationSpec):
    """Base rollouts that thresholds are taken from. `spike_ratio`: of programs that name none."""

    name: Literal["calibration"] = "calibration"
    spike_ratio: Ratio = SPIKE_RATIO
    path: locations.Path = ("calibration",)

    @model_validator(mode="before")
    @classmethod
    def _part(cls, table: Any) -> Any:
        """It takes the calibration's part of a benchmark, and few problems, where the file does not say otherwise."""
        if not isinstance(table, dict):
            return table
        known = isinstance(table.get("problems"), str) and table["problems"] in BENCHMARKS
        return {"limit": 200, "split": "calibration" if known else "all", "name": "calibration", **table}


@with_options(lists=True)
class ProgramSpec(Table):
    """A program, with one or more variants of its gate.

    Args:
        program: its name.
        label: what its rows are called; None: the program and its options.
        on: names of the evaluations that it runs on; none: all.
        guest: the models that take over, a run for each: "reasoning", or names of `[models.guests]`.
        path: of its table in the file.
    """

    table = "programs"
    program: Annotated[Text, loadable(find_program)] = Field(examples=["guided"])
    label: Text | None = None
    on: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()
    guest: Annotated[list[Text], BeforeValidator(as_list)] = Field(default_factory=lambda: [REASONING])
    path: locations.Path = Field((), alias="")  # PATH

    @property
    def variants(self) -> list[dict[str, Any]]:
        """Options of a run by name: every combination of the values that the file gives."""
        options = self.options
        return [dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())]

    @property
    def n_variants(self) -> int:
        """How many there are with every guest, without making them."""
        return math.prod(map(len, self.options.values())) * len(self.guest)


class ExperimentSpec(Table):
    """One experiment file.

    Args:
        title: of the experiment.
        out: folder for store, report and logs.
        models, servers, decoding: see there.
        calibration: None: there is none.
        evaluations, programs: the two sides of the grid.
    """

    title: Text = "experiment"
    out: Annotated[Path, Field(strict=False)] = Path("experiment")
    models: Models
    servers: ServerSpec = ServerSpec()
    decoding: DecodingSpec = DecodingSpec()
    calibration: CalibrationSpec | None = None
    evaluations: tuple[EvaluationSpec, ...] = Field((), strict=False)
    programs: tuple[ProgramSpec, ...] = Field((), strict=False)

    @property
    def bundled(self) -> bool:
        """Whether the pair is the one that comes with the package."""
        return self.models.base.model == BUNDLED

    @property
    def spike_ratio(self) -> float:
        """Of the calibration of programs that name none."""
        return SPIKE_RATIO if self.calibration is None else self.calibration.spike_ratio


def with_tokenizers(spec: ExperimentSpec, given: Sequence[str]) -> ExperimentSpec:
    """The experiment with other tokenizers, each `FOLDER` (of all models) or `MODEL=FOLDER`.

    Raises:
        UsageError: the experiment has no such model, or there is no such folder.
    """
    models = spec.models.by_side
    for text in given:
        side, equals, folder = text.partition("=")
        place = Path(folder if equals else text).expanduser()
        if not place.is_dir():
            raise UsageError(
                f"{argument('tokenizer', text)}: there is no folder {str(place)!r}.", "Name the folder of a tokenizer."
            )
        if equals and side not in models:
            raise UsageError(
                f"{argument('tokenizer', text)}: there is no model {side!r}.", f"There are {', '.join(models)}."
            )
        for name in [side] if equals else list(models):
            models[name] = models[name].model_copy(update={"tokenizer": str(place.resolve())})
    return spec.model_copy(update={"models": spec.models.with_sides(models)})
