"""Finds and reads experiment files: the shipped ones by name, others by path."""

from __future__ import annotations

import itertools
import pathlib
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rrti_sgl.engines.endpoint import as_address
from rrti_sgl.errors import ExperimentFileError, UsageError
from rrti_sgl.problems import BENCHMARKS, WORLD_SETS
from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.locations import Path, dotted, locate
from rrti_sgl.programs.experiments.spec import BUNDLED, REASONING, ExperimentSpec, Models, ProgramSpec, ServerSpec
from rrti_sgl.programs.experiments.tables import Table
from rrti_sgl.programs.values import told
from rrti_sgl.rows import is_file
from rrti_sgl.science.gates import load_gate

_NAME = re.compile(r"[A-Za-z0-9][\w-]*")
PATH = ""  # the key under which a table of an array is given its place in the file: no key that anybody writes
_ARRAYS = {
    "evaluations": 'name = "test"  problems = "gsm8k"  samples = 8',
    "programs": 'program = "guided"  spike_ratio = 0.08',
}


@dataclass(frozen=True, slots=True)
class LoadedExperiment:
    """A file's content with the faults that were found in it so far; more are found where models and problems are known."""

    spec: ExperimentSpec
    complaints: Complaints


def shipped() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def shipped_text(name: str) -> str:
    """The text of a shipped experiment, to begin one's own with."""
    return _folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")


