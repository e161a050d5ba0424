"""How a run option is declared: once, as an annotated field of a record.

Commands (`rrti_sgl.cli.options`), the tables of an experiment file (`rrti_sgl.programs.experiments.spec`) and the keyword
arguments of a Python call (`rrti_sgl.programs.running.settings.settings_from`) are made from the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, InitVar, dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.programs.values import told

Panel = Literal["Problems", "Prompts", "Decoding", "Gate", "Output"]
FileTable = Literal["decoding", "problems", "programs"]


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is told to its users; its type, limits and default are those of the field that it annotates.

    Args:
        help: one line.
        panel: what it is shown with.
        tables: tables of an experiment file that have it; "problems" are the evaluations and the calibration.
        name: what users call it everywhere; "": as the field is called.
        flag: on the command line; "": `--name`.
        metavar: what its value is called there.
        path: whether it may be a path, which an experiment file has relative to itself.
        load: what a name must load as, tried where an experiment is checked before it is run.
    """

    help: str
    panel: Panel
    tables: tuple[FileTable, ...] = ()
    name: str = ""
    flag: str = ""
    metavar: str | None = None
    path: bool = False
    load: Callable[[str], object] | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """One option as its record declares it.

    Args:
        owner, field: the record, and its field.
        name: what users call it.
        flag: on the command line.
        type: of its values, with limits.
        default: its value where it is not given.
        option: the rest.
    """

    owner: type
    field: str
    name: str
    flag: str
    type: Any
    default: Any
    option: Option


@cache
def declared(*owners: type) -> Mapping[str, Declared]:
    """The options that records declare, in order, by the names that users call them."""
    found: dict[str, Declared] = {}
    for owner in owners:
        hints = get_type_hints(owner, include_extras=True)
        for name, field in owner.__dataclass_fields__.items():  # type: ignore[attr-defined]
            hint = hints[name].type if isinstance(hints[name], InitVar) else hints[name]
            kind, *notes = get_args(hint) or (hint,)
            options = [note for note in notes if isinstance(note, Option)]
            if not options:
                continue
            [option] = options
            if limits := tuple(note for note in notes if note is not option):
                kind = Annotated[(kind, *limits)]
            default = field.default if field.default is not MISSING else field.default_factory()
            public = option.name or name
            flag = option.flag or "--" + public.replace("_", "-")
            found[public] = Declared(owner, name, public, flag, kind, default, option)
    return found


def validated(values: Mapping[str, Any], *owners: type) -> dict[str, Any]:
    """The values by name of the field, checked and converted; those that are not given are not there.

    Args:
        values: by the options' names, or by those of their fields.
        owners: the records that declare the options.

    Raises:
        UsageError: names every unknown option and every value that does not fit.
    """
    options = declared(*owners)
    names = {entry.field: name for name, entry in options.items()}
    try:
        model = _model(*owners).model_validate({names.get(name, name): value for name, value in values.items()})
    except ValidationError as error:
        raise _refusal(error, options) from error
    return {options[name].field: getattr(model, name) for name in model.model_fields_set}


def check(record: object) -> None:
    """Refuse a record whose options have values that do not fit; what fits is left as it is.

    Raises:
        UsageError: see `validated`.
    """
    options = declared(type(record))  # type: ignore[arg-type]  # mypy does not see that a class is hashable
    validated({entry.field: getattr(record, entry.field) for entry in options.values()}, type(record))


def _refusal(error: ValidationError, options: Mapping[str, Declared]) -> UsageError:
    wrong: list[tuple[str, str]] = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        text, remedy = told(fault, list(options))
        if name in options:
            wrong.append((argument(options[name].field, text=text), remedy))
        else:
            wrong.append((text.replace("unknown field", f"There is no option {name!r}"), remedy))
    return (
        UsageError(*wrong[0])
        if len(wrong) == 1
        else UsageError(" ".join(f"{text} {remedy}".strip() for text, remedy in wrong))
    )


@cache
def _model(*owners: type) -> type[BaseModel]:
    fields: dict[str, Any] = {entry.name: (entry.type, entry.default) for entry in declared(*owners).values()}
    config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return create_model("Options", __config__=config, **fields)
