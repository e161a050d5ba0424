"""What a program asks for at one `gen`: read from SGLang's sampling parameters, refused by name where it cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rrti_sgl.errors import UsageError

_ONE_BY_ONE = "Use `fork` to draw several."
_NO_GRAMMAR = "A takeover would break the grammar between two drafts. Use `select`, or check the text in the program."
_NO_FILTER = "The two models must draw from their own distributions. Use temperature and top_p."
_IN_STORE = "Every token's log-probabilities are in the store, of both models."
_TOKENS = "Use `stop` or `stop_token_ids`."

# Sampling parameter -> (whether a value asks for nothing special, what to do instead).
_REFUSED: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "n": (lambda value: value in (None, 1), _ONE_BY_ONE),
    "min_new_tokens": (lambda value: not value, "Leave it out; a program can generate again."),
    "stop_regex": (lambda value: not value, _TOKENS),
    "top_k": (lambda value: value is None or value == -1, _NO_FILTER),
    "min_p": (lambda value: not value, _NO_FILTER),
    "frequency_penalty": (lambda value: not value, _NO_FILTER),
    "presence_penalty": (lambda value: not value, _NO_FILTER),
    "return_logprob": (lambda value: not value, _IN_STORE),
    "logprob_start_len": (lambda value: value is None or value == -1, _IN_STORE),
    "top_logprobs_num": (lambda value: not value, _IN_STORE),
    "return_text_in_logprobs": (lambda value: not value, _IN_STORE),
    "dtype": (lambda value: value is None, _NO_GRAMMAR),
    "regex": (lambda value: value is None, _NO_GRAMMAR),
    "json_schema": (lambda value: value is None, _NO_GRAMMAR),
}


@dataclass(frozen=True, slots=True)
class GenOptions:
    """How to generate.

    Args:
        max_new_tokens: most tokens.
        temperature, top_p: how both models draw.
        stop_strings: the text ends before the first of them.
        stop_token_ids: end tokens beside the models' own.
        ignore_eos: go on after the models' own end tokens.
        skip_special: leave special tokens out of the text.
    """

    max_new_tokens: int
    temperature: float
    top_p: float
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    skip_special: bool = True


def read_options(params: Any, *, skip_special: bool) -> GenOptions:
    """The options in SGLang's `SglSamplingParams`.

    Raises:
        UsageError: an option that does not go with intervention, or a value out of range; names it.
    """
    for name, (asks_for_nothing, remedy) in _REFUSED.items():
        value = getattr(params, name)
        if not asks_for_nothing(value):
            raise UsageError(f"gen({name}={value!r}) is not supported under intervention.", remedy)
    if params.max_new_tokens < 1:
        raise UsageError(f"gen(max_tokens={params.max_new_tokens!r}) leaves no token.", "Use at least 1.")
    if params.temperature < 0:
        raise UsageError(f"gen(temperature={params.temperature!r}) is below 0.", "0 is greedy.")
    if not 0 < params.top_p <= 1:
        raise UsageError(f"gen(top_p={params.top_p!r}) is outside (0, 1].", "1 keeps the whole distribution.")
    stops = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop or ())
    return GenOptions(
        max_new_tokens=int(params.max_new_tokens),
        temperature=float(params.temperature),
        top_p=float(params.top_p),
        stop_strings=tuple(stop for stop in stops if stop),
        stop_token_ids=frozenset(int(i) for i in params.stop_token_ids or ()),
        ignore_eos=bool(params.ignore_eos),
        skip_special=skip_special,
    )


def check_plain_text(executor: Any) -> None:
    """Refuse a program that shows images or videos, which `/generate` would need beside the token ids."""
    if executor.images_:
        raise UsageError("image() and video() are not supported under intervention.", "Use text alone.")
