"""The fields of a request: read strictly, and refused by name where they do not go with intervention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from rrti_sgl import bounds
from rrti_sgl.programs.api.refusals import RefusedError, of_field
from rrti_sgl.programs.values import told

MOST_CHOICES = 128
_STOPS, _STOP_LENGTH = 16, 512
_TURNS = 1024
Prompt = str | tuple[int, ...]

_BOTH_DRAW = "Both models draw from their own distributions; use temperature and top_p."
_NO_GRAMMAR = "A takeover would break a grammar; ask for the form in the prompt and check the text."
_NO_TOOLS = "Describe them in the prompt, and read the text."
# Field -> (values that ask for nothing, why not and what to do).
_REFUSED: Final[dict[str, tuple[Sequence[Any], str]]] = {
    **dict.fromkeys(("tools", "functions"), ([[]], _NO_TOOLS)),
    **dict.fromkeys(("tool_choice", "function_call"), (["none", "auto"], _NO_TOOLS)),
    "parallel_tool_calls": ([True, False], _NO_TOOLS),
    "response_format": ([{"type": "text"}], _NO_GRAMMAR),
    **dict.fromkeys(("regex", "json_schema", "ebnf", "guided_json", "guided_regex", "structural_tag"), ([], _NO_GRAMMAR)),
    "logit_bias": ([{}], _BOTH_DRAW),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), ([0], _BOTH_DRAW)),
    "repetition_penalty": ([1], _BOTH_DRAW),
    "top_k": ([-1, 0], _BOTH_DRAW),
    "min_p": ([0], _BOTH_DRAW),
    "min_tokens": ([0], "Leave it out; a client can ask again."),
    "best_of": ([1], "Ask for n choices and choose among them."),
    "echo": ([False], "The client has the prompt; `rrti score` gives log-probabilities of texts."),
    "suffix": ([""], "Put what is to be filled in at the end of the prompt."),
    "stop_token_ids": ([[]], "Use stop."),
    "ignore_eos": ([False], "Leave it out."),
    "add_generation_prompt": ([True], "The answer is the assistant's next turn."),
    "continue_final_message": (
        [False],
        "The answer is the assistant's next turn; use /v1/completions to go on with a text.",
    ),
    "chat_template": ([], "Whoever serves the endpoint names it."),
    "use_beam_search": ([False], _BOTH_DRAW),
    "length_penalty": ([1], _BOTH_DRAW),
    **dict.fromkeys(("skip_special_tokens", "spaces_between_special_tokens"), ([True], "Special tokens are no text here.")),
    "include_stop_str_in_output": ([False], "The text ends before a stop string."),
    "modalities": ([["text"]], "Text alone is read and written."),
    "audio": ([], "Text alone is read and written."),
}
_IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")


def _one_or_many(value: Any) -> Any:
    """`stop`: a text or several."""
    return [value] if isinstance(value, str) else value


def _fitting_stops(stops: list[str]) -> list[str]:
    if not all(0 < len(stop) <= _STOP_LENGTH for stop in stops):
        raise ValueError("holds an empty or very long text.", f"Give texts of 1 to {_STOP_LENGTH} characters.")
    return stops


def _read_prompts(value: Any) -> Any:
    """`prompt`: a text, token ids, or several of either."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(isinstance(part, str) for part in value):
            return tuple(value)
        if all(type(part) is int for part in value):
            return (tuple(value),)
        if all(isinstance(part, list) and part and all(type(i) is int for i in part) for part in value):
            return tuple(tuple(part) for part in value)
    raise ValueError("is no prompt.", "Give a text, a list of token ids, or a list of either; none of them empty.")


def _read_ids(value: Any) -> Any:
    """Token ids of one prompt."""
    if isinstance(value, list) and value and all(type(part) is int for part in value):
        return tuple(value)
    raise ValueError("is no prompt.", "Give a list of token ids that is not empty.")


def _read_lambda(value: Any) -> Any:
    """`lambda`: on or off, or its factor."""
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and 0 < value < math.inf):
        return value
    raise ValueError("is neither true, false nor a factor.", "Give a number above 0, or true for the calibration's.")


def _read_content(value: Any) -> Any:
    """The content of a turn: a text, or parts that are texts."""
    if isinstance(value, list) and value:
        if not all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in value
        ):
            raise ValueError("has parts that are no text.", "Text alone is read.")
        return "".join(part["text"] for part in value)
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Strict):
    """`include_usage` puts the usage into a last chunk; the others are taken where they ask for nothing."""

    include_usage: bool = False
    continuous_usage_stats: Literal[False] = False
    include_obfuscation: Literal[False] = False


class OwnSample(_Strict):
    """`rrti.sample`: one sample of a run that the client keeps. Its whole trace comes with the answer.

    The prompt is the base model's. Gate, lists and drafts are as named here, and not those of the model's name; what is
    drawn on our side is drawn by seed, problem and index, as where the client asks the servers itself.
    """

    gate: Annotated[str, Field(max_length=200)]
    gate_params: dict[str, Any] = {}
    reasoning_prompt: Annotated[tuple[int, ...], BeforeValidator(_read_ids)]
    k: Annotated[int, Field(ge=1, le=bounds.COUNT)]
    draft_tokens: Annotated[int, Field(ge=1, le=bounds.COUNT)]
    paced: bool = False
    takeover_tokens: Annotated[int, Field(ge=1, le=bounds.COUNT)] = 1
    problem_id: Annotated[str, Field(max_length=200)]
    sample_index: Annotated[int, Field(ge=0, le=bounds.WHOLE)] = 0


