"""From the tables of an experiment file to its records. What is wrong is noted, and reading goes on."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from rrti_sgl.decoding.engine import Decoding
from rrti_sgl.problems import BENCHMARKS, PARTS, WORLD_SETS, Part
from rrti_sgl.programs.experiments.spec import (
    BUNDLED,
    DecodingSpec,
    EvaluationSpec,
    ExperimentSpec,
    ModelSpec,
    ProgramSpec,
    ServerSpec,
)
from rrti_sgl.programs.experiments.tables import TableReader, number_problem
from rrti_sgl.records import ScoreKind
from rrti_sgl.science.divergences import DIVERGENCE_METRICS
from rrti_sgl.science.threshold import Warmup
from rrti_sgl.tokens.special_tokens import SpecialTokens

SPIKE_RATIO = 0.08
# Options of a gate in the file -> (field of GateOptions, least, most, whether 0 is excluded).
_NUMBERS = {
    "spike_ratio": ("spike_ratio", 0.0, 1.0, True),
    "tau": ("tau", 0.0, float("inf"), False),
    "lambda_value": ("lambda_", 0.0, float("inf"), True),
    "budget": ("budget", 0.0, 1.0, False),
    "mean_length": ("mean_length", 0.0, float("inf"), True),
}
_COUNTS = ("window", "relay_tokens")
_CHOICES = {"metric": tuple(DIVERGENCE_METRICS), "warmup": get_args(Warmup)}


def read_experiment(root: TableReader, source: str, folder: Path) -> ExperimentSpec:
    """The whole file.

    Args:
        root: its outermost table.
        source: file or shipped name, for messages.
        folder: what paths of problem files, templates and model folders are relative to.
    """
    title = root.text("title", Path(source).stem)
    out = Path(root.text("out", Path(source).stem))
    models = root.table("models")
    base, reasoning = (_model(models, side, folder) for side in ("base", "reasoning"))
    reference = _model(models, "reference", folder) if "reference" in models else None
    models.finish()
    _check_bundled(models, base, reasoning, reference)
    decoding = _decoding(root.table("decoding"))
    calibration, ratio = None, SPIKE_RATIO
    if "calibration" in root:
        table = root.table("calibration")
        ratio = table.number("spike_ratio", SPIKE_RATIO, most=1.0, positive=True)
        calibration = _evaluation(table, decoding, folder, name="calibration")
    evaluations = [
        _evaluation(table, decoding, folder)
        for table in root.tables("evaluations", 'name = "test"  problems = "gsm8k"  samples = 8')
    ]
    names = [evaluation.name for evaluation in evaluations]
    _check_names(root, names)
    programs = [_program(table, names) for table in root.tables("programs", 'program = "guided"  spike_ratio = 0.08')]
    servers = _servers(root.table("servers"), reference is not None)
    root.finish()
    return ExperimentSpec(
        source,
        title,
        out,
        base,
        reasoning,
        reference,
        servers,
        decoding,
        calibration,
        ratio,
        tuple(evaluations),
        tuple(programs),
    )


def _model(models: TableReader, side: str, folder: Path) -> ModelSpec:
    table = models.table(side)
    name = table.needed("model", BUNDLED if side != "reference" else "Qwen/Qwen3-0.6B")
    tokenizer = table.text("tokenizer", None)
    template = table.text("template", None)
    prompt = table.text("prompt", None)
    if template is not None and prompt is not None:
        table.note("prompt", "template is given, too. Leave one out.")
    spec = ModelSpec(
        _existing(name, folder),
        None if tokenizer is None else _existing(tokenizer, folder),
        None if template is None else _existing(template, folder),
        prompt,
        table.integer("few_shot", None, least=0) if side == "base" else None,
        table.flag("thinking", True) if side != "base" else True,
        _flags(table),
    )
    table.finish()
    return spec


def _check_bundled(models: TableReader, base: ModelSpec, reasoning: ModelSpec, reference: ModelSpec | None) -> None:
    if (base.model == BUNDLED) != (reasoning.model == BUNDLED):
        models.note("reasoning", f"the bundled models are a pair. Write model = {BUNDLED!r} for both, or for none.")
    if reference is not None and BUNDLED in (base.model, reference.model):
        models.note("reference", "there is no third bundled model. Leave it out.")


def _servers(table: TableReader, has_reference: bool) -> ServerSpec:
    urls = {side: table.text(f"{side}_url", None) for side in ("base", "reasoning", "reference")}
    for side, url in urls.items():
        if url is not None and not url.startswith(("http://", "https://")):
            table.note(f"{side}_url", f"{url!r} is no address. Write for example http://127.0.0.1:30000.")
    needed = {"base", "reasoning"} | ({"reference"} if has_reference else set())
    given = {side for side, url in urls.items() if url is not None}
    if given and (missing := sorted(needed - given)):
        table.note(
            f"{missing[0]}_url", "missing: either all servers run already, or none. Give the address, or leave all out."
        )
    for side in sorted(given - needed):
        table.note(f"{side}_url", f"there is no [models.{side}]. Leave it out, or name the model.")
    spec = ServerSpec(
        **{f"{side}_url": url for side, url in urls.items()},
        api_key_env=table.text("api_key_env", "RRTI_API_KEY"),
        device=table.text("device", "auto", choices=("auto", "cpu", "cuda")),
        context=table.integer("context", None),
        concurrency=table.integer("concurrency", None),
        base_gpus=table.integers("base_gpus", None),
        reasoning_gpus=table.integers("reasoning_gpus", None),
        replicas=table.integer("replicas", 1),
        flags=_flags(table),
        gpu_gib=table.number("gpu_gib", None, positive=True),
    )
    table.finish()
    return spec


def _flags(table: TableReader) -> tuple[str, ...]:
    text = table.text("flags", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        table.note("flags", f"{text!r} is no command line ({error}).")
        return ()


def _decoding(table: TableReader) -> DecodingSpec:
    spec = DecodingSpec(
        k=table.integer("k", 20, least=0),
        score_kind=cast(ScoreKind, table.text("score_kind", "topk", choices=("topk", "plugin"))),
        temperature=table.number("temperature", 0.0, most=10.0),
        top_p=table.number("top_p", 1.0, most=1.0, positive=True),
        max_new_tokens=table.integer("max_new_tokens", None),
        draft_tokens=table.integer("draft_tokens", 12),
        loop=cast(Decoding, table.text("loop", "chunked", choices=get_args(Decoding))),
        in_flight=table.integer("in_flight", 64),
        special_tokens=cast(SpecialTokens, table.text("special_tokens", "mapped", choices=get_args(SpecialTokens))),
        tagger=table.text("tagger", None),
    )
    table.finish()
    return spec


def _evaluation(table: TableReader, decoding: DecodingSpec, folder: Path, *, name: str | None = None) -> EvaluationSpec:
    """An evaluation, or the calibration, which has its name from us and takes a benchmark's part of it by default."""
    problems = table.needed("problems", "gsm8k")
    known = problems in WORLD_SETS or problems in BENCHMARKS
    part = "calibration" if name is not None and problems in BENCHMARKS else "all"
    limit = 200 if name is not None else None
    spec = EvaluationSpec(
        name=table.text("name", problems) if name is None else name,
        problems=problems if known or not problems else _existing(problems, folder),
        question_field=table.text("question_field", "question"),
        answer_field=table.text("answer_field", "answer"),
        choices_field=table.text("choices_field", None),
        split=cast(Part, table.text("split", part, choices=PARTS)),
        sample_problems=table.integer("sample_problems", None),
        problem_seed=table.integer("problem_seed", 0, least=0),
        limit=table.integer("limit", limit),
        grader=table.text("grader", None),
        base_template=_template(table, "base_template", folder),
        reasoning_template=_template(table, "reasoning_template", folder),
        samples=table.integer("samples", 1),
        seeds=table.integers("seeds", (0,)),
        temperature=table.number("temperature", decoding.temperature, most=10.0),
        top_p=table.number("top_p", decoding.top_p, most=1.0, positive=True),
        max_new_tokens=table.integer("max_new_tokens", decoding.max_new_tokens),
        typical_tokens=table.integer("typical_tokens", None),
        typical_reasoning_tokens=table.integer("typical_reasoning_tokens", None),
        allow_overlap=table.flag("allow_overlap", False),
        path=table.path,
    )
    if known:
        for field in ("question_field", "answer_field", "choices_field"):
            if field in table:
                table.note(field, f"{problems} has fields of its own. Leave it out.")
    if name is not None and len(spec.seeds) > 1:
        table.note("seeds", "a calibration has one seed.")
    table.finish()
    return spec


