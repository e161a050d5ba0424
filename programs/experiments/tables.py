"""The tables of an experiment file: what they have in common, the options of a run among them, and types of their values.

The options of a run are fields of the tables that their declarations name (`rrti_sgl.programs.options`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, create_model

from rrti_sgl import bounds
from rrti_sgl.programs.options import FileTable, declared
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.values import Text, limited, loadable


def _beside(name: str, info: ValidationInfo) -> str:
    """A path beside the file if there is something, else the name as it is: a hub id, a set's or a template's name.

    Absolute, because a run is found again by its settings, from whatever folder the command is given in.
    """
    path = (info.context or {}).get("folder", Path()) / Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def as_tuple(value: object) -> object:
    """A list of the file, which holds something."""
    if not isinstance(value, list) or not value:
        raise ValueError("is no list, or an empty one.", "")
    return tuple(value)


def as_list(value: object) -> object:
    """A list of the file, or one value for it."""
    if value == []:
        raise ValueError("is an empty list.", "")
    return value if isinstance(value, list) else [value]


def as_flags(value: object) -> object:
    """The words of a command line."""
    if not isinstance(value, str):
        raise ValueError("is no text.", "")
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise ValueError(f"is no command line ({error}).", "") from error


Beside = AfterValidator(_beside)
Flags = Annotated[tuple[str, ...], BeforeValidator(as_flags)]
Numbers = Annotated[
    tuple[int, ...],
    BeforeValidator(as_tuple),
    limited(lambda found: min(found) >= 0 and len(set(found)) == len(found), "holds a number below 0, or one twice."),
    limited(
        lambda found: max(found) <= bounds.WHOLE and len(found) <= bounds.RUNS, "holds too large a number, or too many."
    ),
]
Gpus = Annotated[Numbers, limited(lambda found: max(found) < bounds.GPUS, "holds an index that no GPU has.")]
Url = Annotated[
    Text,
    limited(
        lambda url: url.startswith(("http://", "https://")), "is no address.", "Write for example http://127.0.0.1:30000."
    ),
]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    table: ClassVar[FileTable | None] = None

    @property
    def options(self) -> dict[str, Any]:
        """The options of a run that the file gives here, by name, in the order of their declarations."""
        return {name: getattr(self, name) for name in _options(self.table) if name in self.model_fields_set}

    def option(self, name: str) -> Any:
        """Its value, or its default where the file does not give it here."""
        return getattr(self, name)


AnyTable = TypeVar("AnyTable", bound=Table)


def _options(table: FileTable | None) -> list[str]:
    return [name for name, entry in declared(RunSettings, GateOptions).items() if table in entry.option.tables]


def with_options(*, lists: bool = False) -> Callable[[type[AnyTable]], type[AnyTable]]:
    """Give a table of the file the options that are declared to be in it.

    Args:
        lists: whether an option may be a list, of values to run one after the other.
    """

    def extend(owner: type[AnyTable]) -> type[AnyTable]:
        fields: dict[str, Any] = {}
        for name in _options(owner.table):
            entry = declared(RunSettings, GateOptions)[name]
            steps = [Beside] if entry.option.path else []
            steps += [loadable(entry.option.load)] if entry.option.load else []
            kind = Annotated[(entry.type, *steps)] if steps else entry.type
            if lists:
                several = Annotated[list[kind], BeforeValidator(as_list)]  # type: ignore[valid-type]
                fields[name] = (several, [])
            elif name not in owner.model_fields:
                fields[name] = (kind, entry.default)
        return create_model(owner.__name__, __base__=owner, __module__=owner.__module__, __doc__=owner.__doc__, **fields)

    return extend