class Steering(_Strict):
    """`rrti`: threshold, lambda condition (its factor, or on or off), and whether the trace is stored; or a sample."""

    tau: Annotated[float, Field(allow_inf_nan=False)] | None = None
    lambda_: Annotated[Any, BeforeValidator(_read_lambda), Field(alias="lambda")] = None
    trace: bool | None = None
    sample: OwnSample | None = None

    @model_validator(mode="after")
    def _one_gate(self) -> Self:
        if self.sample is not None and (self.tau is not None or self.lambda_ is not None or self.trace):
            raise ValueError("has a gate beside that of its sample, or is to be stored.", "Leave out all but sample.")
        return self


class Turn(_Strict):
    """One message of a chat. What answers name and leave empty is taken: a client sends them back as they were."""

    role: Annotated[str, Field(max_length=20)]
    content: Annotated[str, BeforeValidator(_read_content)]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None and value != []}


class Request(_Strict):
    """What completions and chats have in common; what is not given is the endpoint's to choose."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    max_tokens: Annotated[int, Field(ge=1, le=bounds.COUNT)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stop: Annotated[list[str], Field(max_length=_STOPS), BeforeValidator(_one_or_many), AfterValidator(_fitting_stops)] = []
    seed: Annotated[int, Field(ge=-bounds.WHOLE, le=bounds.WHOLE)] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    rrti: Steering = Steering()

    @property
    def limit_field(self) -> str:
        """The field that says how long an answer may be."""
        return "max_tokens"

    @property
    def limit(self) -> int | None:
        """Most tokens of an answer; None where the client does not say."""
        value: int | None = getattr(self, self.limit_field)
        return value

    @property
    def top_logprobs_wanted(self) -> int | None:
        """How many most probable tokens go with each token's log-probability; None where none is wanted."""
        return None


class CompletionRequest(Request):
    """Of /v1/completions."""

    prompt: Annotated[tuple[Prompt, ...], BeforeValidator(_read_prompts), Field(max_length=2048)]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _plain_sample(self) -> Self:
        """A sample of the client's own run is one of a prompt of ids, whole."""
        if self.rrti.sample is not None:
            ids = len(self.prompt) == 1 and not isinstance(self.prompt[0], str)
            if not ids or self.n > 1 or self.stop or self.stream or self.logprobs is not None or self.max_tokens is None:
                raise ValueError(
                    "rrti.sample is one sample of a prompt of token ids, whole, of max_tokens tokens.",
                    "Leave out n, stop, stream and logprobs.",
                )
        return self

    @property
    def top_logprobs_wanted(self) -> int | None:
        """See `Request`."""
        return self.logprobs


class ChatOptions(_Strict):
    """`chat_template_kwargs`, of which there is one: whether the reasoning model thinks, where its template knows that."""

    enable_thinking: bool | None = None


class ChatRequest(Request):
    """Of /v1/chat/completions."""

    messages: Annotated[list[Turn], Field(min_length=1, max_length=_TURNS)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=bounds.COUNT)] | None = None
    chat_template_kwargs: ChatOptions = ChatOptions()
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def limit_field(self) -> str:
        """See `Request`."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def top_logprobs_wanted(self) -> int | None:
        """See `Request`."""
        return (self.top_logprobs or 0) if self.logprobs else None


Kind = TypeVar("Kind", bound=Request)
_TABLES: Final[dict[str, type[BaseModel]]] = {
    "rrti": Steering, "sample": OwnSample, "stream_options": StreamOptions, "messages": Turn,
    "chat_template_kwargs": ChatOptions,
}  # fmt: skip


def read(body: bytes, kind: type[Kind]) -> Kind:
    """The request in a body.

    Raises:
        RefusedError: it is no JSON object, has a field that does not go with intervention or is unknown, or a value that
            does not fit; names it.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RefusedError(f"The body is no JSON: {str(error)[:100]}.", code="invalid_json") from error
    if not isinstance(values, dict):
        raise RefusedError("The body is no JSON object.", code="invalid_json")
    given = {name: value for name, value in values.items() if value is not None and name not in _IGNORED}
    for name in _REFUSED.keys() & given.keys():
        harmless, remedy = _REFUSED[name]
        value = given.pop(name)
        if value not in harmless:
            raise RefusedError(f"{name} does not go with intervention. {remedy}", param=name, code="unsupported_parameter")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise _refusal(error, kind) from error


def _refusal(error: ValidationError, kind: type[Request]) -> RefusedError:
    fault = error.errors()[0]
    place = fault["loc"]
    name = ".".join(str(part) for part in place if isinstance(part, int) or str(part).isidentifier())
    model: type[BaseModel] = kind
    for part in place[:-1]:  # the table that the field is in
        model = _TABLES.get(str(part), model)
    known = model.model_fields
    wrong, remedy = told(fault, ["lambda" if field == "lambda_" else field for field in known])
    return of_field(name, f"{wrong} {remedy}".strip())