def _template(table: TableReader, name: str, folder: Path) -> str | None:
    spec = table.text(name, None)
    return None if spec is None else _existing(spec, folder)


def _check_names(root: TableReader, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1 or name == "calibration":
            place = len(names) - 1 - names[::-1].index(name)
            said = f"{name!r} is the calibration's" if count == 1 else f"{count} evaluations are called {name!r}"
            root.complaints.add(("evaluations", place, "name"), f"{said}. Give each a name of its own.")


def _program(table: TableReader, evaluations: Sequence[str]) -> ProgramSpec:
    program = table.needed("program", "guided")
    label = table.text("label", None)
    on = table.texts("on") if "on" in table else ()
    for name in on:
        if name not in evaluations:
            table.note("on", f"there is no evaluation {name!r}. There are {', '.join(evaluations)}.")
    axes: dict[str, list[Any]] = {}
    for option in (*_NUMBERS, *_COUNTS, *_CHOICES, "lambda"):
        if option in table:
            field, values = _axis(table, option)
            if values:
                axes[field] = values
    if "lambda_" in axes and "use_lambda" not in axes:
        axes["use_lambda"] = [True]
    variants = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    own = _own_gate(table)
    table.finish()
    if label is not None and len(variants) > 1:
        table.note(
            "label", f"the lists make {len(variants)} variants of one name. Leave it out: they are named by themselves."
        )
    return ProgramSpec(program, label, tuple({**variant, **own} for variant in variants), on, table.path)


def _own_gate(table: TableReader) -> dict[str, Any]:
    """A gate of the user's, and its arguments."""
    gate, params = table.text("gate", None), table.raw("gate_params")
    if params is not None and not isinstance(params, Mapping):
        table.note("gate_params", "no table of arguments. Write for example gate_params = { position = 12 }.")
    if gate is None:
        return {}
    return {"gate": gate, "gate_params": dict(params) if isinstance(params, Mapping) else {}}


def _axis(table: TableReader, option: str) -> tuple[str, list[Any]]:
    """The field of the gate's options, and its values: one, or those of a list. A wrong value is noted and left out."""
    raw = table.raw(option)
    values = raw if isinstance(raw, list) else [raw]
    if not values:
        table.note(option, "an empty list.")
    field, problem = option, ""
    good: list[Any] = []
    for value in values:
        if option in _NUMBERS:
            field, least, most, positive = _NUMBERS[option]
            problem = number_problem(value, least, most, positive)
        elif option in _COUNTS:
            problem = "" if type(value) is int and value >= 1 else f"{value!r} is no whole number from 1 on."
        elif option == "lambda":
            field = "use_lambda"
            problem = "" if isinstance(value, bool) else f"{value!r} is neither true nor false. Its factor is lambda_value."
        else:
            known = _CHOICES[option]
            problem = "" if value in known else f"{value!r} is unknown. Use {', '.join(known)}."
        if problem:
            table.note(option, problem)
        else:
            good.append(float(value) if option in _NUMBERS else value)
    return field, good


def _existing(name: str, folder: Path) -> str:
    """A path beside the file if there is something, else the name as it is: a hub id, a set's or a template's name.

    Absolute, because a run is found again by its settings, from whatever folder the command is given in.
    """
    path = folder / Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
