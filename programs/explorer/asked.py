"""What an address asks for: its query, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from rrti_sgl.errors import UsageError

MOST_ROWS = 1000
WORD = r"lower(trim(token_text, e' \t\n\r')) = lower(trim($word, e' \t\n\r'))"  # as the statistic of planning words reads it
MOST_TOKENS = 4096  # of one answer with candidates
Text = Annotated[str, Field(max_length=1000)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Sort = Literal["problem", "tokens", "takeovers", "changed", "maxScore", "outcome", "run"]


class MissingError(UsageError):
    """An address names what the store does not have."""


class Asked(BaseModel):
    """A query; its fields are spelled in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class FiltersAsked(Asked):
    """Which samples, and in which order.

    Of `word`, `tagged`, `from`, `to`, `scoreMin` and `scoreMax` those that are given must hold of one and the same token;
    positions alone ask for a takeover there. `tagged` false asks for samples without a planning word.
    """

    run: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    program: Annotated[tuple[Text, ...], Field(max_length=100)] = ()
    outcome: Literal["right", "wrong", "ungraded"] | None = None
    flipped: Text | None = None
    flip: Literal["gained", "lost", "any"] = "any"
    takeovers_min: Count | None = None
    takeovers_max: Count | None = None
    word: Text | None = None
    tagged: bool | None = None
    from_: Annotated[Count | None, Field(alias="from")] = None
    to: Count | None = None
    score_min: Number | None = None
    score_max: Number | None = None
    text: Text | None = None
    sort: Sort = "run"
    order: Literal["up", "down"] | None = None


class SamplesAsked(FiltersAsked):
    """The same, and which part of them."""

    offset: Count = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 100


class TokensAsked(Asked):
    """Which tokens of a run.

    Scores are those of `metric`, by default what the run's gate saw. Positions are counted from 0, both ends included; or
    `relative`, as (position + 1/2) / tokens of the sample, the upper end left out, as the statistic has it. `tested`: only
    those that counterfactual arms were made of.
    """

    run: Text
    position_from: Number | None = None
    position_to: Number | None = None
    relative: bool = False
    word: Text | None = None
    metric: Text = "score"
    score_min: Number | None = None
    score_max: Number | None = None
    fired: bool | None = None
    changed: bool | None = None
    tested: bool = False
    offset: Count = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 100


class PartAsked(Asked):
    """Which tokens of a sample: positions `from` up to, not including, `to`."""

    from_: Annotated[Count, Field(alias="from")] = 0
    to: Count = MOST_TOKENS


class StatisticAsked(Asked):
    """Of which run a statistic is, of which metric and of which share `p` of the tokens; None: the statistic chooses."""

    run: Text | None = None
    metric: Text | None = None
    p: Annotated[float | None, Field(gt=0, lt=1)] = None


class NothingAsked(Asked):
    """No query."""


Kind = TypeVar("Kind", bound=Asked)


def read(kind: type[Kind], query: Mapping[str, Sequence[str]]) -> Kind:
    """The query of an address.

    Args:
        kind: what is asked for.
        query: by name all values that are given.

    Raises:
        UsageError: names every parameter that there is not, and every value that does not fit.
    """
    several = {field.alias for field in kind.model_fields.values() if "tuple" in str(field.annotation)}
    values: dict[str, Any] = {}
    for name, given in query.items():
        kept = [each for each in given if each != ""]  # an empty field of a form
        if kept:
            values[name] = kept if name in several else kept[-1]
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _wrong(kind, error, "The address") from error


def read_body(kind: type[Kind], body: bytes) -> Kind:
    """The same of a request's body, JSON.

    Raises:
        UsageError: as `read`, or it is no JSON.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _wrong(kind, error, "The request") from error


def _wrong(kind: type[Asked], error: ValidationError, what: str) -> UsageError:
    wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
    known = ", ".join(str(field.alias) for field in kind.model_fields.values()) or "none"
    return UsageError(f"{what} asks for what there is not: {wrong}.", f"Its parameters are: {known}.")