def load_experiment(source: str) -> LoadedExperiment:
    """Read an experiment; faults are collected, not raised.

    Args:
        source: name of a shipped experiment, or the path of a file. Paths in a file are relative to its folder.

    Raises:
        UsageError: there is neither.
        ExperimentFileError: the file is no TOML, or does not name its models.
    """
    path = pathlib.Path(source)
    if source in shipped():
        name, text, folder = f"{source}.toml", shipped_text(source), pathlib.Path()
    elif is_file(path):
        name, folder = source, path.parent
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ExperimentFileError(f"{source} is no UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from error
    else:
        raise UsageError(
            f"There is no experiment {source!r}: no such file, and none of that name is shipped.",
            f"Name a file, or one of {', '.join(shipped())}.",
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentFileError(f"{name} is no TOML: {error}.", "Correct that line.") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets within brackets
        remedy = "Write shorter numbers, and fewer brackets within brackets."
        raise ExperimentFileError(f"{name} is no TOML that can be read: {error}.", remedy) from error
    complaints = Complaints(name, locate(text))
    return LoadedExperiment(read_content({"title": path.stem, "out": path.stem, **content}, folder, complaints), complaints)


def through_endpoint(loaded: LoadedExperiment, url: str) -> LoadedExperiment:
    """The experiment by an endpoint, in place of the servers that it names; what does not go through one is noted."""
    return on_running(loaded, as_address(url), as_address(url))


def on_running(loaded: LoadedExperiment, base_url: str, reasoning_url: str) -> LoadedExperiment:
    """The experiment on a pair that runs, in place of the servers that it names; what such a pair lacks is noted."""
    servers = ServerSpec(base_url=base_url, reasoning_url=reasoning_url, api_key_env=loaded.spec.servers.api_key_env)
    spec = loaded.spec.model_copy(update={"servers": servers})
    if servers.through_endpoint:
        _check_endpoint(spec, loaded.complaints)
    else:
        for side in (*spec.models.guests, *(["reference"] if spec.models.reference is not None else [])):
            message = "a pair that runs has no third model. Leave it out, or have the servers started."
            loaded.complaints.add(spec.models.path_of(side), message)
    return LoadedExperiment(spec, loaded.complaints)


def read_content(content: dict[str, Any], folder: pathlib.Path, complaints: Complaints) -> ExperimentSpec:
    """The experiment without what is wrong in it, which is noted: what is left is checked as well.

    Args:
        content: of the file; it is used up.
        folder: what paths in it are relative to.
        complaints: where faults go.

    Raises:
        ExperimentFileError: nothing is left that could be checked.
    """
    for name, example in _ARRAYS.items():
        tables = content.get(name)
        if not isinstance(tables, list) or not tables:
            complaints.add((name,), f"missing: there is no [[{name}]]. Write for example:  [[{name}]]  {example}")
            tables = []
        content[name] = [{**t, PATH: (name, i)} if isinstance(t, dict) else t for i, t in enumerate(tables)]
    names = [str(t.get("name", t.get("problems"))) for t in content["evaluations"] if isinstance(t, dict)]
    while True:
        try:
            spec = ExperimentSpec.model_validate(content, context={"folder": folder})
        except ValidationError as error:
            _leave_out(content, [_noted(fault, content, complaints) for fault in error.errors()], complaints)
        else:
            _check(spec, names, complaints)
            return spec


def _noted(fault: ErrorDetails, content: Mapping[str, Any], complaints: Complaints) -> Path:
    """Note what pydantic found; returns what has to go for the rest to be read: the field, or the table that needs it."""
    place = fault["loc"]
    while len(place) > 2 and isinstance(place[-1], int):  # a value of a list: the field is told
        place = place[:-1]
    known, field = _fields_at(place)
    text, remedy = told(fault, known)
    if fault["type"] == "missing" and field is not None and field.examples:
        remedy = f"Write for example {place[-1]} = {field.examples[0]!r}."
    table = content[str(place[0])][place[1]] if place[0] in _ARRAYS else {}
    # Tables that had to go before may have moved it.
    told_at = (*table[PATH], *place[2:]) if isinstance(table, dict) and PATH in table else place
    complaints.add(told_at, f"{text} {remedy}".strip())
    return place[:-1] if field is not None and field.is_required() else place


def _leave_out(content: dict[str, Any], places: Sequence[Path], complaints: Complaints) -> None:
    """Take fields and tables away.

    Raises:
        ExperimentFileError: nothing is left to be checked without them.
    """
    for place in sorted(set(places), key=len, reverse=True):
        if place in ((), ("models",), ("models", "base"), ("models", "reasoning")):
            complaints.raise_if_any()
        table: Any = content
        for part in place[:-1]:
            table = table[part]
        if isinstance(table, list):
            table[int(place[-1])] = None  # so that the places of the others stay
        elif place[-1] in table:
            del table[place[-1]]
        else:
            complaints.raise_if_any()
    for name in _ARRAYS:
        content[name] = [table for table in content[name] if table is not None]


def _fields_at(place: Path) -> tuple[list[str], FieldInfo | None]:
    """The names that there are beside a field, and what is known of it; None where it is unknown."""
    model: type[BaseModel] = ExperimentSpec
    *outer, name = [part for part in place if isinstance(part, str)]
    in_order = iter(outer)
    for part in in_order:
        annotation = model.model_fields[part].annotation
        if get_origin(annotation) is dict:
            next(in_order, None)  # the name of one of them
        [model] = [
            kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, Table)
        ]
    return [known for known in model.model_fields if known != "path"], model.model_fields.get(name)


def _check(spec: ExperimentSpec, evaluations: Sequence[str], complaints: Complaints) -> None:
    """Note what fields say of each other that does not go together."""
    _check_models(spec.models, complaints)
    _check_guests(spec, complaints)
    _check_servers(spec, complaints)
    if spec.servers.fused:
        _check_fused(spec, complaints)
    if spec.servers.through_endpoint:
        _check_endpoint(spec, complaints)
    for evaluation in (*spec.evaluations, *([spec.calibration] if spec.calibration else [])):
        if evaluation.problems in WORLD_SETS or evaluation.problems in BENCHMARKS:
            for field in ("question_field", "answer_field", "choices_field"):
                if field in evaluation.options:
                    complaints.add((*evaluation.path, field), f"{evaluation.problems} has fields of its own. Leave it out.")
    if spec.calibration is not None and len(spec.calibration.seeds) > 1:
        complaints.add(("calibration", "seeds"), "a calibration has one seed.")
    for name, count in Counter(evaluations).items():
        if count > 1 or name == "calibration":
            said = f"{name!r} is the calibration's" if count == 1 else f"{count} evaluations are called {name!r}"
            place = len(evaluations) - 1 - evaluations[::-1].index(name)
            complaints.add(("evaluations", place, "name"), f"{said}. Give each a name of its own.")
    for program in spec.programs:
        _check_program(program, evaluations, complaints)


def _check_models(models: Models, complaints: Complaints) -> None:
    for side, model in models.by_side.items():
        if model.template is not None and model.prompt is not None:
            complaints.add(models.path_of(side, "prompt"), "template is given, too. Leave one out.")
    if (models.base.model == BUNDLED) != (models.reasoning.model == BUNDLED):
        message = f"the bundled models are a pair. Write model = {BUNDLED!r} for both, or for none."
        complaints.add(("models", "reasoning"), message)
    for side, model in models.by_side.items():
        if side not in ("base", "reasoning") and BUNDLED in (models.base.model, model.model):
            complaints.add(models.path_of(side), "there is no third bundled model. Leave it out.")


def _check_guests(spec: ExperimentSpec, complaints: Complaints) -> None:
    """A guest has a name of its own, and a program that it is the guest of."""
    named = {guest for program in spec.programs for guest in program.guest}
    for name in spec.models.guests:
        if name in ("base", "reasoning", "reference") or not _NAME.fullmatch(name):
            message = "is no name for a guest. Use letters, digits, - and _, and none of base, reasoning and reference."
            complaints.add(("models", "guests", name), message)
        elif name not in named:
            message = f"no program has it as its guest. Write guest = {name!r} in one, or leave it out."
            complaints.add(("models", "guests", name), message)


def _check_servers(spec: ExperimentSpec, complaints: Complaints) -> None:
    needed = set(spec.models.by_side)
    given = set(spec.servers.urls)

    def field_of(side: str) -> Path:
        ours = side in ("base", "reasoning", "reference")
        return ("servers", f"{side}_url") if ours else ("servers", "guest_urls", side)

    if given and (missing := sorted(needed - given)):
        message = "missing: either all servers run already, or none. Give the address, or leave all out."
        complaints.add(field_of(missing[0]), message)
    for side in sorted(given - needed):
        message = f"there is no [{dotted(spec.models.path_of(side))}]. Leave it out, or name the model."
        complaints.add(field_of(side), message)


def _check_fused(spec: ExperimentSpec, complaints: Complaints) -> None:
    """One server for both models takes nothing that is of one of them."""
    servers, two = spec.servers, "leave fused out of [servers]"
    if servers.running:
        message = "the servers run already. Leave it out: one that holds both models has its address in both fields."
        complaints.add(("servers", "fused"), message)
    for name in ("base_gpus", "reasoning_gpus"):
        if getattr(servers, name) is not None:
            complaints.add(("servers", name), f"one server holds both models. Leave it out, or {two}.")
    for side, model in spec.models.by_side.items():
        if model.flags:
            message = f"one server holds both models. Write the flags in [servers], or {two}."
            complaints.add(spec.models.path_of(side, "flags"), message)
    if spec.decoding.option("decoding") == "lockstep":
        complaints.add(("decoding", "decoding"), f"lockstep decoding needs two servers. Leave it out, or {two}.")
    if spec.decoding.option("exchanged"):
        complaints.add(("decoding", "exchanged"), f"exchanged roles need two servers. Leave it out, or {two}.")
    for program in spec.programs:
        if program.program == "oracle":
            message = f"its gate knows the problem, which one server for both models does not. Leave it out, or {two}."
            complaints.add((*program.path, "program"), message)
        if any(program.option("exchanged")):
            complaints.add((*program.path, "exchanged"), f"exchanged roles need two servers. Leave it out, or {two}.")


def _check_endpoint(spec: ExperimentSpec, complaints: Complaints) -> None:
    """An endpoint gives samples of gates that have a name, and nothing else."""
    two = "name the two servers behind the endpoint"
    for side in (*spec.models.guests, *(["reference"] if spec.models.reference is not None else [])):
        complaints.add(spec.models.path_of(side), f"an endpoint has no third model. Leave it out, or {two}.")
    for option, value, what in (
        ("decoding", "lockstep", "lockstep decoding does"), ("score_kind", "plugin", "the servers' exact numbers do"),
        ("exchanged", True, "exchanged roles do"),
    ):  # fmt: skip
        if spec.decoding.option(option) == value:
            complaints.add(("decoding", option), f"{what} not go through an endpoint. Leave it out, or {two}.")
    for program in spec.programs:
        if program.program == "oracle":
            message = f"its gate knows the problem, which an endpoint does not. Leave it out, or {two}."
            complaints.add((*program.path, "program"), message)
        if any(program.option("exchanged")):
            message = f"exchanged roles do not go through an endpoint. Leave it out, or {two}."
            complaints.add((*program.path, "exchanged"), message)
        if any(gate is not None for gate in program.option("gate")):
            complaints.add((*program.path, "gate"), f"an endpoint does not know it. Leave it out, or {two}.")


def _check_program(program: ProgramSpec, evaluations: Sequence[str], complaints: Complaints) -> None:
    for name in program.on:
        if name not in evaluations:
            message = f"there is no evaluation {name!r}. There are {', '.join(evaluations)}."
            complaints.add((*program.path, "on"), message)
    if program.label is not None and program.n_variants > 1:
        message = f"the lists make {program.n_variants} variants of one name. Leave it out: they are named by themselves."
        complaints.add((*program.path, "label"), message)
    if program.guest != [REASONING] and any(program.option("exchanged")):
        message = "a guest takes over in the base model's text. Leave exchanged out, or the guest."
        complaints.add((*program.path, "guest"), message)
    options = program.options
    for gate, params in itertools.product(options.get("gate", ()), options.get("gate_params", ({},))):
        if gate is not None:
            with complaints.noting((*program.path, "gate")):
                load_gate(gate, params)


def _folder() -> pathlib.Path:
    return pathlib.Path(str(files("rrti_sgl.programs.experiments")))
