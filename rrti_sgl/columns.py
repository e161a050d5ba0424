"""What a field of a stored record is as a column: its kind, its meaning and its unit.

A record says it beside each field, once, as `name: Annotated[type, Column("Meaning, in unit.")]`; tables, layouts, rows and
the schema page of `rrti_sgl.db` follow from `columns_of`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

Kind = Literal[
    "text",
    "integer",
    "wide",  # an integer that may take 64 bits
    "real",
    "flag",
    "time",
    "json",
    "id",  # a token id, -1: none
    "mark",  # 1 or 0, -1: does not apply
    "number",  # a real, NaN: not computed
    "decided",  # the same of what a decision was made by: kept exactly in every layout
    "ids",  # (T, k) token ids, -1: padding
    "logprobs",  # (T, k) log-probabilities of a list of ids
    "metrics",  # a mapping that holds a "number" for each metric of `rrti_sgl.science.metrics`
]
_KINDS: Final[Mapping[Any, Kind]] = {
    str: "text", int: "integer", float: "real", bool: "flag", datetime: "time", Mapping: "json", Literal: "text",
}  # fmt: skip
_HAVE_NONE: Final = ("id", "mark", "number", "decided", "ids", "logprobs")  # a value of their own stands for NULL


@dataclass(frozen=True, slots=True)
class Column:
    """Stands beside a field's type: what the column means, its kind where the type does not tell, whether it is a key."""

    comment: str
    kind: Kind | None = None
    key: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record, as `columns_of` finds it. `null`: the column may hold NULL."""

    name: str
    kind: Kind
    null: bool
    key: bool
    comment: str


def columns_of(record: type[Any]) -> tuple[Field, ...]:
    """The fields of a record in order, each with what is declared of it as a column."""
    return _columns_of(cast(Hashable, record))


@functools.cache
def _columns_of(record: Any) -> tuple[Field, ...]:
    hints = get_type_hints(record, include_extras=True)
    return tuple(_field(field.name, *get_args(hints[field.name])) for field in fields(record))


def _field(name: str, hint: Any, column: Column) -> Field:
    if get_origin(hint) is Sequence:
        [hint] = get_args(hint)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    [plain] = (option for option in options if option is not type(None))
    kind = column.kind or _KINDS[get_origin(plain) or plain]
    return Field(name, kind, len(options) > 1 or kind in _HAVE_NONE, column.key, column.comment)
