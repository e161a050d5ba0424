"""Options of commands, made from where they are declared: those of a run, and those that name a pair of models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from rrti_sgl.cli import parse
from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.programs.options import Declared, declared
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.settings import RunSettings

PANELS = ("Texts", "Models", "Cluster", "Problems", "Prompts", "Decoding", "Gate", "Output")
PLACES = {"pair": PairOptions, "cluster": ClusterOptions}
ARGUMENTS = (*PLACES, "options")
RUN_OPTIONS = declared(RunSettings, GateOptions)
Resume = Annotated[str | None, typer.Option(metavar="RUN", help="Continue a run that ended early, options as then.")]
Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="PKG.MODULE:CLASS", help="Import this class, which the stored run names."),
]


def with_options(
    names: Collection[str] = RUN_OPTIONS, among: Mapping[str, Declared] = RUN_OPTIONS, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that name a pair, and options that are declared, in the order of their panels.

    The command gets them as the arguments that it has: `pair`, a `PairOptions`, `cluster`, a `ClusterOptions`, and
    `options`, what was typed of those that are declared, by name, as `rrti_sgl.programs.running.settings.settings_from`
    takes those of a run.

    Args:
        names: of the options.
        among: those that are declared; a run's.
        defaults: of this command, where they are others than declared.
    """
    chosen = [among[name] for name in among if name in names]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        places = {name: get_type_hints(kind, include_extras=True) for name, kind in PLACES.items() if name in own}
        parameters = [
            *(
                _parameter(entry.name, entry.annotation, entry.default)
                for entry in own.values()
                if entry.name not in ARGUMENTS
            ),
            *(_run_parameter(entry, defaults.get(entry.name, entry.default)) for entry in chosen),
            *(
                _parameter(field.name, hints[field.name], field.default)
                for name, hints in places.items()
                for field in fields(PLACES[name])
            ),
        ]
        parameters.sort(key=_panel)

        def called(**values: Any) -> None:
            asked: dict[str, Any] = {
                name: PLACES[name](**{field.name: values.pop(field.name) for field in fields(PLACES[name])})
                for name in places
            }
            read = {entry.name: _read(entry, values.pop(entry.field)) for entry in chosen}
            options = {entry.name: read[entry.name] for entry in chosen if read[entry.name] != entry.default}
            asked["options"] = options
            command(**values, **{name: asked[name] for name in ARGUMENTS if name in own})

        parse.with_signature(called, command, parameters)
        return called

    return decorate


def _parameter(name: str, kind: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _run_parameter(entry: Declared, default: Any) -> inspect.Parameter:
    kind = _typed(entry.type)
    several = get_origin(kind) is list
    option = entry.option
    told = typer.Option(entry.flag, help=option.help, metavar=option.metavar, rich_help_panel=option.panel)
    default = None if several else default
    return _parameter(entry.field, Annotated[(kind if default is not None else kind | None, told)], default)


def _typed(kind: Any) -> Any:
    """What is typed for a value of this type: numbers and switches as such, all else as text; several one by one."""
    while get_origin(kind) in (Annotated, Union, UnionType):
        kind = get_args(kind)[0]
    if get_origin(kind) is Sequence:
        return list[get_args(kind)[0]]  # type: ignore[misc]  # a type that is made here
    return kind if kind in (int, float, bool) else list[str] if get_origin(kind) is dict else str


def _read(entry: Declared, value: Any) -> Any:
    if get_origin(entry.type) is Sequence:
        return tuple(value or ())
    if get_origin(entry.type) is dict:
        return dict(parse.name_value(entry.flag, text) for text in value or [])
    # Shells pass a typed \\n on as two characters. A template that means them (LaTeX's \\nu) is written as a file.
    return value.replace("\\n", "\n") if entry.name.endswith("_prompt") and value is not None else value


def _panel(parameter: inspect.Parameter) -> int:
    notes = [note for note in getattr(parameter.annotation, "__metadata__", ()) if hasattr(note, "rich_help_panel")]
    panel = notes[0].rich_help_panel if notes else None
    return PANELS.index(panel) if panel in PANELS else -1
